"""Gradient clipping: g <- (c / |g|) g where the norm |g| of the whole gradient is above c.

|g|^2 is a sum of squares by the kernels of a backend, in an order that the specification gives, so
that it has the same bits on every exact backend.
"""

from __future__ import annotations

from math import inf, isfinite, sqrt

import numpy as np

from deltaprop.contract import Array, Kernels
from deltaprop.scalar import Real

COLUMNS = 64
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
    """|g|: the square root in float64 of the sum in g's dtype.

    Of the squares as rows of 64, columns are summed first; then these sums and what is left over.
    """
    squares = k.apply(_square, g)
    whole = len(g) - len(g) % COLUMNS
    if whole:
        sums = k.bias_gradient(squares[:whole].reshape(-1, COLUMNS), None)
        left, squares = squares[whole:], k.arrays.empty((COLUMNS + len(g) - whole,), g.dtype)
        squares[:COLUMNS], squares[COLUMNS:] = sums, left
    return sqrt(k.arrays.to_numpy(k.bias_gradient(squares.reshape(-1, 1), None)).item())


def _square(x: Real) -> Real:
    return x * x
