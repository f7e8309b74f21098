"""Layered networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from deltaprop import equations
from deltaprop.activations import Activation, activation_named
from deltaprop.arrays import (
    as_input,
    back_to,
    check_count,
    check_rate,
    float_dtype,
)
from deltaprop.backends import load as load_backend
from deltaprop.contract import LEAF_SAMPLES, Array, Kernels
from deltaprop.equations import Batch, Layer, Trace
from deltaprop.losses import Loss, loss_named
from deltaprop.parameters import Parameters, glorot, layer_shapes, total
from deltaprop.parts import sweep, sweep_in_parts
from deltaprop.targets import as_targets, as_weights

T = TypeVar("T")
TYPICAL_BATCH = 1024


@dataclass(frozen=True)
class Back:
    """What the backward sweep saw: delta[l] belongs to layer l, as in `Trace`; delta[0] to none."""

    delta: tuple[Array | None, ...]
    gradients: Parameters
    input_gradient: Array | None


class MLP:
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
        "cpu", "cuda", "auto", or a name from `deltaprop.backends()`. Without one, the block
        `use_backend`, then $DELTAPROP_BACKEND, then "auto" decide, here and once.

    Attributes
    ----------
    parameters
        All W and b in one contiguous array; `layers[l].W` (n, n_in) and `layers[l].b` (n,)
        are views into it. Writing to them changes the net.
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
    ) -> None:
        self.sizes = _check_sizes(sizes)
        self.activations = _activations(activation, output, len(self.sizes) - 2)
        if not isinstance(bias, (bool, np.bool_)):
            raise TypeError(f"bias must be True or False, got {bias!r}")
        self.bias = bool(bias)
        self.dtype = float_dtype(dtype)
        self.shapes = layer_shapes(self.sizes, self.bias)
        flat = glorot(self.shapes, check_count("seed", seed, 0), self.dtype)
        self._place(flat, load_backend(backend, self._work()))

    def _work(self) -> int:
        """Multiplications in the sweeps over a typical batch."""
        return 3 * TYPICAL_BATCH * total(self.shapes)

    def _place(self, flat: np.ndarray, k: Kernels) -> None:
        self.kernels = k
        self._parameters = Parameters(k.arrays.asarray(flat), self.shapes)

    @property
    def parameters(self) -> Array:
        """Every W and b, in one contiguous array."""
        return self._parameters.flat

    @property
    def layers(self) -> list[Layer]:
        """W, b and activation of every layer."""
        return [Layer(W, b, g) for (W, b), g in zip(self._parameters, self.activations)]

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self.kernels.name

    def __repr__(self) -> str:
        names = ", ".join(g.name for g in self.activations)
        sizes = "-".join(map(str, self.sizes))
        return f"MLP({sizes}; {names}; {self.dtype}, backend {self.backend!r})"

    def to(self, backend: str | None = None, dtype: Any = None) -> MLP:
        """A copy of the net on another backend, of another dtype.

        Going to float32 rounds the parameters.
        """
        copy = MLP.__new__(MLP)
        copy.sizes, copy.activations, copy.bias = self.sizes, self.activations, self.bias
        copy.dtype = self.dtype if dtype is None else float_dtype(dtype)
        copy.shapes = self.shapes
        flat = np.array(self.kernels.arrays.to_numpy(self.parameters), copy.dtype)
        name = self.backend if backend is None else backend
        copy._place(flat, load_backend(name, self._work()))
        return copy

    # -------------------------------------------------------------------------- sweeps

    def predict(self, X: Array) -> Array:
        """a^L (m, n_out) of inputs X (m, n_in)."""
        return back_to(X, self.kernels)(self._forward(X).a[-1])

    def forward(self, X: Array) -> Trace:
        """z[l] and a[l] of every layer l = 1, ..., L; a[0] is X and z[0] is None."""
        trace = self._forward(X, keep_z=True)
        back = back_to(X, self.kernels)
        return Trace(tuple(_each(back, trace.z)), tuple(_each(back, trace.a)))

    def _forward(self, X: Array, keep_z: bool = False) -> Trace:
        X = as_input("X", X, self.dtype, ("m", self.sizes[0]), self.kernels)
        return equations.forward(self.kernels, self.layers, X, keep_z)

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
        k, here = self.kernels, self._trace_here(trace)
        back = back_to(trace.a[0], k)
        chosen, batch = self._batch(Y, loss, sample_weight, len(here.a[0]))
        gradients = Parameters(k.arrays.empty((total(self.shapes),), self.dtype), self.shapes)
        delta = equations.output_delta(k, self.layers, here, batch, chosen)
        deltas = equations.backward(k, self.layers, here, delta, gradients)
        dX = equations.input_gradient(k, self.layers, here, deltas) if input_gradient else None
        return Back(
            (None, *_each(back, deltas)),
            Parameters(back(gradients.flat), self.shapes),
            None if dX is None else back(dX),
        )

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

    def value_and_grad(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        sample_weight: Array | None = None,
        micro_batch: int | None = None,
    ) -> tuple[float, Parameters]:
        """The loss E and its gradient with respect to every parameter.

        Parameters
        ----------
        X
            Inputs (m, n_in).
        Y
            Targets (m, n_out); for "cross_entropy" rows of probabilities that sum to 1, or
            labels (m,), integers from 0.
        loss
            "half_sse", "half_mse", "mse", "cross_entropy" or "binary_cross_entropy". Without
            one: "cross_entropy" after a softmax output, else "half_mse".
        sample_weight
            w (m,): each sample's error is multiplied by it. The scale stays 1/m.
        micro_batch
            Compute with that many samples at a time, a multiple of 64 (a power of two times 64
            is fastest): less memory, the same bits on an exact backend.

        Returns
        -------
        E and the gradients: `gradients[l].W`, `gradients[l].b`, and all of them in
        `gradients.flat`, in the kind of array that X is.
        """
        value, gradients = self._value_and_grad(X, Y, loss, sample_weight, micro_batch)
        return value(), Parameters(back_to(X, self.kernels)(gradients.flat), self.shapes)

    def _value_and_grad(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None,
        sample_weight: Array | None,
        micro_batch: int | None,
    ) -> tuple[Callable[[], float], Parameters]:
        """As `value_and_grad`, gradients where the backend has them, E when it is asked for."""
        k = self.kernels
        X = as_input("X", X, self.dtype, ("m", self.sizes[0]), k)
        chosen, batch = self._batch(Y, loss, sample_weight, len(X))
        if micro_batch is None:
            error, gradients = sweep(k, self.layers, self.shapes, X, batch, chosen)
        else:
            part = _check_part(micro_batch)
            error, gradients = sweep_in_parts(k, self.layers, self.shapes, X, batch, chosen, part)
        return (lambda: self._scaled(error, batch, chosen)), gradients

    def loss(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        sample_weight: Array | None = None,
    ) -> float:
        """E alone: the forward sweep. Arguments as of `value_and_grad`."""
        trace = self._forward(X)
        chosen, batch = self._batch(Y, loss, sample_weight, len(trace.a[0]))
        error = equations.sum_of_errors(self.kernels, trace, batch, chosen)
        return self._scaled(error, batch, chosen)

    def _scaled(self, error: Array, batch: Batch, loss: Loss) -> float:
        """scale * sum_i w_i e_i, one rounded multiplication."""
        scale = self.dtype.type(loss.scale(batch.samples, self.sizes[-1]))
        with np.errstate(all="ignore"):
            return float(self.kernels.arrays.to_numpy(error).reshape(()) * scale)

    def _batch(
        self, Y: Array, loss: str | Loss | None, weights: Array | None, m: int
    ) -> tuple[Loss, Batch]:
        chosen = self._loss(loss)
        targets = as_targets(Y, m, self.sizes[-1], self.dtype, chosen, self.kernels)
        return chosen, Batch(targets, as_weights(weights, m, self.dtype, self.kernels), m)

    def _loss(self, loss: str | Loss | None) -> Loss:
        output = self.activations[-1]
        if loss is None:
            loss = "cross_entropy" if output.rowwise else "half_mse"
        chosen = loss_named(loss)
        if chosen.link and chosen.link != output.name:
            raise ValueError(
                f"loss {chosen.name!r} goes with output={chosen.link!r}, "
                f"but this net has output={output.name!r}"
            )
        if output.rowwise and chosen.link != output.name:
            raise ValueError(
                f"output={output.name!r} goes with loss 'cross_entropy', got {chosen.name!r}"
            )
        return chosen

    # ------------------------------------------------------------------------ training

    def train_step(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        learning_rate: float = 0.1,
        sample_weight: Array | None = None,
    ) -> float:
        """One step of gradient descent, w <- w - eta dE/dw. Returns E before the step."""
        rate = check_rate("learning_rate", learning_rate, self.dtype)
        value, gradients = self._value_and_grad(X, Y, loss, sample_weight, None)
        self.kernels.descend(self.parameters, gradients.flat, rate)
        return value()

    def fit(self, X: Array, Y: Array, loss: str | Loss | None = None, **options: Any) -> Any:
        """Minibatch gradient descent; a `History` of the losses. See `deltaprop.training.fit`.

        Options: epochs, batch_size, learning_rate, sample_weight, validation, seed, progress.
        """
        from deltaprop.training import fit

        return fit(self, X, Y, loss, **options)

    def save(self, path: Any) -> None:
        """Writes the net to a safetensors file: see `deltaprop.files`."""
        from deltaprop.files import save

        save(self, path)

    @staticmethod
    def load(path: Any, backend: str | None = None) -> MLP:
        """The net that `save` wrote. Raises `ModelFileError` for any other file."""
        from deltaprop.files import load

        return load(path, backend)


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


def _check_part(micro_batch: int) -> int:
    part = check_count("micro_batch", micro_batch)
    if part % LEAF_SAMPLES:
        raise ValueError(f"micro_batch must be a multiple of {LEAF_SAMPLES}, got {part}")
    return part
