// y_ij = f(i, x_ij, ...), and the sums of its columns over slices of `terms` samples, whole leaves:
// leaves of LEAF_SAMPLES plain additions, tree.
//
// A block takes a leaf of up to COLUMNS columns at a time, or `leaves` leaves, a power of two, of a
// matrix as narrow as that: it makes y, in memory and in shared memory, all its threads along lines
// of reals that lie in one piece, and then a thread sums a column of a leaf.
#pragma once

#include "copy.cuh"
#include "tree.cuh"

#define THREADS 256
#define COLUMNS 64

// A block's columns of a matrix with n of them. A line is a row, or a whole leaf where rows lie in
// one piece; `lanes` threads go along it. Lines in shared memory are `pitch` reals apart, so that
// threads that sum leaves side by side read from banks of their own.
struct Lines {
    const int64 n, column;
    const int columns, rows, pitch, lanes;

    __device__ Lines(int64 n, int leaves)
        : n(n),
          column(int64(blockIdx.x) * COLUMNS),
          columns(n - column < COLUMNS ? int(n - column) : COLUMNS),
          rows(n <= COLUMNS ? LEAF_SAMPLES : 1),
          pitch(rows * columns + CHUNK),
          lanes(n <= COLUMNS ? int(blockDim.x) / leaves : COLUMNS / CHUNK) {}
};

template <int WIDTH, class F, class... P>
__device__ inline Pack<WIDTH> made(F f, const P&... x) {
    Pack<WIDTH> y;
#pragma unroll
    for (int r = 0; r < WIDTH; ++r) y.v[r] = f(r, x.v[r]...);
    return y;
}

// y of some samples from the first one on, to memory, where y is not null, and to the tile.
template <int WIDTH, class F, class... X>
__device__ inline void make(const Lines& lines, int64 first, int samples, real* tile, real* y, F f,
                            const X*... x) {
    const int lane = int(threadIdx.x) % lines.lanes * WIDTH, threads = blockDim.x;
#pragma unroll 1
    for (int line = int(threadIdx.x) / lines.lanes; line * lines.rows < samples;
         line += threads / lines.lanes) {
        const int left = samples - line * lines.rows;
        const int length = (left < lines.rows ? left : lines.rows) * lines.columns;
        const int64 sample = first + line * lines.rows, at = sample * lines.n + lines.column;
#pragma unroll 1
        for (int k = lane; k < length; k += lines.lanes * WIDTH) {
            const auto z = made<WIDTH>(
                [&](int r, auto... v) { return f(sample + (k + r) / lines.columns, v...); },
                pack<WIDTH>(x + at + k)...);
            if (y) pack<WIDTH>(y + at + k) = z;
            pack<WIDTH>(tile + line * lines.pitch + k) = z;
        }
    }
}

// nodes (slices, n), a block for each slice and some columns; y and nodes may be null.
template <class F, class... X>
__device__ inline void column_sums(real* y, real* nodes, int64 m, int64 n, int leaves, int64 terms,
                                   F f, const X*... x) {
    __shared__ Chunk memory[LEAF_SAMPLES * (COLUMNS / CHUNK + 1)];
    __shared__ real sums[COLUMNS];
    real* tile = memory->v;
    const Lines lines(n, leaves);
    const int leaf = int(threadIdx.x) / lines.columns, j = int(threadIdx.x) % lines.columns;
    const int step = lines.rows == 1 ? lines.pitch : lines.columns;
    const bool aligned = is_aligned(y) && (is_aligned(x) && ...);
    const int64 begin = blockIdx.y * terms, end = begin + terms < m ? begin + terms : m;

    Tree<real> tree;
    for (int64 first = begin; first < end; first += leaves * LEAF_SAMPLES) {
        const int64 left = end - first;
        const int samples = left < leaves * LEAF_SAMPLES ? int(left) : leaves * LEAF_SAMPLES;
        if (aligned && (lines.rows == 1 ? n : samples * n) % CHUNK == 0)
            make<CHUNK>(lines, first, samples, tile, y, f, x...);
        else
            make<1>(lines, first, samples, tile, y, f, x...);
        if (!nodes) continue;
        __syncthreads();
        const int rest = samples - leaf * LEAF_SAMPLES;
        const int terms_here = rest < LEAF_SAMPLES ? rest : LEAF_SAMPLES;
        if (leaf < leaves && rest > 0) {
            const real* column = tile + leaf * lines.pitch + j;
            real s = 0;
#pragma unroll 8
            for (int i = 0; i < terms_here; ++i) s = s + column[i * step];
            sums[threadIdx.x] = s;
        }
        __syncthreads();
        if (leaf == 0)
            for (int q = 0; q * LEAF_SAMPLES < samples; ++q) tree.push(sums[q * lines.columns + j]);
    }
    if (nodes && leaf == 0) nodes[blockIdx.y * n + lines.column + j] = tree.root();
}
