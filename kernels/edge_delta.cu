// out_i = own_i + (sum over outgoing edges of w_ji delta_j) * slope(s_i)
//
// delta (N, m), start (n + 1), peer and w (edges), s, own and out (n, m); s is z or a of the
// units, own may be null.
#include "edges.cuh"
#include "grid.cuh"

extern "C" __global__ void edge_delta(
    const real* delta, const int64* start, const int* peer, const real* w, const real* s,
    const real* own, real* out, int64 n, int64 m) {
    for_each(n, m, [=](int64 i, int64 sample) {
        const int64 k = i * m + sample;
        const real sum = edge_sum(delta, peer, w, start[i], start[i + 1], m, sample);
        const real through_edges = sum * slope(s[k]);
        out[k] = own ? own[k] + through_edges : through_edges;
    });
}
