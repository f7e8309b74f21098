// C(i, j) = sum over k of A(i, k) B(j, k), in the specification's order: leaves of LEAF terms,
// each one fma chain from +0 in ascending k, and the tree.
//
// A block computes BLOCK_ROWS x BLOCK_COLUMNS elements of C, a thread ROWS x COLUMNS of them, in
// registers. DEPTH terms at a time, a stage, lie in shared memory; while one is computed, the next
// is on its way there. What waits for the tree is in the thread's local memory.
#pragma once

#include "copy.cuh"
#include "tree.cuh"

#define DEPTH 16
#define WARP_ROWS 8
#define WARP_COLUMNS 4
#define WARPS_DOWN (BLOCK_ROWS / (WARP_ROWS * ROWS))
#define WARPS_ACROSS (BLOCK_COLUMNS / (WARP_COLUMNS * COLUMNS))
#define GEMM_THREADS (32 * WARPS_DOWN * WARPS_ACROSS)

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

// Which reals of a stage a thread copies, WIDTH at a time: those of copy q are `rows(q)` elements
// and `terms(q)` terms away from its first ones.
template <class Operand, int SIZE, int WIDTH>
struct Copies {
    static constexpr bool adjacent = Operand::terms_adjacent;
    static_assert(!adjacent || WIDTH == 1, "terms side by side are copied one by one");
    static constexpr int COUNT = SIZE * DEPTH / WIDTH / GEMM_THREADS;
    // A warp reads 8 terms, 32 bytes or more, of a few elements, or all elements of a term.
    static constexpr int ACROSS = adjacent ? 8 : SIZE / WIDTH, DOWN = GEMM_THREADS / ACROSS;
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
        : x(x), first(first), K(K),
          whole(first + SIZE <= x.count && (WIDTH == 1 || (is_aligned(x.data) && x.step % WIDTH == 0))) {
        using Copy = Copies<Operand, SIZE, WIDTH>;
        next = x.data + x.at(first + Copy::element(), Copy::term());
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

// out(i, j, x, count): C(i, j), ..., C(i, j + count - 1) are the first reals of the chunk x.
template <int LEAF, class A, class B, class Out>
__device__ void ordered_gemm(const A& a, const B& b, int64 K, Out out) {
    static_assert(LEAF % DEPTH == 0, "a leaf is a whole number of stages");
    __shared__ Stage<BLOCK_ROWS> As[2];
    __shared__ Stage<BLOCK_COLUMNS> Bs[2];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Lanes that differ in bit 0 read the same of A, in bit 1 the same of B: then a warp's loads
    // of 16 bytes take two turns, not four.
    const int row = lane / 8 * 2 + lane / 2 % 2, column = lane / 4 % 2 * 2 + lane % 2;
    const int i_in = warp % WARPS_DOWN * (WARP_ROWS * ROWS) + place<WARP_ROWS>(row, 0);
    const int j_in = warp / WARPS_DOWN * (WARP_COLUMNS * COLUMNS) + place<WARP_COLUMNS>(column, 0);
    const int64 i0 = int64(blockIdx.x) * BLOCK_ROWS, j0 = int64(blockIdx.y) * BLOCK_COLUMNS;
    Feed<A, BLOCK_ROWS> feed_a(a, i0, K);
    Feed<B, BLOCK_COLUMNS> feed_b(b, j0, K);

    // (-0)(+0) = -0, and adding -0 changes no number: so chains go on beyond K.
    feed_a.fill(As[0], 0, real(-0.0));
    feed_b.fill(Bs[0], 0, real(0));
    Sums sums = {};
    Tree<Sums> tree;
    int now = 0;
    for (int64 k = 0; k < K; k += DEPTH, now ^= 1) {
        wait_for_copies();
        __syncthreads();  // the stage is there, and nobody reads the one before it any more
        const int64 next = k + DEPTH;
        if (next < K) {
            feed_a.fill(As[now ^ 1], next, real(-0.0));
            feed_b.fill(Bs[now ^ 1], next, real(0));
        }
        const real *x_at = &As[now].v[0][i_in], *y_at = &Bs[now].v[0][j_in];
#pragma unroll 8  // as much as an instruction cache of 12 KB holds
        for (int term = 0; term < DEPTH; ++term) {
            real x[ROWS], y[COLUMNS];
            load<WARP_ROWS>(x, x_at + term * As[0].PITCH);
            load<WARP_COLUMNS>(y, y_at + term * Bs[0].PITCH);
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
#pragma unroll
                for (int c = 0; c < COLUMNS; ++c) sums.v[r][c] = fma_rn(x[r], y[c], sums.v[r][c]);
        }
        if (next < K && next % LEAF == 0) {
            tree.push(sums);
            sums = {};
        }
    }
    tree.close(sums);

#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int64 i = i0 + i_in + place<WARP_ROWS>(0, r);
#pragma unroll
        for (int c = 0; c < COLUMNS; c += CHUNK) {
            const int64 j = j0 + j_in + place<WARP_COLUMNS>(0, c);
            Chunk x;
#pragma unroll
            for (int q = 0; q < CHUNK; ++q) x.v[q] = sums.v[r][c + q];
            if (i < a.count && j < b.count)
                out(i, j, x, b.count - j < CHUNK ? int(b.count - j) : CHUNK);
        }
    }
}
