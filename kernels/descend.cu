// w_i <- fma(-eta, g_i, w_i)
#include "grid.cuh"

extern "C" __global__ void descend(real* w, const real* g, real eta, int64 size) {
    map(size, w, [=](real w, real g) { return fma_rn(-eta, g, w); }, w, g);
}
