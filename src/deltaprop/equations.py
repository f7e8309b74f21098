"""Backpropagation, stated once.

    forward     z^l = a^{l-1} W^l^T + b^l            a^l = g^l(z^l)            a^0 = X
    output      delta^L = (dE/da^L) * g^L'(z^L)      E = scale * sum_i w_i e_i, or any E
    hidden      delta^l = (delta^{l+1} W^{l+1}) * g^l'(z^l)
    gradients   dE/dW^l = delta^l^T a^{l-1}          dE/db^l = sum_i delta^l_i
    input       dE/dX   = delta^1 W^1
    update      w <- w - eta dE/dw

`k` holds the kernels of a backend, one for each equation; no array library is named here.
Layers are counted from 0 in the code: `layers[l]` leads from `a[l]` to `a[l + 1]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from deltaprop.activations import IDENTITY, Activation
from deltaprop.contract import Array, Kernels
from deltaprop.losses import Loss


class Layer(NamedTuple):
    """W (n, n_in), b (n,) or None, and the activation of the n units."""

    W: Array
    b: Array | None
    activation: Activation


class Gradient(NamedTuple):
    """dE/dW (n, n_in) and dE/db (n,) or None of one layer."""

    W: Array
    b: Array | None


class OutputArrays(Protocol):
    """z and a (m, n) of the outputs."""

    @property
    def z(self) -> Array:
        """The pre-activations."""

    @property
    def a(self) -> Array:
        """The activations."""


class Outputs(NamedTuple):
    """z and a (m, n) of the outputs."""

    z: Array
    a: Array


@dataclass(frozen=True)
class Trace:
    """What the forward sweep saw. a[0] is X; z[l] and a[l] belong to layer l, z[0] to none.

    z[l] is None where nobody needs it.
    """

    z: tuple[Array | None, ...]
    a: tuple[Array, ...]

    @property
    def outputs(self) -> Outputs:
        """z^L and a^L."""
        return Outputs(self.z[-1], self.a[-1])


@dataclass(frozen=True)
class Batch:
    """Targets Y (m, n), sample weights (m, 1) or None, and the size of the whole batch.

    `samples` and `outputs` count the batch that the loss averages over, of which these m rows
    and n columns may be a part; they are what its scale is taken from.
    """

    Y: Array
    weights: Array | None
    samples: int
    outputs: int


def forward(k: Kernels, layers: Sequence[Layer], X: Array, keep_z: bool = False) -> Trace:
    """a^l = g^l(a^{l-1} W^l^T + b^l), from the first layer to the last.

    z is kept where the slope is taken from it, in the output layer, and with `keep_z`.
    """
    z, a = [None], [X]
    for l, (W, b, g) in enumerate(layers):
        keep = keep_z or g.slope_of == "z" or l == len(layers) - 1
        z_l, a_l = k.dense_forward(a[-1], W, b, g, keep)
        z.append(z_l)
        a.append(k.softmax(z_l) if g.rowwise else a_l)
    return Trace(tuple(z), tuple(a))


def slope_argument(g: Activation, z: Array, a: Array) -> Array:
    """The array that g' is taken from: a, or z."""
    return a if g.slope_of == "a" else z


def sum_of_errors(k: Kernels, outputs: OutputArrays, batch: Batch, loss: Loss) -> Array:
    """sum_i w_i e_i, an array of one element: the loss before its scale."""
    s = outputs.a if loss.of == "a" else outputs.z
    if loss.of == "log_softmax":
        s = k.log_softmax(s)
    e = k.sample_loss(s, batch.Y, loss)
    if batch.weights is None:
        return k.bias_gradient(e, None)
    return k.weight_gradient(e, batch.weights, None)


def output_delta(
    k: Kernels,
    outputs: OutputArrays,
    g: Activation,
    batch: Batch,
    loss: Loss,
    db: Array | None = None,
) -> Array:
    """delta^L = dE/dz^L, and with it dE/db^L, which `db` is filled with.

    With a canonical link the slope has cancelled: it is 1.
    """
    g = IDENTITY if loss.link else g
    scale = loss.delta_scale(batch.samples, batch.outputs)
    s = outputs.a if g.slope_of == "a" else outputs.z
    return k.output_delta(outputs.a, batch.Y, s, batch.weights, loss, g, scale, db)


def backward(
    k: Kernels,
    layers: Sequence[Layer],
    trace: Trace,
    batch: Batch,
    loss: Loss,
    gradients: Sequence[Gradient],
) -> list[Array]:
    """From a loss down: fills `gradients` and returns the delta of every layer."""
    g, db = layers[-1].activation, gradients[-1].b
    delta = output_delta(k, trace.outputs, g, batch, loss, db)
    return _way_down(k, layers, trace, delta, gradients)


def pull_back(
    k: Kernels,
    layers: Sequence[Layer],
    trace: Trace,
    upstream: Array,
    gradients: Sequence[Gradient],
) -> list[Array]:
    """As `backward`, for any E of which `upstream` (m, n) = dE/da^L is known.

    z is needed only where a slope is taken from it; a W or b that is None in `gradients` is
    left out.
    """
    g, db = layers[-1].activation, gradients[-1].b
    delta = pulled_delta(k, trace.outputs, g, upstream, db)
    return _way_down(k, layers, trace, delta, gradients)


def pulled_delta(
    k: Kernels, outputs: OutputArrays, g: Activation, upstream: Array, db: Array | None = None
) -> Array:
    """delta^L = upstream * g'(z^L), and with it dE/db^L, which `db` is filled with.

    That of a softmax is upstream times its Jacobian, row by row.
    """
    if not g.rowwise:
        return k.fused_delta(upstream, slope_argument(g, outputs.z, outputs.a), g, db)
    delta = k.softmax_delta(outputs.a, upstream)
    if db is not None:
        k.bias_gradient(delta, db)
    return delta


def _way_down(
    k: Kernels,
    layers: Sequence[Layer],
    trace: Trace,
    delta: Array,
    gradients: Sequence[Gradient],
) -> list[Array]:
    """From delta^L to delta^1, all of which are returned; fills `gradients`, but for dE/db^L."""
    deltas = [delta]
    for l in reversed(range(len(layers))):
        if gradients[l].W is not None:
            k.weight_gradient(deltas[0], trace.a[l], gradients[l].W)
        if l > 0:
            g, db = layers[l - 1].activation, gradients[l - 1].b
            s = slope_argument(g, trace.z[l], trace.a[l])
            deltas.insert(0, k.hidden_delta(deltas[0], layers[l].W, s, g))
            if db is not None:
                k.bias_gradient(deltas[0], db)
    return deltas


def input_gradient(
    k: Kernels, layers: Sequence[Layer], trace: Trace, deltas: Sequence[Array]
) -> Array:
    """dE/dX = delta^1 W^1."""
    return k.hidden_delta(deltas[0], layers[0].W, trace.a[0], IDENTITY)
