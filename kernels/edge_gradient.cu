// dE/dw_e = sum over samples i of delta[target_e, i] a[source_e, i]
//
// delta (N, m), a (N', m), target and source (edges), nodes (slices, edges), one slice for each
// `terms` samples, whole leaves. A warp takes as many edges as it has threads: their rows pass
// through shared memory, read along a row and used across, an edge a thread: leaves of LEAF_SAMPLES
// terms, tree.
#include "tree.cuh"

#define WARPS 2
#define LANES 32

extern "C" __global__ void __launch_bounds__(WARPS * LANES) edge_gradient(
    const real* delta, const real* a, const int* target, const int* source, real* nodes,
    int64 edges, int64 m, int64 terms) {
    // A number more in a row: a column is in banks of its own.
    __shared__ real deltas[WARPS][LANES][LANES + 1], as[WARPS][LANES][LANES + 1];
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const int64 groups = (edges + WARPS * LANES - 1) / (WARPS * LANES);
    const int64 slice = blockIdx.x / groups;
    const int64 first = (blockIdx.x % groups * WARPS + warp) * LANES;
    const int64 begin = slice * terms, end = begin + terms < m ? begin + terms : m;

    Tree<real> tree;
    real s = 0;
    for (int64 i = begin; i < end; i += LANES) {
#pragma unroll 8
        for (int r = 0; r < LANES; ++r)
            if (first + r < edges && i + lane < end) {
                deltas[warp][r][lane] = delta[target[first + r] * m + i + lane];
                as[warp][r][lane] = a[source[first + r] * m + i + lane];
            }
        __syncthreads();
        const int here = end - i < LANES ? int(end - i) : LANES;
        for (int q = 0; q < here; ++q) s = fma_rn(deltas[warp][lane][q], as[warp][lane][q], s);
        __syncthreads();
        const int64 done = i + LANES - begin;
        if (done % LEAF_SAMPLES == 0 || begin + done >= end) {
            tree.push(s);
            s = 0;
        }
    }
    if (first + lane < edges) nodes[slice * edges + first + lane] = tree.root();
}
