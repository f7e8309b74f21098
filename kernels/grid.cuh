// One element a thread, in as many rounds as the grid needs.
#pragma once

template <class Body>
__device__ inline void for_each(int64 n, Body body) {
    const int64 stride = int64(gridDim.x) * blockDim.x;
    for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) body(i);
}
