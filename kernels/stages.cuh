// What products are made of: operands that come to shared memory stage by stage, and a thread's
// part of C, ROWS x COLUMNS sums in registers. THREADS is the size of a block.
#pragma once

#include "copy.cuh"

// Terms of a stage.
#ifndef DEPTH
#define DEPTH 16
#endif

// Threads of a warp form WARP_ROWS lines of WARP_COLUMNS. Those that differ in bit 0 read the same
// of A, in bit 1 the same of B: then a warp's loads of 16 bytes take two turns, not four.
#define WARP_ROWS 8
#define WARP_COLUMNS 4
__device__ inline int lane_row() { return threadIdx.x % 32 / 8 * 2 + threadIdx.x / 2 % 2; }
__device__ inline int lane_column() { return threadIdx.x / 4 % 2 * 2 + threadIdx.x % 2; }

// An operand x(i, k), i < count: x(i, 0), x(i, 1), ... lie side by side.
struct Rows {
    static constexpr bool terms_adjacent = true;
    const real* data;
    int64 count, step;
    __device__ int64 at(int64 i, int64 k) const { return i * step + k; }
};

// An operand x(i, k), i < count: x(0, k), x(1, k), ... lie side by side.
struct Columns {
    static constexpr bool terms_adjacent = false;
    const real* data;
    int64 count, step;
    __device__ int64 at(int64 i, int64 k) const { return k * step + i; }
};

// DEPTH terms of SIZE elements of an operand; the elements of one term lie side by side, and what
// a warp writes at once, 8 terms of some elements, is in banks of their own.
template <int SIZE>
struct Stage {
    static constexpr int PITCH = SIZE + CHUNK;
    alignas(16) real v[DEPTH][PITCH];
};

// Which reals of a stage a thread copies, WIDTH at a time: those of copy q are `elements(q)`
// elements and `terms(q)` terms away from its first ones.
template <class Operand, int SIZE, int WIDTH>
struct Copies {
    static constexpr bool adjacent = Operand::terms_adjacent;
    static_assert(!adjacent || WIDTH == 1, "terms side by side are copied one by one");
    static constexpr int COUNT = SIZE * DEPTH / WIDTH / THREADS;
    // A warp reads 8 terms, 32 bytes or more, of a few elements, or all elements of a term.
    static constexpr int ACROSS = adjacent ? 8 : SIZE / WIDTH, DOWN = THREADS / ACROSS;
    static constexpr int TURNS = DEPTH / 8;

    __device__ static int element() {
        return adjacent ? int(threadIdx.x) / ACROSS : int(threadIdx.x) % ACROSS * WIDTH;
    }
    __device__ static int term() {
        return adjacent ? int(threadIdx.x) % ACROSS : int(threadIdx.x) / ACROSS;
    }
    __device__ static int elements(int q) { return adjacent ? q / TURNS * DOWN : 0; }
    __device__ static int terms(int q) { return adjacent ? q % TURNS * ACROSS : q * DOWN; }
};

// SIZE elements of an operand from the first one on, which come stage by stage.
template <class Operand, int SIZE>
struct Feed {
    static constexpr int WIDTH = Operand::terms_adjacent ? 1 : CHUNK;
    const Operand x;
    const int64 first, K;
    // All elements are there, and a copy takes as much as it can.
    const bool whole;
    const real* next;

    __device__ Feed(const Operand& x, int64 first, int64 K)
        : x(x), first(first), K(K), whole(first + SIZE <= x.count && in_chunks(x)) {
        using Copy = Copies<Operand, SIZE, WIDTH>;
        next = x.data + x.at(first + Copy::element(), Copy::term());
    }

    __device__ static bool in_chunks(const Operand& x) {
        return WIDTH == 1 || (is_aligned(x.data) && x.step % WIDTH == 0);
    }

    // Terms k, k + 1, ...; beyond the last one, `padding`.
    __device__ void fill(Stage<SIZE>& stage, int64 k, real padding) {
        if (whole && k + DEPTH <= K)
            fill_whole(stage);
        else
            fill_part(stage, k, padding);
        next += x.at(0, DEPTH);
    }

    __device__ void fill_whole(Stage<SIZE>& stage) {
        using Copy = Copies<Operand, SIZE, WIDTH>;
        real* there = &stage.v[Copy::term()][Copy::element()];
#pragma unroll
        for (int q = 0; q < Copy::COUNT; ++q)
            copy_async<WIDTH>(there + Copy::terms(q) * stage.PITCH + Copy::elements(q),
                              next + x.at(Copy::elements(q), Copy::terms(q)));
    }

    __device__ void fill_part(Stage<SIZE>& stage, int64 k, real padding) {
        using Copy = Copies<Operand, SIZE, 1>;
#pragma unroll 1
        for (int q = 0; q < Copy::COUNT; ++q) {
            const int element = Copy::element() + Copy::elements(q);
            const int term = Copy::term() + Copy::terms(q);
            if (k + term >= K)
                stage.v[term][element] = padding;
            else if (first + element < x.count)
                copy_async<1>(&stage.v[term][element], x.data + x.at(first + element, k + term));
        }
    }
};

// Where a thread's elements are, of the warp's rows or columns: chunk by chunk, so that threads
// side by side read chunks side by side.
template <int LANES>
__device__ inline int place(int lane, int q) {
    return q / CHUNK * (LANES * CHUNK) + lane * CHUNK + q % CHUNK;
}

// A thread's N elements of one term, the first of which is at p.
template <int LANES, int N>
__device__ inline void load(real (&x)[N], const real* p) {
#pragma unroll
    for (int q = 0; q < N; q += CHUNK) {
        const Chunk chunk = *reinterpret_cast<const Chunk*>(p + place<LANES>(0, q));
#pragma unroll
        for (int g = 0; g < CHUNK; ++g) x[q + g] = chunk.v[g];
    }
}

struct Sums {
    real v[ROWS][COLUMNS];
};

__device__ inline void add_to(Sums& x, const Sums& y) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) x.v[r][c] = x.v[r][c] + y.v[r][c];
}

// sums(r, c) <- fma(x_r, y_c, sums(r, c))
__device__ inline void multiply(Sums& sums, const real (&x)[ROWS], const real (&y)[COLUMNS]) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) sums.v[r][c] = fma_rn(x[r], y[c], sums.v[r][c]);
}
