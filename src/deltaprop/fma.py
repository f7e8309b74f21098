"""x * y + z rounded once, in NumPy, which has no fma of its own.

float32: the product of two floats is exact in float64, so only the sum p + z is rounded on
the way to float32, and rounding twice differs from rounding once only where the first result
sits on a midpoint of two floats (or where subnormals move the midpoints). Those few are
repaired by rounding the first sum to odd, which decides every tie as the exact sum does.

float64: the product as an unevaluated sum of two numbers (Dekker, Veltkamp), added by the
method of S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums: proved
algorithms using rounding to odd", IEEE Trans. Computers 57 (2008), for which no intermediate
may overflow or be subnormal; the rest is computed in exact integers.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

Float = np.ndarray[Any, np.dtype[Any]]


def fma(x: Any, y: Any, z: Any) -> Float:
    """x * y + z with one rounding, element by element, broadcasting.

    All three are float32 or all float64; NaN and infinities as IEEE 754 has them.
    """
    x, y, z = np.broadcast_arrays(x, y, z)
    dtypes = {v.dtype for v in (x, y, z)}
    if dtypes == {np.dtype(np.float32)}:
        return _fma32(x, y, z)
    if dtypes == {np.dtype(np.float64)}:
        return _fma64(x, y, z)
    raise TypeError(f"fma takes three arrays of float32 or three of float64, got {dtypes}")


def two_sum(x: Float, y: Float) -> tuple[Float, Float]:
    """s = RN(x + y) and its exact error (Knuth)."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


def two_product(x: Float, y: Float) -> tuple[Float, Float]:
    """p = RN(x * y) and its exact error (Dekker), from halves of 26 and 27 bits."""
    p = x * y
    (xh, xl), (yh, yl) = _halves(x), _halves(y)
    return p, ((xh * yh - p) + xh * yl + xl * yh) + xl * yl


def _halves(x: Float) -> tuple[Float, Float]:
    c = x * 134217729.0  # 2^27 + 1
    high = c - (c - x)
    return high, x - high


def _odd(s: Float, error: Float) -> Float:
    """s = RN(exact) and the error exact - s: the exact sum rounded to odd.

    An inexact even s moves one step towards the exact value; its bits count up for a step
    away from zero, down for a step to zero.
    """
    bits = s.view(np.int64)
    step = np.where((error > 0) == (s > 0), 1, -1)
    move = np.isfinite(s) & (error != 0) & (bits & 1 == 0)
    return np.where(move, bits + step, bits).view(np.float64)


def _fma32(x: Float, y: Float, z: Float) -> Float:
    with np.errstate(all="ignore"):
        p = np.multiply(x, y, dtype=np.float64)
        wide = z.astype(np.float64)
        s = np.atleast_1d(p + wide)
        midpoint = (s.view(np.int64) & 0x1FFFFFFF) == 0x10000000
        suspect = midpoint | (np.abs(s) < 2.0**-125)
        result = s.astype(np.float32)
        if suspect.any():
            odd = _odd(*two_sum(np.atleast_1d(p)[suspect], np.atleast_1d(wide)[suspect]))
            result[suspect] = odd.astype(np.float32)
        return result.reshape(p.shape)


def _fma64(x: Float, y: Float, z: Float) -> Float:
    shape = x.shape
    x, y, z = (np.ascontiguousarray(v).reshape(-1) for v in (x, y, z))
    with np.errstate(all="ignore"):
        p = x * y
        size = np.abs(p)
        plain = (x == 0) | (y == 0) | ~np.isfinite(x) | ~np.isfinite(y) | ~np.isfinite(z)
        safe = (size > 2.0**-900) & (size < 2.0**1000) & (np.abs(z) < 2.0**1000)
        safe &= (np.abs(x) < 2.0**990) & (np.abs(y) < 2.0**990)
        result = np.where(plain, p + z, _boldo_melquiond(x, y, z))
        # Where z alone is not finite it is the result, even if p has overflowed.
        result = np.where(np.isfinite(x) & np.isfinite(y) & ~np.isfinite(z), z, result)
    for i in np.flatnonzero(~plain & ~safe):
        result[i] = _exact(float(x[i]), float(y[i]), float(z[i]))
    return result.reshape(shape)


def _boldo_melquiond(x: Float, y: Float, z: Float) -> Float:
    high, low = two_product(x, y)
    t, t_low = two_sum(z, low)
    v, v_low = two_sum(high, t)
    return v + _odd(*two_sum(t_low, v_low))


def _exact(x: float, y: float, z: float) -> float:
    """For finite x, y, z with x * y not 0: dividing integers rounds correctly in Python."""
    total = Fraction(x) * Fraction(y) + Fraction(z)
    if total == 0:
        return 0.0
    try:
        return total.numerator / total.denominator
    except OverflowError:
        return math.inf if total > 0 else -math.inf
