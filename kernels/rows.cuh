// Sums over the outputs of one sample: leaves of LEAF_FEATURES terms, tree.
#pragma once

#include "tree.cuh"

// The sum over k < n of x(k) v(k).
template <class X, class V>
__device__ real row_dot(int64 n, X x, V v) {
    Tree<real> tree;
    for (int64 leaf = 0; leaf < n; leaf += LEAF_FEATURES) {
        const int64 end = leaf + LEAF_FEATURES < n ? leaf + LEAF_FEATURES : n;
        real s = 0;
        for (int64 k = leaf; k < end; ++k) s = fma_rn(x(k), v(k), s);
        tree.push(s);
    }
    return tree.root();
}

// The largest of z[0..n); a NaN is passed over, to come back in the sum.
__device__ inline real row_max(int64 n, const real* z) {
    real largest = z[0];
    for (int64 k = 1; k < n; ++k) largest = z[k] > largest ? z[k] : largest;
    return largest;
}
