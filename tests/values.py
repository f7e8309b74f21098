"""Numbers that tests try: special ones, any bits at all, and the distance between two floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.backends import load

INTEGERS = {"float32": np.uint32, "float64": np.uint64}


def frozen(x: Any, dtype: str) -> np.ndarray:
    """x as an array of that dtype that cannot be written to."""
    x = np.array(x, dtype)
    x.flags.writeable = False
    return x


def apply(backend: str, rule: Any, x: np.ndarray) -> np.ndarray:
    """rule(x), element by element, on that backend."""
    k = load(backend)
    return k.arrays.to_numpy(k.apply(rule, k.arrays.asarray(x)))


def unit_roundoff(dtype: str) -> float:
    """u: the largest relative error of one rounding."""
    return float(np.finfo(dtype).eps) / 2


def special(dtype: str) -> np.ndarray:
    """Zeros, subnormals, borders, ties of rint, infinities, NaN, with both signs."""
    f = np.finfo(dtype)
    subnormals = [f.smallest_subnormal, 3 * f.smallest_subnormal, f.tiny - f.smallest_subnormal]
    ones = [1 - f.epsneg, 1, 1 + f.eps, 0.1, 0.3, 2, 3, 100]
    ties = [0.5, 1.5, 2.5, 2**f.nmant - 0.5, 2.0**f.nmant, 2.0 ** (f.nmant + 1) + 2]
    far = [2.0**-60, 1e-30, 1e30, f.max / 2, f.max, np.inf]
    positive = np.array([0, *subnormals, f.tiny, *ones, *ties, *far], dtype)
    return frozen([*positive, *-positive, np.nan], dtype)


def random_bits(dtype: str, count: int, seed: int = 0) -> np.ndarray:
    """Floats of uniformly random bits: every exponent as often, infinities and NaN among them."""
    kind = INTEGERS[dtype]
    bits = np.random.default_rng(seed).integers(0, np.iinfo(kind).max, count, kind, endpoint=True)
    return frozen(bits.view(dtype), dtype)


def neighbours(x: Any, dtype: str, steps: int = 2) -> np.ndarray:
    """Each x, rounded to dtype, and the floats up to `steps` away on both sides."""
    with np.errstate(over="ignore", under="ignore"):
        rings = [np.array(x, np.float64).astype(dtype)]
        for towards in (-np.inf, np.inf):
            y = rings[0]
            for _ in range(steps):
                y = np.nextafter(y, np.array(towards, dtype))
                rings.append(y)
    return frozen(np.concatenate(rings), dtype)
