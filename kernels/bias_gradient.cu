// dE/db_j = sum over samples i of delta_ij
//
// delta (m, n), db (n); a thread sums one column: leaves of LEAF_SAMPLES plain additions, tree.
#include "grid.cuh"
#include "tree.cuh"

extern "C" __global__ void bias_gradient(const real* delta, real* db, int64 m, int64 n) {
    for_each(n, [=](int64 j) {
        Tree<real> tree;
        for (int64 leaf = 0; leaf < m; leaf += LEAF_SAMPLES) {
            const int64 end = leaf + LEAF_SAMPLES < m ? leaf + LEAF_SAMPLES : m;
            real s = 0;
            for (int64 i = leaf; i < end; ++i) s = s + delta[i * n + j];
            tree.push(s);
        }
        db[j] = tree.root();
    });
}
