"""A chain of layers for those who differentiate by themselves: forward, then back from any dE/da.

Arrays are the backend's own, C-contiguous and of one dtype; nothing is checked here. Parameters
are W (n, n_in) and b (n,), or None for it, of each layer in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltaprop import equations
from deltaprop.activations import Activation
from deltaprop.backends import load
from deltaprop.contract import Array, Form, Kernels, Sweeps
from deltaprop.equations import Batch, Gradient, Layer, Trace
from deltaprop.losses import PRODUCT

SMALL = 1 << 16
"""Parameters up to which a backend's whole sweep, though it begins with X again on the way back,
is faster than kernel by kernel."""


@dataclass(frozen=True)
class Chain:
    """The activations of the layers, and the name of a backend."""

    activations: tuple[Activation, ...]
    backend: str

    @property
    def kernels(self) -> Kernels:
        """The backend."""
        return load(self.backend)

    @property
    def ends_rowwise(self) -> bool:
        """Whether the outputs are a softmax, whose delta no whole sweep has."""
        return self.activations[-1].rowwise

    def whole(self, sizes: tuple[int, ...], bias: bool, dtype: str) -> Whole | None:
        """The whole sweeps of a small net of so many units, where the backend has them."""
        form, k = Form(sizes, self.activations, bias, np.dtype(dtype)), self.kernels
        sweeps = k.sweeps(form) if k.sweeps and form.count <= SMALL else None
        return Whole(sweeps) if sweeps else None

    # ------------------------------------------------------------------------ layer by layer

    def outputs(self, X: Array, parameters: Sequence[Array | None]) -> Array:
        """a^L (m, n)."""
        return equations.forward(self.kernels, self._layers(parameters), X).a[-1]

    def trace(self, X: Array, parameters: Sequence[Array | None]) -> list[Array]:
        """a^L, and what else `pull_back` takes: a of hidden layers, z where a slope needs it."""
        trace = equations.forward(self.kernels, self._layers(parameters), X)
        kept_z = [z for z, g in zip(trace.z[1:], self.activations) if g.slope_of == "z"]
        return [trace.a[-1], *trace.a[1:-1], *kept_z]

    def pull_back(
        self,
        upstream: Array,
        X: Array,
        parameters: Sequence[Array | None],
        trace: Sequence[Array],
        wanted: Sequence[bool],
    ) -> list[Array | None]:
        """dE/dX, then dE/dW and dE/db of each layer in turn: where wanted, else None.

        The way down ends at the lowest layer of which something is wanted.
        """
        k, (of_X, *of_parameters) = self.kernels, wanted
        first = 0 if of_X else of_parameters.index(True) // 2
        found = [
            k.arrays.empty(x.shape, X.dtype) if is_wanted and x is not None else None
            for x, is_wanted in zip(parameters, of_parameters)
        ]
        layers = self._layers(parameters)[first:]
        gradients = [Gradient(W, b) for W, b in zip(found[::2], found[1::2])][first:]
        seen = self._seen(X, trace, first)
        deltas = equations.pull_back(k, layers, seen, upstream, gradients)
        return [equations.input_gradient(k, layers, seen, deltas) if of_X else None, *found]

    def _seen(self, X: Array, trace: Sequence[Array], first: int) -> Trace:
        """What the layers from `first` on have seen."""
        a, *others = trace
        L = len(self.activations)
        z = iter(others[L - 1 :])
        z_or_none = [None, *(next(z) if g.slope_of == "z" else None for g in self.activations)]
        return Trace(tuple(z_or_none[first:]), (X, *others[: L - 1], a)[first:])

    def _layers(self, parameters: Sequence[Array | None]) -> list[Layer]:
        return [
            Layer(W, b, g)
            for W, b, g in zip(parameters[::2], parameters[1::2], self.activations, strict=True)
        ]


@dataclass(frozen=True)
class Whole:
    """The same in one call each way, for parameters in one flat array. There is no dE/dX."""

    sweeps: Sweeps

    def outputs(self, X: Array, flat: Array) -> Array:
        """a^L (m, n)."""
        return self.sweeps.outputs(flat, X)

    def pull_back(self, upstream: Array, X: Array, flat: Array) -> Array:
        """The gradient, as flat as the parameters."""
        batch = Batch(upstream, None, *upstream.shape)
        _, gradient = self.sweeps.gradient(flat, X, batch, PRODUCT)
        return gradient
