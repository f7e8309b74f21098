// Every element of arrays, in as many rounds as the grid needs.
#pragma once

#include "copy.cuh"

// body(row, column) for every element of a matrix (n, m), in a grid and blocks of two dimensions.
template <class Body>
__device__ inline void for_each(int64 n, int64 m, Body body) {
    const int64 across = int64(gridDim.x) * blockDim.x, down = int64(gridDim.y) * blockDim.y;
#pragma unroll 1
    for (int64 row = int64(blockIdx.y) * blockDim.y + threadIdx.y; row < n; row += down)
#pragma unroll 1
        for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x; i < m; i += across)
            body(row, i);
}

// Packs of each array that a thread has on their way at once.
#define AHEAD 2

// Of a part of an array, what a thread takes: packs of neighbours lie side by side.
template <int WIDTH>
struct Taken {
    Pack<WIDTH> packs[AHEAD];

    __device__ static int64 place(int q) { return (q * int64(blockDim.x) + threadIdx.x) * WIDTH; }

    __device__ Taken(const real* part, int64 count) {
#pragma unroll
        for (int q = 0; q < AHEAD; ++q)
            if (place(q) < count) packs[q] = pack<WIDTH>(part + place(q));
    }
};

template <int WIDTH, class F, class... X>
__device__ inline void put(real* part, int64 count, F f, const X&... x) {
#pragma unroll
    for (int q = 0; q < AHEAD; ++q)
        if (Taken<WIDTH>::place(q) < count) {
            Pack<WIDTH> y;
#pragma unroll
            for (int r = 0; r < WIDTH; ++r) y.v[r] = f(x.packs[q].v[r]...);
            pack<WIDTH>(part + Taken<WIDTH>::place(q)) = y;
        }
}

template <int WIDTH, class F, class... X>
__device__ inline void map_packs(int64 first, int64 end, real* y, F f, const X*... x) {
    const int64 part = int64(blockDim.x) * AHEAD * WIDTH;
#pragma unroll 1
    for (int64 i = first + blockIdx.x * part; i < end; i += gridDim.x * part)
        put<WIDTH>(y + i, end - i, f, Taken<WIDTH>(x + i, end - i)...);
}

// y_i = f(x_i, ...) for i < n; y may be one of x. In chunks, where all arrays are aligned.
template <class F, class... X>
__device__ inline void map(int64 n, real* y, F f, const X*... x) {
    const bool aligned = is_aligned(y) && (is_aligned(x) && ...);
    const int64 chunks = aligned ? n / CHUNK * CHUNK : 0;
    map_packs<CHUNK>(0, chunks, y, f, x...);
    map_packs<1>(chunks, n, y, f, x...);
}
