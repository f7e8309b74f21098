// Moves of 16 bytes, and copies from device memory to shared memory that go on by themselves.
#pragma once

// Reals of 16 bytes: the most that one instruction moves.
#define CHUNK int(16 / sizeof(real))

// WIDTH reals, 1 or CHUNK, that are moved at once.
template <int WIDTH>
struct alignas(WIDTH * sizeof(real)) Pack {
    static constexpr int width = WIDTH;
    real v[WIDTH];
};
typedef Pack<CHUNK> Chunk;

template <int WIDTH>
__device__ inline Pack<WIDTH>& pack(real* p) {
    return *reinterpret_cast<Pack<WIDTH>*>(p);
}
template <int WIDTH>
__device__ inline const Pack<WIDTH>& pack(const real* p) {
    return *reinterpret_cast<const Pack<WIDTH>*>(p);
}

__device__ inline bool is_aligned(const real* p) { return reinterpret_cast<uint64>(p) % 16 == 0; }

// The first `count` reals of a chunk at p; the others are 0.
__device__ inline Chunk read(const real* p, int count) {
    if (count == CHUNK && is_aligned(p)) return *reinterpret_cast<const Chunk*>(p);
    Chunk x = {};
#pragma unroll
    for (int q = 0; q < CHUNK; ++q)
        if (q < count) x.v[q] = p[q];
    return x;
}

// The first `count` reals of x become those at p.
__device__ inline void write(real* p, const Chunk& x, int count) {
    if (count == CHUNK && is_aligned(p)) {
        *reinterpret_cast<Chunk*>(p) = x;
        return;
    }
#pragma unroll
    for (int q = 0; q < CHUNK; ++q)
        if (q < count) p[q] = x.v[q];
}

// The shared memory that a launch asks for.
#if defined(HOST)
__device__ inline real* dynamic_shared() { return static_cast<real*>(deltaprop::shared_memory()); }
#else
__device__ inline real* dynamic_shared() {
    extern __shared__ Chunk memory[];
    return memory->v;
}
#endif

// copy_async<N> starts a copy of N reals, one or a chunk. wait_for_copies returns when all those
// that this thread has started are there. Before sm_80 a copy is there when it is started.
#if defined(HOST)
template <int N>
__device__ inline void copy_async(real* shared, const real* global) {
    deltaprop::start_copy(shared, global, N * sizeof(real));
}
__device__ inline void wait_for_copies() { deltaprop::finish_copies(); }
#elif __CUDA_ARCH__ >= 800
template <int N>
__device__ inline void copy_async(real* shared, const real* global) {
    const unsigned there = unsigned(__cvta_generic_to_shared(shared));
    constexpr int bytes = N * sizeof(real);
    if (bytes == 16)  // past the first cache
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(there), "l"(global));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(there), "l"(global),
                     "n"(bytes));
}
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#else
template <int N>
__device__ inline void copy_async(real* shared, const real* global) {
    if (N == CHUNK)
        *reinterpret_cast<Chunk*>(shared) = *reinterpret_cast<const Chunk*>(global);
    else
        *shared = *global;
}
__device__ inline void wait_for_copies() {}
#endif
