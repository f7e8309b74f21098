// C(i, j) = sum over k of A(i, k) B(k, j), in the specification's order: leaves of LEAF terms,
// each one fma chain from +0 in ascending k, and the tree.
//
// A block of 8 x 8 threads computes TILE x TILE elements, a thread 4 x 4 of them; DEPTH terms at
// a time pass through shared memory. What lies outside A or B is filled with 0 and never used:
// a chain ends at K, and elements outside C are not stored.
#pragma once

#include "tree.cuh"

#define TILE 32
#define DEPTH 16
#define SIDE 4
#define THREADS ((TILE / SIDE) * (TILE / SIDE))

struct Square {
    real v[SIDE][SIDE];
};

__device__ inline void add_to(Square& x, const Square& y) {
    for (int r = 0; r < SIDE; ++r)
        for (int c = 0; c < SIDE; ++c) x.v[r][c] = x.v[r][c] + y.v[r][c];
}

template <int LEAF, class LoadA, class LoadB, class Store>
__device__ void ordered_gemm(int64 M, int64 N, int64 K, LoadA A, LoadB B, Store store) {
    static_assert(LEAF % DEPTH == 0, "a leaf is a whole number of stages");
    __shared__ real As[DEPTH][TILE + 1], Bs[DEPTH][TILE + 1];
    const int t = threadIdx.x, row = t / (TILE / SIDE), column = t % (TILE / SIDE);
    const int64 i0 = int64(blockIdx.x) * TILE, j0 = int64(blockIdx.y) * TILE;

    Tree<Square> tree;
    for (int64 leaf = 0; leaf < K; leaf += LEAF) {
        const int64 end = leaf + LEAF < K ? leaf + LEAF : K;
        Square sum = {};
        for (int64 k0 = leaf; k0 < end; k0 += DEPTH) {
            for (int q = t; q < TILE * DEPTH; q += THREADS) {
                const int x = q / DEPTH, k = q % DEPTH;
                As[k][x] = i0 + x < M && k0 + k < end ? A(i0 + x, k0 + k) : real(0);
                Bs[k][x] = j0 + x < N && k0 + k < end ? B(k0 + k, j0 + x) : real(0);
            }
            __syncthreads();
            const int terms = end - k0 < DEPTH ? int(end - k0) : DEPTH;
            for (int k = 0; k < terms; ++k)
                for (int r = 0; r < SIDE; ++r)
                    for (int c = 0; c < SIDE; ++c)
                        sum.v[r][c] = fma_rn(
                            As[k][row * SIDE + r], Bs[k][column * SIDE + c], sum.v[r][c]);
            __syncthreads();
        }
        tree.push(sum);
    }

    const Square& total = tree.root();
    for (int r = 0; r < SIDE; ++r)
        for (int c = 0; c < SIDE; ++c) {
            const int64 i = i0 + row * SIDE + r, j = j0 + column * SIDE + c;
            if (i < M && j < N) store(i, j, total.v[r][c]);
        }
}
