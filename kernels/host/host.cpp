// Runs the threads of a block as fibers of one CPU thread.
//
// A fiber takes thread after thread and runs each to its end; only one that comes to a barrier
// is put aside, and another fiber goes on with the threads not yet begun. When every thread has
// ended or waits, the waiting ones go on: that is the barrier. The order in which threads begin
// and go on is `forward`, `backward` or `random` (set_order): a kernel that lacks a barrier
// gives other results in one of them.
#include "host.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr std::size_t STACK = 256 << 10;

struct Context {
    ucontext_t registers;
    const void* stack = nullptr;
    std::size_t size = 0;
};

struct Copy {
    void* to;
    const void* from;
    int bytes;
};

struct alignas(16) Aligned {
    unsigned char bytes[16];
};

struct Fiber : Context {
    std::unique_ptr<char[]> memory{new char[STACK]};
    unsigned thread = 0;  // the one it runs or holds at a barrier
    std::vector<Copy> copies;  // started, not waited for
};

enum class Order { forward, backward, random };

Order order = Order::forward;
std::mt19937 random_bits;

Context scheduler;
Fiber* running = nullptr;
std::vector<std::unique_ptr<Fiber>> idle, waiting;
std::vector<unsigned> threads;  // of the block, in the order they begin
std::size_t begun, ended;
std::vector<Aligned> shared;  // what the launch asked for, and no more
void (*body)(void**);
void** arguments;

// Tells AddressSanitizer which stack is in use; without it, a plain switch.
void switch_to(Context& from, Context& to) {
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.size);
    swapcontext(&from.registers, &to.registers);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#else
    swapcontext(&from.registers, &to.registers);
#endif
}

void run_as(unsigned thread) {
    const unsigned x = blockDim.x, y = blockDim.y;
    threadIdx = {thread % x, thread / x % y, thread / (x * y)};
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack, &scheduler.size);
#endif
    for (;;) {
        while (begun < threads.size()) {
            running->thread = threads[begun++];
            run_as(running->thread);
            body(arguments);
            running->copies.clear();
            ++ended;
        }
        idle.emplace_back(running);
        switch_to(*running, scheduler);
    }
}

void resume(std::unique_ptr<Fiber> fiber) {
    running = fiber.release();  // it lands in `waiting` or `idle` when it comes back
    run_as(running->thread);
    switch_to(scheduler, *running);
}

std::unique_ptr<Fiber> free_fiber() {
    if (!idle.empty()) {
        auto fiber = std::move(idle.back());
        idle.pop_back();
        return fiber;
    }
    auto fiber = std::make_unique<Fiber>();
    fiber->stack = fiber->memory.get();
    fiber->size = STACK;
    getcontext(&fiber->registers);
    fiber->registers.uc_stack.ss_sp = fiber->memory.get();
    fiber->registers.uc_stack.ss_size = STACK;
    fiber->registers.uc_link = nullptr;
    makecontext(&fiber->registers, fiber_main, 0);
    return fiber;
}

template <class T>
void arrange(std::vector<T>& things) {
    if (order == Order::backward) std::reverse(things.begin(), things.end());
    if (order == Order::random) std::shuffle(things.begin(), things.end(), random_bits);
}

int run_block() {
    for (std::size_t i = 0; i < threads.size(); ++i) threads[i] = unsigned(i);
    arrange(threads);
    begun = ended = 0;
    while (begun < threads.size()) resume(free_fiber());
    while (ended < threads.size()) {
        if (ended != 0) return 1;
        auto held = std::move(waiting);
        waiting.clear();
        std::sort(held.begin(), held.end(),
                  [](const auto& p, const auto& q) { return p->thread < q->thread; });
        arrange(held);
        for (auto& fiber : held) resume(std::move(fiber));
    }
    return 0;
}

}  // namespace

void __syncthreads() {
    Fiber* self = running;
    waiting.emplace_back(self);
    switch_to(*self, scheduler);
}

namespace deltaprop {

void start_copy(void* shared, const void* global, int bytes) {
    running->copies.push_back({shared, global, bytes});
}

void finish_copies() {
    for (const Copy& copy : running->copies) std::memcpy(copy.to, copy.from, copy.bytes);
    running->copies.clear();
}

void* shared_memory() { return shared.data(); }

int launch(const unsigned* grid, const unsigned* block, unsigned bytes, void (*thread)(void**),
           void** args) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    body = thread;
    arguments = args;
    Aligned ones;
    std::memset(&ones, 0xff, sizeof ones);
    threads.assign(std::size_t(block[0]) * block[1] * block[2], 0);
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                blockIdx = {x, y, z};
                shared = std::vector<Aligned>(bytes / sizeof(Aligned), ones);
                if (run_block()) {
                    waiting.clear();
                    return 1;
                }
            }
    return 0;
}

}  // namespace deltaprop

extern "C" void set_order(int value, std::uint32_t seed) {
    order = Order(value);
    random_bits.seed(seed);
}
