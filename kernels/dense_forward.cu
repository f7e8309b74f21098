// z = a_in W^T + b,  a = value(z)
//
// a_in (m, n_in), W (n, n_in), z and a (m, n); b (n) may be null, z too where nobody needs it.
#include "ordered_gemm.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) dense_forward(
    const real* a_in, const real* W, const real* b, real* z, real* a, int64 m, int64 n, int64 n_in) {
    ordered_gemm<LEAF_FEATURES>(
        Rows{a_in, m, n_in}, Rows{W, n, n_in}, n_in,
        [=](int64 i, int64 j, Chunk x, int count) {
#pragma unroll
            for (int q = 0; q < CHUNK; ++q)
                if (b && q < count) x.v[q] = x.v[q] + b[j + q];
            if (z) write(z + i * n + j, x, count);
#pragma unroll
            for (int q = 0; q < CHUNK; ++q) x.v[q] = value(x.v[q]);
            write(a + i * n + j, x, count);
        });
}
