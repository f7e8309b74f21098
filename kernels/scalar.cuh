// The operations that the numerics specification allows, for `real` = float or double.
// Every other function is a rule, printed from Python and built from these.
#pragma once

typedef long long int64;
typedef unsigned long long uint64;

__device__ inline float fma_rn(float x, float y, float z) { return __fmaf_rn(x, y, z); }
__device__ inline double fma_rn(double x, double y, double z) { return __fma_rn(x, y, z); }
__device__ inline float sqrt_rn(float x) { return __fsqrt_rn(x); }
__device__ inline double sqrt_rn(double x) { return __dsqrt_rn(x); }
__device__ inline float fabs_(float x) { return fabsf(x); }
__device__ inline double fabs_(double x) { return fabs(x); }
__device__ inline float copysign_(float x, float y) { return copysignf(x, y); }
__device__ inline double copysign_(double x, double y) { return copysign(x, y); }
__device__ inline float rint_(float x) { return rintf(x); }
__device__ inline double rint_(double x) { return rint(x); }

template <class T>
__device__ inline T select(bool condition, T x, T y) {
    return condition ? x : y;
}

// floor(log2 |x|) of a normal x.
__device__ inline float exponent(float x) {
    return float(((__float_as_int(x) >> 23) & 0xff) - 127);
}
__device__ inline double exponent(double x) {
    return double(int((__double_as_longlong(x) >> 52) & 0x7ff) - 1023);
}

// 2^n for an integral n whose power is normal: adding 1.5 * 2^mantissa puts n in the low bits.
// Unsigned, because bits are shifted out.
__device__ inline float pow2(float n) {
    return __int_as_float(int((unsigned(__float_as_int(n + 0x1.8p23f)) + 127) << 23));
}
__device__ inline double pow2(double n) {
    return __longlong_as_double(int64((uint64(__double_as_longlong(n + 0x1.8p52)) + 1023) << 52));
}
