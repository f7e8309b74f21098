// z = a_in W^T + b,  a = value(z)
//
// a_in (m, n_in), W (n, n_in), z and a (m, n); b (n) may be null, z too where nobody needs it.
#include "ordered_gemm.cuh"

extern "C" __global__ void dense_forward(
    const real* a_in, const real* W, const real* b, real* z, real* a, int64 m, int64 n, int64 n_in) {
    ordered_gemm<LEAF_FEATURES>(
        m, n, n_in,
        [=](int64 i, int64 k) { return a_in[i * n_in + k]; },
        [=](int64 k, int64 j) { return W[j * n_in + k]; },
        [=](int64 i, int64 j, real sum) {
            const real z_ij = b ? sum + b[j] : sum;
            if (z) z[i * n + j] = z_ij;
            a[i * n + j] = value(z_ij);
        });
}
