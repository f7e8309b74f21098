// dE/db_j = sum over samples i of delta_ij
//
// delta (m, n), nodes (slices, n), one slice for each `terms` samples; a thread sums one column of
// a slice: leaves of LEAF_SAMPLES plain additions, tree.
#include "grid.cuh"
#include "tree.cuh"

extern "C" __global__ void bias_gradient(
    const real* delta, real* nodes, int64 m, int64 n, int64 slices, int64 terms) {
    for_each(slices * n, [=](int64 q) {
        const int64 j = q % n, first = q / n * terms;
        const int64 last = first + terms < m ? first + terms : m;
        Tree<real> tree;
        for (int64 leaf = first; leaf < last; leaf += LEAF_SAMPLES) {
            const int64 end = leaf + LEAF_SAMPLES < last ? leaf + LEAF_SAMPLES : last;
            real s = 0;
#pragma unroll 16
            for (int64 i = leaf; i < end; ++i) s = s + delta[i * n + j];
            tree.push(s);
        }
        nodes[q] = tree.root();
    });
}
