// y_i = the tree over nodes x_1i, x_2i, ...
//
// x (count, size), y (size). A block takes COLUMNS elements; each line of its threads sums `run`
// nodes, a power of two, and the first line sums the lines.
#include "tree.cuh"

#define COLUMNS 32
#define LINES 8
#define AHEAD 8

extern "C" __global__ void tree_sum(const real* x, real* y, int64 count, int64 size, int64 run) {
    __shared__ real sums[LINES][COLUMNS];
    const int column = threadIdx.x % COLUMNS, line = threadIdx.x / COLUMNS;
    const int64 i = int64(blockIdx.x) * COLUMNS + column, first = line * run;
    const int64 end = first + run < count ? first + run : count;
    if (i < size && first < count) {
        Tree<real> tree;
        for (int64 node = first; node < end; node += AHEAD) {
            real some[AHEAD];
#pragma unroll
            for (int q = 0; q < AHEAD; ++q)
                if (node + q < end) some[q] = x[(node + q) * size + i];
#pragma unroll
            for (int q = 0; q < AHEAD; ++q)
                if (node + q < end) tree.push(some[q]);
        }
        sums[line][column] = tree.root();
    }
    __syncthreads();
    if (i < size && line == 0) {
        Tree<real> tree;
        for (int q = 0; q * run < count; ++q) tree.push(sums[q][column]);
        y[i] = tree.root();
    }
}
