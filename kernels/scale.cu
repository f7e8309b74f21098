// y_i = c x_i
#include "grid.cuh"

extern "C" __global__ void scale(const real* x, real* y, real c, int64 size) {
    for_each(size, [=](int64 i) { y[i] = c * x[i]; });
}
