"""Arrays that carry a bound on their rounding: running error analysis as arithmetic.

With x comes dx, a bound on the error of every element, whatever the order of the operations:

    x + y     dx + dy + u |x + y|
    x * y     dx |y| + |x| dy + dx dy + u |x y|
    x @ y     dx @ |y| + |x| @ dy + dx @ dy + n u |x| @ |y|          n terms in each sum

u is the unit roundoff. `deltaprop.bounds` does the same for the right gradient alone; this is
for equations that are yet to be written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop import bounds

Array = np.ndarray


@dataclass(frozen=True)
class Rounded:
    """x, float64, and dx of the same shape, for computations that round at u."""

    x: Array
    dx: Array
    u: float

    @property
    def T(self) -> Rounded:
        """The transpose."""
        return Rounded(self.x.T, self.dx.T, self.u)

    def __getitem__(self, index: Any) -> Rounded:
        """Those elements."""
        return Rounded(self.x[index], self.dx[index], self.u)

    def _beside(self, other: Rounded | Array | float) -> Rounded:
        if isinstance(other, Rounded):
            return other
        return exact(np.asarray(other, np.float64), self.u)

    def __add__(self, other: Rounded | Array | float) -> Rounded:
        y = self._beside(other)
        total = self.x + y.x
        return Rounded(total, self.dx + y.dx + self.u * np.abs(total), self.u)

    def __neg__(self) -> Rounded:
        return Rounded(-self.x, self.dx, self.u)

    def __sub__(self, other: Rounded | Array | float) -> Rounded:
        return self + -self._beside(other)

    def __rsub__(self, other: Array | float) -> Rounded:
        return -self + other

    def __mul__(self, other: Rounded | Array | float) -> Rounded:
        y = self._beside(other)
        product = self.x * y.x
        error = self.dx * np.abs(y.x) + (np.abs(self.x) + self.dx) * y.dx
        return Rounded(product, error + self.u * np.abs(product), self.u)

    def __matmul__(self, other: Rounded) -> Rounded:
        size, n = np.abs(self.x), self.x.shape[-1]
        error = self.dx @ np.abs(other.x) + (size + self.dx) @ other.dx
        return Rounded(self.x @ other.x, error + n * self.u * (size @ np.abs(other.x)), self.u)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Rounded:
        """The sum along an axis, or of everything."""
        n = self.x.size if axis is None else self.x.shape[axis]
        x, size = (np.sum(v, axis=axis, keepdims=keepdims) for v in (self.x, np.abs(self.x)))
        dx = np.sum(self.dx, axis=axis, keepdims=keepdims)
        return Rounded(np.asarray(x), np.asarray(dx + n * self.u * size), self.u)

    def times(self, c: float) -> Rounded:
        """c x without a rounding of its own."""
        return Rounded(c * self.x, np.abs(c) * self.dx, self.u)

    def apply(self, f: Callable[[Array], Array]) -> Rounded:
        """f of every element, kinks included."""
        return Rounded(*bounds.evaluate(f, self.x, self.dx, self.u), self.u)


def exact(x: Any, u: float) -> Rounded:
    """x without any error."""
    wide = np.asarray(x, np.float64)
    return Rounded(wide, np.zeros_like(wide), u)
