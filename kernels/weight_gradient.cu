// dE/dW = delta^T a_in, summed over samples
//
// delta (m, n), a_in (m, n_in), nodes (slices, n, n_in): block z sums `terms` samples, whole
// leaves, to node z of the tree. One node is dE/dW.
#include "ordered_gemm.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) weight_gradient(
    const real* delta, const real* a_in, real* nodes, int64 m, int64 n, int64 n_in, int64 terms) {
    const int64 first = blockIdx.z * terms, count = m - first < terms ? m - first : terms;
    real* dW = nodes + blockIdx.z * (n * n_in);
    ordered_gemm<LEAF_SAMPLES>(
        Columns{delta + first * n, n, n}, Columns{a_in + first * n_in, n_in, n_in}, count,
        [=](int64 i, int64 j, Chunk x, int count) { write(dW + i * n_in + j, x, count); });
}
