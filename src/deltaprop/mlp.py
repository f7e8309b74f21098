"""Layered networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np

from deltaprop import equations
from deltaprop.activations import Activation, activation_named
from deltaprop.arrays import as_input, back_to, check_count, float_dtype
from deltaprop.backends import load as load_backend
from deltaprop.contract import Array, Form, Kernels, Steps
from deltaprop.equations import Batch, Layer, Outputs, Trace
from deltaprop.exchange import LayerExchange
from deltaprop.given import on_its_device
from deltaprop.losses import Loss
from deltaprop.net import TYPICAL_BATCH, Net
from deltaprop.optimizers import Optimizer
from deltaprop.parameters import Parameters, glorot, layer_shapes, total
from deltaprop.steps import Step, rate_of

T = TypeVar("T")


@dataclass(frozen=True)
class Back:
    """What the backward sweep saw: delta[l] belongs to layer l, as in `Trace`; delta[0] to none."""

    delta: tuple[Array | None, ...]
    gradients: Parameters
    input_gradient: Array | None


class MLP(LayerExchange, Net[Parameters]):
    """A layered network: z^l = a^{l-1} W^l^T + b^l, a^l = g^l(z^l).

    Parameters
    ----------
    sizes
        Units of each layer, inputs first: [784, 256, 10].
    activation
        Of the hidden layers: one name, or a list with one for each.
    output
        Activation of the last layer. "softmax" goes with the loss "cross_entropy".
    bias
        Whether layers have a bias b.
    seed
        Of the initial weights (Glorot uniform, PCG64; b = 0), the same on every backend.
    dtype
        "float32" or "float64": of parameters, activations and gradients.
    backend
        "cpu", "cuda" (CuPy's current GPU), "cuda:1" (the GPU of that number), "auto", or a name
        from `deltaprop.backends()`. Without one, the block `use_backend`, then
        $DELTAPROP_BACKEND, then "auto" decide, here and once.
    ensemble
        With a number n, so many nets of this shape at once: an `Ensemble`, whose arrays have
        the axis of members first.

    Attributes
    ----------
    parameters
        All W and b in one contiguous array; `layers[l].W` (n, n_in) and `layers[l].b` (n,)
        are views into it. Writing to them changes the net. Gradients are laid out alike:
        `gradients[l].W`, `gradients[l].b`, `gradients.flat`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Activation | Sequence[str | Activation] = "logistic",
        output: str | Activation = "identity",
        *,
        bias: bool = True,
        seed: int = 0,
        dtype: Any = "float32",
        backend: str | None = None,
        ensemble: int | None = None,
    ) -> None:
        self.ensemble = self._checked_ensemble(ensemble)
        self.sizes = _check_sizes(sizes)
        self.inputs, self.outputs = self.sizes[0], self.sizes[-1]
        self.activations = _activations(activation, output, len(self.sizes) - 2)
        if not isinstance(bias, (bool, np.bool_)):
            raise TypeError(f"bias must be True or False, got {bias!r}")
        self.bias = bool(bias)
        self.dtype = float_dtype(dtype)
        self.shapes = layer_shapes(self.sizes, self.bias)
        flat = self._initial(check_count("seed", seed, 0))
        self._place(flat, load_backend(backend, self._work()))

    def _checked_ensemble(self, ensemble: Any) -> int | None:
        """The number of members, if any; a net that is to have some becomes an `Ensemble`."""
        from deltaprop.ensemble import Ensemble

        if ensemble is not None and type(self) is MLP:
            self.__class__ = Ensemble
        if isinstance(self, Ensemble):
            return check_count("ensemble", ensemble)
        if ensemble is not None:
            raise TypeError(f"{type(self).__name__} takes no ensemble: derive it from Ensemble")
        return None

    def _initial(self, seed: int) -> np.ndarray:
        return glorot(self.shapes, seed, self.dtype)

    def _work(self) -> int:
        """Multiplications in the sweeps over a typical batch."""
        return 3 * TYPICAL_BATCH * total(self.shapes)

    def _bytes(self) -> int:
        """Of a sample: X and Y; z, a and delta of every layer."""
        return self.dtype.itemsize * (self.inputs + self.outputs + 3 * sum(self.sizes[1:]))

    def _place(self, flat: np.ndarray, k: Kernels) -> None:
        self._kernels = k
        self._numbers = Parameters(k.arrays.asarray(flat), self.shapes)
        form = Form(self.sizes, self.activations, self.bias, self.dtype)
        self._sweeps = k.sweeps(form) if k.sweeps else None
        self._replays = k.replays() if k.replays else None

    @property
    def kernels(self) -> Kernels:
        """The backend in use."""
        return self._kernels

    @property
    def _parameters(self) -> Parameters:
        return self._numbers

    @property
    def _output_activations(self) -> Sequence[Activation]:
        return self.activations[-1:]

    @property
    def layers(self) -> list[Layer]:
        """W, b and activation of every layer."""
        return [Layer(W, b, g) for (W, b), g in zip(self._parameters, self.activations)]

    def __repr__(self) -> str:
        names = ", ".join(g.name for g in self.activations)
        sizes = "-".join(map(str, self.sizes))
        return f"MLP({sizes}; {names}; {self.dtype}, backend {self.backend!r})"

    def to(self, backend: str | None = None, dtype: Any = None) -> Self:
        """A copy of the net on another backend, of another dtype.

        Going to float32 rounds the parameters.
        """
        state = self.__getstate__()
        if backend is not None:
            state["_kernels"] = backend
        if dtype is not None:
            state["dtype"] = float_dtype(dtype)
        copy = type(self).__new__(type(self))
        copy.__setstate__(state)
        return copy

    def __getstate__(self) -> dict[str, Any]:
        """All that the net is; its backend by name, its numbers as a NumPy array.

        What an optimizer remembers stays behind.
        """
        flat = self.kernels.arrays.to_numpy(self.parameters)
        state = {**self.__dict__, "_kernels": self.backend, "_numbers": flat}
        del state["_sweeps"], state["_replays"]
        state.pop("_state", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        flat = np.array(state["_numbers"], self.dtype)
        self._place(flat, load_backend(state["_kernels"], self._work()))

    def _view(self, flat: Array) -> MLP:
        """One net of this form whose parameters are `flat` (P,)."""
        net = MLP.__new__(MLP)
        net.__dict__.update(self.__dict__, ensemble=None, _numbers=Parameters(flat, self.shapes))
        net.__dict__.pop("_members", None)  # of an earlier buffer
        return net

    # -------------------------------------------------------------------------- sweeps

    @on_its_device
    def forward(self, X: Array) -> Trace:
        """z[l] and a[l] of every layer l = 1, ..., L; a[0] is X and z[0] is None."""
        self._require_one("forward")
        trace = self._forward(X, keep_z=True)
        back = back_to(X, self.kernels)
        return Trace(tuple(_each(back, trace.z)), (X, *_each(back, trace.a[1:])))

    def _forward(self, X: Array, keep_z: bool = False) -> Trace:
        return equations.forward(self.kernels, self.layers, self._inputs(X), keep_z)

    @on_its_device
    def backward(
        self,
        trace: Trace,
        Y: Array,
        loss: str | Loss | None = None,
        sample_weight: Array | None = None,
        input_gradient: bool = False,
    ) -> Back:
        """delta of every layer and all gradients, from a `forward` with the same parameters.

        With `input_gradient`, dE/dX (m, n_in) too. Arguments as of `value_and_grad`.
        """
        self._require_one("backward")
        k, here = self.kernels, self._trace_here(trace)
        back = back_to(trace.a[0], k)
        chosen, batch = self._batch(Y, loss, sample_weight, len(here.a[0]))
        gradients = self._empty_gradients()
        deltas = equations.backward(k, self.layers, here, batch, chosen, gradients)
        dX = equations.input_gradient(k, self.layers, here, deltas) if input_gradient else None
        return self._back(back, deltas, gradients, dX)

    @on_its_device
    def pull_back(self, trace: Trace, upstream: Array) -> Back:
        """delta of every layer, all gradients and dE/dX, for any E of the outputs.

        `trace` is from a `forward` with the same parameters, `upstream` (m, outputs) is dE/da^L,
        of the net's dtype. Raises TypeError for another kind or dtype, ValueError for another
        shape.
        """
        self._require_one("pull_back")
        k, here = self.kernels, self._trace_here(trace)
        shape = len(here.a[0]), self.outputs
        upstream = as_input("upstream", upstream, self.dtype, shape, k)
        gradients = self._empty_gradients()
        deltas = equations.pull_back(k, self.layers, here, upstream, gradients)
        dX = equations.input_gradient(k, self.layers, here, deltas)
        return self._back(back_to(trace.a[0], k), deltas, gradients, dX)

    def _empty_gradients(self) -> Parameters:
        empty = self.kernels.arrays.empty((total(self.shapes),), self.dtype)
        return Parameters(empty, self.shapes)

    def _back(
        self,
        back: Callable[[Array], Array],
        deltas: Sequence[Array],
        gradients: Parameters,
        dX: Array | None,
    ) -> Back:
        """What a backward sweep found, in the caller's kind of array."""
        (dX,) = _each(back, [dX])
        flat = back(gradients.flat)
        return Back((None, *_each(back, deltas)), Parameters(flat, self.shapes), dX)

    def _trace_here(self, trace: Trace) -> Trace:
        """The trace on this net's backend, its shapes checked."""
        if not isinstance(trace, Trace):
            raise TypeError(f"trace must be what forward returned, got {type(trace).__name__}")
        if not len(trace.a) == len(trace.z) == len(self.sizes):
            raise ValueError(
                f"trace has {len(trace.a) - 1} layers, but the net has {len(self.sizes) - 1}"
            )

        def here(symbol: str, l: int, m: int | str) -> Array:
            x = getattr(trace, symbol)[l]
            return as_input(f"trace.{symbol}[{l}]", x, self.dtype, (m, self.sizes[l]), self.kernels)

        X = here("a", 0, "m")
        z, a = ([here(s, l, len(X)) for l in range(1, len(self.sizes))] for s in "za")
        return Trace((None, *z), (X, *a))

    def _like_parameters(self, flat: Array) -> Parameters:
        return Parameters(flat, self.shapes)

    def _forward_outputs(self, X: Array) -> Outputs:
        return equations.forward(self.kernels, self.layers, X).outputs

    def _predict(self, X: Array) -> Array:
        if self._sweeps:
            return self._sweeps.outputs(self.parameters, X)
        return super()._predict(X)

    def _error(self, X: Array, batch: Batch, loss: Loss) -> Array:
        if self._sweeps:
            return self._sweeps.error(self.parameters, X, batch, loss)
        return super()._error(X, batch, loss)

    def _sweep(self, X: Array, batch: Batch, loss: Loss) -> tuple[Array, Array]:
        if self._sweeps:
            return self._sweeps.gradient(self.parameters, X, batch, loss)
        k, layers = self.kernels, self.layers
        gradients = self._empty_gradients()
        trace = equations.forward(k, layers, X)
        error = equations.sum_of_errors(k, trace.outputs, batch, loss)
        equations.backward(k, layers, trace, batch, loss, gradients)
        return error, gradients.flat

    def _step(self, X: Array, batch: Batch, loss: Loss, step: Step, part: int | None) -> Array:
        rate = rate_of(step)
        if self._sweeps and part is None and rate is not None:
            error = self._sweeps.step(self.parameters, X, batch, loss, rate)
            self._take(step, None)
            return error
        return super()._step(X, batch, loss, step, part)

    def _steps(
        self, X: Array, batch: Batch, loss: Loss, steps: Steps, optimizer: Optimizer | None = None
    ) -> Sequence[Any]:
        if self._sweeps and optimizer is None:
            errors = self._sweeps.steps(self.parameters, X, batch, loss, steps)
            if errors is not None:
                return self._losses_of(errors, batch, loss, steps.size)
        return super()._steps(X, batch, loss, steps, optimizer)

    def _losses_of(
        self, errors: Sequence[Array], batch: Batch, loss: Loss, size: int
    ) -> Sequence[Any]:
        """E of each step, from the errors (some steps, members)."""
        there = np.concatenate([self.kernels.arrays.to_numpy(x) for x in errors])
        last = batch.samples % size or size
        m = [size] * (len(there) - 1) + [last]
        scales = np.array([loss.scale(n, self.outputs) for n in m], self.dtype)
        with np.errstate(all="ignore"):
            return list((there * scales[:, None]).reshape(-1, *self._losses))

    def _ready(self, X: Array, Y: Array, loss: str | Loss | None) -> Any:
        return self._sweeps.ready(X, Y, loss) if self._sweeps else None

    def _is_ready(self, name: str | Loss | None, loss: Loss) -> None:
        if self._sweeps:
            self._sweeps.is_ready(name, loss)

    def _bounds(self, X: np.ndarray, batch: Batch, loss: Loss, u: float) -> np.ndarray:
        from deltaprop.bounds import gradient_bounds

        layers = [
            Layer(W.astype(np.float64), None if b is None else b.astype(np.float64), g)
            for W, b, g in self.layers
        ]
        bounds = gradient_bounds(layers, X, batch, loss, u)
        return np.concatenate([x.reshape(-1) for layer in bounds for x in layer if x is not None])


def _each(f: Callable[[Array], T], arrays: Sequence[Array | None]) -> list[T | None]:
    return [None if x is None else f(x) for x in arrays]


def _check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or len(sizes) < 2:
        raise ValueError(f"sizes must list inputs and at least one layer, got {sizes!r}")
    return tuple(check_count(f"sizes[{i}]", n) for i, n in enumerate(sizes))


def _activations(
    hidden: str | Activation | Sequence[str | Activation], output: str | Activation, count: int
) -> tuple[Activation, ...]:
    """The activation of each layer; softmax may only be the last."""
    names = [hidden] * count if isinstance(hidden, (str, Activation)) else hidden
    if not isinstance(names, Sequence):
        raise TypeError(f"activation must be a name or a list of them, got {hidden!r}")
    if len(names) != count:
        raise ValueError(f"activation lists {len(names)}, but there are {count} hidden layers")
    chosen = [activation_named(name) for name in names]
    for l, g in enumerate(chosen, start=1):
        if g.rowwise:
            raise ValueError(f"{g.name!r} is for the output; got it for hidden layer {l}")
    return (*chosen, activation_named(output))
