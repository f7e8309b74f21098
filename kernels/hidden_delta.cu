// delta = (delta_next W_next) * slope(s), fused
//
// delta_next (m, n_next), W_next (n_next, n), s and delta (m, n); s is z or a of the layer.
#include "ordered_gemm.cuh"

extern "C" __global__ void hidden_delta(
    const real* delta_next, const real* W_next, const real* s, real* delta,
    int64 m, int64 n, int64 n_next) {
    ordered_gemm<LEAF_FEATURES>(
        m, n, n_next,
        [=](int64 i, int64 k) { return delta_next[i * n_next + k]; },
        [=](int64 k, int64 j) { return W_next[k * n + j]; },
        [=](int64 i, int64 j, real sum) { delta[i * n + j] = sum * slope(s[i * n + j]); });
}
