// C(i, j) = sum over k of A(i, k) B(j, k), in the specification's order: leaves of LEAF terms,
// each one fma chain from +0 in ascending k, and the tree.
//
// A block computes BLOCK_ROWS x BLOCK_COLUMNS elements of C, a thread ROWS x COLUMNS of them, in
// registers. DEPTH terms at a time, a stage, lie in shared memory; while one is computed, the next
// is on its way there. What waits for the tree is in the thread's local memory.
#pragma once

#define THREADS (32 * WARPS_DOWN * WARPS_ACROSS)
#define WARPS_DOWN (BLOCK_ROWS / (WARP_ROWS * ROWS))
#define WARPS_ACROSS (BLOCK_COLUMNS / (WARP_COLUMNS * COLUMNS))

// Terms at a time: as many as an instruction cache of 12 KB holds.
#define UNROLLED (ROWS * COLUMNS > 64 ? 512 / (ROWS * COLUMNS) : 8)

#include "stages.cuh"
#include "tree.cuh"

// out(i, j, x, count): C(i, j), ..., C(i, j + count - 1) are the first reals of the chunk x.
template <int LEAF, class A, class B, class Out>
__device__ void ordered_gemm(const A& a, const B& b, int64 K, Out out) {
    static_assert(LEAF % DEPTH == 0, "a leaf is a whole number of stages");
    __shared__ Stage<BLOCK_ROWS> As[2];
    __shared__ Stage<BLOCK_COLUMNS> Bs[2];
    const int warp = threadIdx.x / 32;
    const int i_in = warp % WARPS_DOWN * (WARP_ROWS * ROWS) + place<WARP_ROWS>(lane_row(), 0);
    const int j_in =
        warp / WARPS_DOWN * (WARP_COLUMNS * COLUMNS) + place<WARP_COLUMNS>(lane_column(), 0);
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
#pragma unroll UNROLLED
        for (int term = 0; term < DEPTH; ++term) {
            real x[ROWS], y[COLUMNS];
            load<WARP_ROWS>(x, x_at + term * As[0].PITCH);
            load<WARP_COLUMNS>(y, y_at + term * Bs[0].PITCH);
            multiply(sums, x, y);
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
