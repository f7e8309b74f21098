// p_k = exp(z_k - max z) / sum_j exp(z_j - max z)
//
// z and p (m, n); a thread normalises one row.
#include "grid.cuh"
#include "rows.cuh"

extern "C" __global__ void softmax(const real* z, real* p, int64 m, int64 n) {
    for_each(m, [=](int64 i) {
        const real* z_i = z + i * n;
        real* p_i = p + i * n;
        const real largest = row_max(n, z_i);
        for (int64 k = 0; k < n; ++k) p_i[k] = exp(z_i[k] - largest);
        const real total = row_dot(
            n, [=](int64 k) { return p_i[k]; }, [=](int64) { return real(1); });
        for (int64 k = 0; k < n; ++k) p_i[k] = p_i[k] / total;
    });
}
