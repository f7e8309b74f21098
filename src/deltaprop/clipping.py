"""Gradient clipping: g <- (c / |g|) g where the norm |g| of the whole gradient is above c.

|g|^2 = g^T g is the gradient of a weight whose delta and input are g itself, a sum over samples in
the order of the specification, so that it has the same bits on every exact backend.
"""

from __future__ import annotations

from math import inf, isfinite, sqrt

import numpy as np

from deltaprop.contract import Array, Kernels

SMALLER = {np.dtype("float32"): 2.0**-96, np.dtype("float64"): 2.0**-600}
"""The squares of numbers so scaled do not overflow, nor does the sum of as many as there may be."""


def clip(k: Kernels, gradient: Array, limit: float) -> None:
    """Clips the gradient (P,), or each row of those of members (n, P), in place.

    One that has an infinity or a NaN has no norm, and stays as it is.
    """
    for g in gradient.reshape(-1, gradient.shape[-1]):
        shown, c = g, limit
        norm = _norm(k, shown)
        if not isfinite(norm):
            smaller = SMALLER[g.dtype]
            shown, c = k.scale(g, smaller), limit * smaller
            norm = _norm(k, shown)
        if c < norm < inf:
            g[...] = k.scale(shown, limit / norm)


def _norm(k: Kernels, g: Array) -> float:
    """|g|: the square root in float64 of the sum in g's dtype."""
    column = g.reshape(-1, 1)
    return sqrt(k.arrays.to_numpy(k.weight_gradient(column, column, None)).item())
