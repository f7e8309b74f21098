"""Parameters and gradients: one contiguous buffer, with W and b of every layer as views.

The order in the buffer is W^1, b^1, W^2, b^2, ..., each row by row. The buffer of an ensemble has
one such row for each member.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from math import prod, sqrt
from typing import Any, Protocol, overload

import numpy as np

from deltaprop.contract import Array
from deltaprop.equations import Gradient

Shapes = Sequence[tuple[tuple[int, int], tuple[int] | None]]


class Flat(Protocol):
    """One number for each parameter: its value, its gradient, an error."""

    @property
    def flat(self) -> Array:
        """All of them in one contiguous array."""

    def named(self) -> Iterator[tuple[str, Array]]:
        """Views of `flat` by name, in its order."""

    def where(self, position: int) -> str:
        """What the number at a position of `flat` belongs to."""


def layer_shapes(
    sizes: Sequence[int], bias: bool
) -> list[tuple[tuple[int, int], tuple[int] | None]]:
    """The shapes of W and b of every layer of a net with units as in `sizes`."""
    return [((n, n_in), (n,) if bias else None) for n_in, n in pairwise(sizes)]


def total(shapes: Shapes) -> int:
    """How many numbers the buffer holds."""
    return sum(prod(W) + prod(b or (0,)) for W, b in shapes)


class Parameters(Sequence[Gradient]):
    """`flat`, a buffer of all parameters or all of their gradients; `[l].W` and `[l].b` view it.

    Of one net `flat` is (P,), W (n, n_in) and b (n,); of an ensemble (N, P), W (N, n, n_in) and
    b (N, n).
    """

    def __init__(self, flat: Array, shapes: Shapes) -> None:
        self.flat, self._shapes = flat, shapes

    @cached_property
    def _layers(self) -> list[Gradient]:
        """The views, made when one is asked for."""
        flat, layers, start = self.flat, [], 0
        for W_shape, b_shape in self._shapes:
            W = flat[..., start : start + prod(W_shape)].reshape(*flat.shape[:-1], *W_shape)
            start += prod(W_shape)
            b = None
            if b_shape is not None:
                b = flat[..., start : start + prod(b_shape)]
                start += prod(b_shape)
            layers.append(Gradient(W, b))
        return layers

    def __reduce__(self) -> tuple[type[Parameters], tuple[Array, Shapes]]:
        return Parameters, (self.flat, self._shapes)  # the views of a copy view the copy

    @overload
    def __getitem__(self, l: int) -> Gradient: ...
    @overload
    def __getitem__(self, l: slice) -> Sequence[Gradient]: ...
    def __getitem__(self, l: int | slice) -> Gradient | Sequence[Gradient]:
        return self._layers[l]

    def __len__(self) -> int:
        return len(self._shapes)

    def __repr__(self) -> str:
        shapes = ", ".join("x".join(map(str, layer.W.shape)) for layer in self._layers)
        return f"Parameters(W {shapes}; {prod(self.flat.shape)} numbers, {self.flat.dtype})"

    def named(self) -> Iterator[tuple[str, Array]]:
        """("0.W", W), ("0.b", b), ("1.W", ...) in the buffer's order."""
        for l, (W, b) in enumerate(self._layers):
            yield f"{l}.W", W
            if b is not None:
                yield f"{l}.b", b

    def where(self, position: int) -> str:
        """What the number at a position of `flat` belongs to: "0.W[2, 1]"."""
        if position >= prod(self.flat.shape):
            raise IndexError(f"there are {prod(self.flat.shape)} parameters")
        *member, rest = map(int, np.unravel_index(position, self.flat.shape))
        for name, x in self.named():
            shape = x.shape[len(member) :]
            if rest < prod(shape):
                index = *member, *map(int, np.unravel_index(rest, shape))
                return f"{name}[{', '.join(map(str, index))}]"
            rest -= prod(shape)
        raise AssertionError("the layers fill the buffer")


def glorot(shapes: Shapes, seed: int, dtype: np.dtype[Any]) -> np.ndarray:
    """W uniform in +-sqrt(6 / (n + n_in)) from PCG64(seed), drawn in float64; b zero.

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, equation 16.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    flat = np.zeros(total(shapes), dtype)
    for W, _ in Parameters(flat, shapes):
        limit = sqrt(6 / sum(W.shape))
        W[...] = random.uniform(-limit, limit, W.shape)
    return flat
