// z_j = sum over incoming edges of w_ji a_i, + b_j;  out = value(z)
//
// a (N, m), start (n + 1), peer and w (edges), z and out (n, m); b (n) and z may be null.
#include "edges.cuh"
#include "grid.cuh"

extern "C" __global__ void edge_forward(
    const real* a, const int64* start, const int* peer, const real* w, const real* b,
    real* z, real* out, int64 n, int64 m) {
    for_each(n, m, [=](int64 j, int64 sample) {
        const int64 k = j * m + sample;
        const real sum = edge_sum(a, peer, w, start[j], start[j + 1], m, sample);
        const real z_k = b ? sum + b[j] : sum;
        if (z) z[k] = z_k;
        out[k] = value(z_k);
    });
}
