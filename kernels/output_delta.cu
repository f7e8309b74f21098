// delta_ij = (residual(a_ij, y_ij) * c_i) * slope(s_ij),  c_i = w_i * scale
//
// a, Y, s and delta (m, n); weights (m) may be null: then c_i = scale.
#include "grid.cuh"

extern "C" __global__ void output_delta(
    const real* a, const real* Y, const real* s, const real* weights, real* delta,
    real scale, int64 m, int64 n) {
    for_each(m * n, [=](int64 i) {
        const real c = weights ? weights[i / n] * scale : scale;
        delta[i] = (residual(a[i], Y[i]) * c) * slope(s[i]);
    });
}
