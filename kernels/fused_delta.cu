// delta = d * slope(s);  dE/db, its sum over samples
//
// d, s and delta (m, n), nodes (slices, n), one slice for each `terms` samples; nodes may be null.
#include "column_sums.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 3) fused_delta(
    const real* d, const real* s, real* delta, real* nodes, int64 m, int64 n, int64 leaves,
    int64 terms) {
    column_sums(delta, nodes, m, n, leaves, terms,
        [](int64, real d_ij, real s_ij) { return d_ij * slope(s_ij); }, d, s);
}
