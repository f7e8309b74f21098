// delta = (delta_next W_next) * slope(s), fused
//
// delta_next (m, n_next), W_next (n_next, n), s and delta (m, n); s is z or a of the layer.
#include "ordered_gemm.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) hidden_delta(
    const real* delta_next, const real* W_next, const real* s, real* delta,
    int64 m, int64 n, int64 n_next) {
    ordered_gemm<LEAF_FEATURES>(
        Rows{delta_next, m, n_next}, Columns{W_next, n, n}, n_next,
        [=](int64 i, int64 j, Chunk x, int count) {
            const auto at = read(s + i * n + j, count);
#pragma unroll
            for (int q = 0; q < CHUNK; ++q) x.v[q] = x.v[q] * slope(at.v[q]);
            write(delta + i * n + j, x, count);
        });
}
