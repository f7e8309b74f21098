// delta_ij = (residual(a_ij, y_ij) * c_i) * slope(s_ij),  c_i = w_i * scale;  dE/db, its sum over i
//
// a, Y, s and delta (m, n), nodes (slices, n), one slice for each `terms` samples. s may be
// a. weights (m) may be null: then c_i = scale. nodes may be null.
#include "column_sums.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 3) output_delta(
    const real* a, const real* Y, const real* s, const real* weights, real* delta, real* nodes,
    real scale, int64 m, int64 n, int64 leaves, int64 terms) {
    column_sums(delta, nodes, m, n, leaves, terms,
        [=](int64 i, real a_ij, real y_ij, real s_ij) {
            const real c = weights ? weights[i] * scale : scale;
            return (residual(a_ij, y_ij) * c) * slope(s_ij);
        }, a, Y, s);
}
