// dE/dW = delta^T a_in, summed over samples
//
// delta (m, n), a_in (m, n_in), W (n, n_in)
#include "ordered_gemm.cuh"

extern "C" __global__ void weight_gradient(
    const real* delta, const real* a_in, real* dW, int64 m, int64 n, int64 n_in) {
    ordered_gemm<LEAF_SAMPLES>(
        n, n_in, m,
        [=](int64 i, int64 k) { return delta[k * n + i]; },
        [=](int64 k, int64 j) { return a_in[k * n_in + j]; },
        [=](int64 i, int64 j, real sum) { dW[i * n_in + j] = sum; });
}
