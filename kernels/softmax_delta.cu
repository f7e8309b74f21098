// delta_k = a_k (u_k - sum_j a_j u_j)
//
// a = softmax(z), u = dE/da and delta (m, n), row by row.
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) softmax_delta(
    const real* a, const real* u, real* delta, int64 m, int64 n, int64 most, int64 lanes,
    int64 room) {
    Rows rows(m, n, most, lanes, room, 2, is_aligned(a) && is_aligned(u) && is_aligned(delta));
    real *x = rows.tile(0), *v = rows.tile(1), *total = rows.numbers(0);
    const auto bring = [&] {
        rows.bring(x, a);
        rows.bring(v, u);
    };

    Tree<real> tree;
    rows.each_part([&] {
        bring();
        rows.sum_products(tree, x, v);
    });
    rows.share(total, rows.owner() ? tree.root() : 0);
    rows.each_part([&] {
        if (!rows.whole) bring();
        real* to = delta + rows.begin();
        rows.each([=](auto packed, int row, unsigned here, unsigned there) {
            constexpr int WIDTH = decltype(packed)::width;
            const auto u_ = pack<WIDTH>(v + here);
            packed = pack<WIDTH>(x + here);
#pragma unroll
            for (int r = 0; r < WIDTH; ++r) packed.v[r] = packed.v[r] * (u_.v[r] - total[row]);
            pack<WIDTH>(to + there) = packed;
        });
    });
}
