// ln p_k = (z_k - max z) - ln sum_j exp(z_j - max z)
//
// z and log_p (m, n); a thread normalises one row.
#include "grid.cuh"
#include "rows.cuh"

extern "C" __global__ void log_softmax(const real* z, real* log_p, int64 m, int64 n) {
    for_each(m, [=](int64 i) {
        const real* z_i = z + i * n;
        const real largest = row_max(n, z_i);
        const real log_total = log(row_dot(
            n, [=](int64 k) { return exp(z_i[k] - largest); },
            [=](int64) { return real(1); }));
        for (int64 k = 0; k < n; ++k) log_p[i * n + k] = (z_i[k] - largest) - log_total;
    });
}
