// Each state, then w, takes its new value, by the rules of an optimizer; each sees the new values
// of the states before it. STATES of s0 and s1 are there, and as many constants as rules take.
#include "copy.cuh"

#define OF(rule) rule(x.v[q], dx.v[q], s.v[q], t.v[q], c0, c1, c2, c3, c4, c5)

extern "C" __global__ void update(
    real* w, const real* g, real* s0, real* s1,
    real c0, real c1, real c2, real c3, real c4, real c5, int64 size) {
    const int64 step = int64(gridDim.x) * blockDim.x * CHUNK;
    for (int64 i = (int64(blockIdx.x) * blockDim.x + threadIdx.x) * CHUNK; i < size; i += step) {
        const int count = size - i < CHUNK ? int(size - i) : CHUNK;
        Chunk x = read(w + i, count), dx = read(g + i, count), s = {}, t = {};
        if (STATES > 0) s = read(s0 + i, count);
        if (STATES > 1) t = read(s1 + i, count);
#pragma unroll
        for (int q = 0; q < CHUNK; ++q) {
#if STATES > 0
            s.v[q] = OF(new_s0);
#endif
#if STATES > 1
            t.v[q] = OF(new_s1);
#endif
            x.v[q] = OF(new_w);
        }
        if (STATES > 0) write(s0 + i, s, count);
        if (STATES > 1) write(s1 + i, t, count);
        write(w + i, x, count);
    }
}
