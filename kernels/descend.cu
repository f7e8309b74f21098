// w_i <- fma(-eta, g_i, w_i)
#include "grid.cuh"

extern "C" __global__ void descend(real* w, const real* g, real eta, int64 size) {
    for_each(size, [=](int64 i) { w[i] = fma_rn(-eta, g[i], w[i]); });
}
