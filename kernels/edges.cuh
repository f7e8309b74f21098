// Sums over the edges of one unit: leaves of LEAF_FEATURES terms, tree.
#pragma once

#include "tree.cuh"

// The sum over edges first <= e < last of w_e x[peer_e, i], for x with m samples a row.
__device__ inline real edge_sum(
    const real* x, const int* peer, const real* w, int64 first, int64 last, int64 m, int64 i) {
    if (first == last) return 0;
    Tree<real> tree;
    for (int64 leaf = first; leaf < last; leaf += LEAF_FEATURES) {
        const int64 end = leaf + LEAF_FEATURES < last ? leaf + LEAF_FEATURES : last;
        real s = 0;
        for (int64 e = leaf; e < end; ++e) s = fma_rn(w[e], x[peer[e] * m + i], s);
        tree.push(s);
    }
    return tree.root();
}
