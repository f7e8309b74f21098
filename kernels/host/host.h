// What a CUDA kernel finds around it when g++ compiles it for the CPU: a thread is a fiber, so
// blocks, shared memory and __syncthreads work. One launch runs at a time.
#pragma once

#define HOST

// No header of the system is read: that would take longer than to compile a kernel.
extern "C" {
float fabsf(float) noexcept;
double fabs(double) noexcept;
float copysignf(float, float) noexcept;
double copysign(double, double) noexcept;
float rintf(float) noexcept;
double rint(double) noexcept;
}

struct dim3 {
    unsigned x, y, z;
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads();

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

inline float __fmaf_rn(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline double __fma_rn(double x, double y, double z) { return __builtin_fma(x, y, z); }
inline float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
inline double __dsqrt_rn(double x) { return __builtin_sqrt(x); }

template <class To, class From>
inline To same_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To y;
    __builtin_memcpy(&y, &x, sizeof y);
    return y;
}
inline int __float_as_int(float x) { return same_bits<int>(x); }
inline float __int_as_float(int x) { return same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return same_bits<double>(x); }

namespace deltaprop {

// A copy to shared memory is made when its thread waits for it, and not before: what is read too
// early is seen.
void start_copy(void* shared, const void* global, int bytes);
void finish_copies();

// As many bytes as the launch asked for, at first all ones: reals are NaN.
void* shared_memory();

// 0, or 1 where threads of a block ended while others waited at a barrier.
int launch(const unsigned* grid, const unsigned* block, unsigned shared, void (*thread)(void**),
           void** args);

// A kernel as a function of pointers to its arguments, as cuLaunchKernel takes them.
template <auto kernel>
struct Thread;
template <class... A, void (*kernel)(A...)>
struct Thread<kernel> {
    explicit Thread(A... args) { kernel(args...); }
    static void run(void** args) { Thread{*static_cast<A*>(*args++)...}; }  // braces: in order
};

}  // namespace deltaprop

#define HOST_ENTRY(kernel)                                                                       \
    extern "C" int launch_kernel(                                                                \
        const unsigned* grid, const unsigned* block, unsigned shared, void** args) {             \
        return deltaprop::launch(grid, block, shared, deltaprop::Thread<kernel>::run, args);     \
    }
