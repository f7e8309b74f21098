// p_k = exp(z_k - max z) / sum_j exp(z_j - max z)
//
// z and p (m, n), row by row.
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) softmax(
    const real* z, real* p, int64 m, int64 n, int64 most, int64 lanes, int64 room) {
    Rows rows(m, n, most, lanes, room, 1, is_aligned(z) && is_aligned(p));
    real *e = rows.tile(0), *largest = rows.numbers(0), *total = rows.numbers(1);
    const auto exponentials = [&] {
        if (!rows.whole) rows.bring(e, z);
        rows.map(e, e, [=](int row, real z_k) { return exp(z_k - largest[row]); });
    };

    rows.largest(largest, e, z);
    Tree<real> tree;
    rows.each_part([&] {
        exponentials();
        rows.sum_leaves(tree, e);
    });
    rows.share(total, rows.owner() ? tree.root() : 0);
    rows.each_part([&] {
        if (!rows.whole) exponentials();
        rows.send(p, e, [=](int row, real e_k) { return e_k / total[row]; });
    });
}
