// e_i = sum over outputs k of left(s_ik, y_ik) right(s_ik, y_ik)
//
// s and Y (m, n), e (m).
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) sample_loss(
    const real* s, const real* Y, real* e, int64 m, int64 n, int64 most, int64 lanes, int64 room) {
    Rows rows(m, n, most, lanes, room, 2, is_aligned(s) && is_aligned(Y));
    real *x = rows.tile(0), *v = rows.tile(1);

    Tree<real> tree;
    rows.each_part([&] {
        rows.bring(x, s);
        rows.bring(v, Y);
        rows.each([=](auto a, int, unsigned here, unsigned) {
            constexpr int WIDTH = decltype(a)::width;
            a = pack<WIDTH>(x + here);
            auto y = pack<WIDTH>(v + here);
#pragma unroll
            for (int r = 0; r < WIDTH; ++r) {
                const real factor = left(a.v[r], y.v[r]);
                y.v[r] = right(a.v[r], y.v[r]);
                a.v[r] = factor;
            }
            pack<WIDTH>(x + here) = a;
            pack<WIDTH>(v + here) = y;
        });
        rows.sum_products(tree, x, v);
    });
    if (rows.owner()) e[rows.first + threadIdx.x] = tree.root();
}
