"""The functions that rules are written with: `dp.math.tanh(z)` in an activation of one's own.

They take the symbol that a rule is traced on, or what others of them returned, and plain numbers
beside it; arrays have `deltaprop.ops`. Sums, products and comparisons are Python's own operators.
"""

from __future__ import annotations

from deltaprop.elementary import exp, expm1, log, log1p, logistic, normal_cdf, softplus, tanh
from deltaprop.periodic import cos, sin
from deltaprop.scalar import Real, copysign, elementary, fma, maximum, minimum, rint, select, sqrt


def abs(x: Real) -> Real:
    """|x|."""
    return x.__abs__()


__all__ = [
    "abs",
    "copysign",
    "cos",
    "elementary",
    "exp",
    "expm1",
    "fma",
    "log",
    "log1p",
    "logistic",
    "maximum",
    "minimum",
    "normal_cdf",
    "rint",
    "select",
    "sin",
    "softplus",
    "sqrt",
    "tanh",
]
