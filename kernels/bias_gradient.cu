// dE/db_j = sum over samples i of delta_ij
//
// delta (m, n), nodes (slices, n), one slice for each `terms` samples.
#include "column_sums.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 3) bias_gradient(
    const real* delta, real* nodes, int64 m, int64 n, int64 leaves, int64 terms) {
    column_sums(nullptr, nodes, m, n, leaves, terms, [](int64, real x) { return x; }, delta);
}
