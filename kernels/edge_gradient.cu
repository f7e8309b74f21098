// dE/dw_e = sum over samples i of delta[target_e, i] a[source_e, i]
//
// delta (N, m), a (N', m), target, source and dw (edges); a thread sums one edge: leaves of
// LEAF_SAMPLES terms, tree.
#include "grid.cuh"
#include "tree.cuh"

extern "C" __global__ void edge_gradient(
    const real* delta, const real* a, const int* target, const int* source, real* dw,
    int64 edges, int64 m) {
    for_each(edges, [=](int64 e) {
        const real *delta_e = delta + target[e] * m, *a_e = a + source[e] * m;
        Tree<real> tree;
        for (int64 leaf = 0; leaf < m; leaf += LEAF_SAMPLES) {
            const int64 end = leaf + LEAF_SAMPLES < m ? leaf + LEAF_SAMPLES : m;
            real s = 0;
            for (int64 i = leaf; i < end; ++i) s = fma_rn(delta_e[i], a_e[i], s);
            tree.push(s);
        }
        dw[e] = tree.root();
    });
}
