// e_i = sum over outputs k of left(s_ik, y_ik) right(s_ik, y_ik)
//
// s and Y (m, n), e (m); a thread sums one sample.
#include "grid.cuh"
#include "rows.cuh"

extern "C" __global__ void sample_loss(
    const real* s, const real* Y, real* e, int64 m, int64 n) {
    for_each(m, [=](int64 i) {
        const real *s_i = s + i * n, *y_i = Y + i * n;
        e[i] = row_dot(
            n, [=](int64 k) { return left(s_i[k], y_i[k]); },
            [=](int64 k) { return right(s_i[k], y_i[k]); });
    });
}
