// ln p_k = (z_k - max z) - ln sum_j exp(z_j - max z)
//
// z and log_p (m, n), row by row.
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) log_softmax(
    const real* z, real* log_p, int64 m, int64 n, int64 most, int64 lanes, int64 room) {
    Rows rows(m, n, most, lanes, room, 2, is_aligned(z) && is_aligned(log_p));
    real *x = rows.tile(0), *e = rows.tile(1);
    real *largest = rows.numbers(0), *log_total = rows.numbers(1);

    rows.largest(largest, x, z);
    Tree<real> tree;
    rows.each_part([&] {
        if (!rows.whole) rows.bring(x, z);
        rows.map(e, x, [=](int row, real z_k) { return exp(z_k - largest[row]); });
        rows.sum_leaves(tree, e);
    });
    rows.share(log_total, rows.owner() ? log(tree.root()) : 0);
    rows.each_part([&] {
        if (!rows.whole) rows.bring(x, z);
        rows.send(log_p, x,
                  [=](int row, real z_k) { return (z_k - largest[row]) - log_total[row]; });
    });
}
