"""The kernels as functions on the caller's own arrays: one equation each.

Arrays are NumPy's, CuPy's, or another library's with DLPack, float32 or float64, all of one dtype;
m samples are rows. Those on a GPU are computed there, others on `backend`, or the one chosen as
everywhere (`use_backend`, $DELTAPROP_BACKEND, "auto"). Results are new arrays of the first
argument's kind; inputs are never changed. Wrong kinds and dtypes raise TypeError, wrong shapes
ValueError, both naming the argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deltaprop.activations import IDENTITY, Activation, activation_named
from deltaprop.arrays import as_input, back_to, check_rate, float_dtype, native_to
from deltaprop.backends import load as load_backend
from deltaprop.contract import Array, Kernels
from deltaprop.foreign import native, on_gpu
from deltaprop.losses import Loss, loss_named
from deltaprop.optimizers import DESCENT


class _Call:
    """The backend, dtype and kind of array of one call, taken from its first array."""

    def __init__(self, name: str, first: Any, backend: str | None) -> None:
        if backend is None and on_gpu(first):
            backend = f"cuda:{native(name, first).device.id}"
        self.k: Kernels = load_backend(backend)
        dtype = native_to(self.k, name, first).dtype
        try:
            self.dtype = float_dtype(dtype.newbyteorder("="))
        except ValueError:
            raise TypeError(f"{name} must be float32 or float64, got {dtype}") from None
        self.back: Callable[[Array], Array] = back_to(first, self.k)

    def array(self, name: str, x: Any, *shape: int | str) -> Array:
        x = native_to(self.k, name, x)
        if x.dtype.newbyteorder("=") != self.dtype:
            raise TypeError(f"{name} must be {self.dtype} as the first array is, got {x.dtype}")
        return as_input(name, x, self.dtype, shape, self.k)


def _unitwise(name: str | Activation) -> Activation:
    g = activation_named(name)
    if g.rowwise:
        raise ValueError(f"{g.name!r} is not unit-wise: see deltaprop.ops.softmax")
    return g


def _elementwise(name: str, x: Array, rule: Any, backend: str | None) -> Array:
    call = _Call(name, x, backend)
    flat = call.array(name, x, *x.shape).reshape(-1)
    return call.back(call.k.apply(rule, flat).reshape(x.shape))


def activate(z: Array, activation: str | Activation, backend: str | None = None) -> Array:
    """a = g(z), element by element; z of any shape."""
    return _elementwise("z", z, _unitwise(activation).value, backend)


def slope(s: Array, activation: str | Activation, backend: str | None = None) -> Array:
    """g'(z), element by element, of s of any shape: a or z, as the activation's `slope_of` says."""
    return _elementwise("s", s, _unitwise(activation).slope, backend)


def dense_forward(
    a_in: Array,
    W: Array,
    b: Array | None = None,
    activation: str | Activation = "identity",
    backend: str | None = None,
) -> tuple[Array, Array]:
    """z = a_in W^T + b and a = g(z), both (m, n), of a_in (m, n_in), W (n, n_in), b (n,)."""
    call, g = _Call("a_in", a_in, backend), _unitwise(activation)
    a_in = call.array("a_in", a_in, "m", "n_in")
    W = call.array("W", W, "n", a_in.shape[1])
    b = None if b is None else call.array("b", b, len(W))
    z, a = call.k.dense_forward(a_in, W, b, g, True)
    return call.back(z), call.back(a)


def softmax(z: Array, backend: str | None = None) -> Array:
    """exp(z_k) / sum_j exp(z_j) over each row of z (m, n)."""
    call = _Call("z", z, backend)
    return call.back(call.k.softmax(call.array("z", z, "m", "n")))


def log_softmax(z: Array, backend: str | None = None) -> Array:
    """z_k - ln sum_j exp(z_j) over each row of z (m, n)."""
    call = _Call("z", z, backend)
    return call.back(call.k.log_softmax(call.array("z", z, "m", "n")))


def sample_loss(s: Array, Y: Array, loss: str | Loss, backend: str | None = None) -> Array:
    """The error e (m,) of each sample, of s and targets Y (m, n), before the loss's scale.

    s is what the loss is taken from: a for the squared errors, z for "binary_cross_entropy",
    log_softmax(z) for "cross_entropy".
    """
    call = _Call("s", s, backend)
    s = call.array("s", s, "m", "n")
    e = call.k.sample_loss(s, call.array("Y", Y, *s.shape), loss_named(loss))
    return call.back(e.reshape(-1))


def output_delta(
    a: Array,
    Y: Array,
    loss: str | Loss = "half_mse",
    activation: str | Activation = "identity",
    z: Array | None = None,
    sample_weight: Array | None = None,
    backend: str | None = None,
) -> Array:
    """delta = dE/dz (m, n) of outputs a and targets Y (m, n), scaled as the loss says.

    z (m, n) is needed where the activation's slope is taken from it.
    """
    call, chosen, named = _Call("a", a, backend), loss_named(loss), activation_named(activation)
    if chosen.link and chosen.link != named.name:
        raise ValueError(
            f"loss {chosen.name!r} goes with activation={chosen.link!r}, got {named.name!r}"
        )
    g = IDENTITY if chosen.link else _unitwise(named)
    a = call.array("a", a, "m", "n")
    m, n = a.shape
    Y = call.array("Y", Y, m, n)
    s = a
    if g.slope_of == "z":
        if z is None:
            raise ValueError(f"the slope of {g.name!r} is taken from z: pass z")
        s = call.array("z", z, m, n)
    weights = None
    if sample_weight is not None:
        weights = call.array("sample_weight", sample_weight, m).reshape(m, 1)
    scale = chosen.delta_scale(m, n)
    return call.back(call.k.output_delta(a, Y, s, weights, chosen, g, scale, None))


def hidden_delta(
    delta_next: Array,
    W_next: Array,
    s: Array,
    activation: str | Activation = "logistic",
    backend: str | None = None,
) -> Array:
    """delta = (delta_next W_next) * g'(s), (m, n), in one kernel.

    delta_next (m, n_next), W_next (n_next, n); s (m, n) is the layer's a, or its z where the
    activation's `slope_of` is "z" (softplus, silu, gelu and others).
    """
    call, g = _Call("delta_next", delta_next, backend), _unitwise(activation)
    delta_next = call.array("delta_next", delta_next, "m", "n_next")
    W_next = call.array("W_next", W_next, delta_next.shape[1], "n")
    s = call.array("s", s, len(delta_next), W_next.shape[1])
    return call.back(call.k.hidden_delta(delta_next, W_next, s, g))


def fused_delta(
    d: Array,
    s: Array,
    activation: str | Activation = "logistic",
    backend: str | None = None,
) -> tuple[Array, Array]:
    """delta = d * g'(s), (m, n), and dE/db = its sum over samples, (n,), in one pass.

    d = delta_next W_next (m, n) is a product that the caller has made; s (m, n) is the layer's a,
    or its z where the activation's `slope_of` is "z" (softplus, silu, gelu and others).
    """
    call, g = _Call("d", d, backend), _unitwise(activation)
    d = call.array("d", d, "m", "n")
    s = call.array("s", s, *d.shape)
    db = call.k.arrays.empty(d.shape[1:], call.dtype)
    delta = call.k.fused_delta(d, s, g, db)
    return call.back(delta), call.back(db)


def softmax_delta(a: Array, upstream: Array, backend: str | None = None) -> Array:
    """delta = dE/dz (m, n) of a = softmax(z) and upstream = dE/da, both (m, n).

    delta_k = a_k (u_k - sum_j a_j u_j), row by row.
    """
    call = _Call("a", a, backend)
    a = call.array("a", a, "m", "n")
    return call.back(call.k.softmax_delta(a, call.array("upstream", upstream, *a.shape)))


def input_gradient(delta: Array, W: Array, backend: str | None = None) -> Array:
    """dE/da_in = delta W (m, n_in), of delta (m, n) and W (n, n_in)."""
    call = _Call("delta", delta, backend)
    delta = call.array("delta", delta, "m", "n")
    W = call.array("W", W, delta.shape[1], "n_in")
    s = call.k.arrays.empty((len(delta), W.shape[1]), call.dtype)
    return call.back(call.k.hidden_delta(delta, W, s, IDENTITY))


def weight_gradient(delta: Array, a_in: Array, backend: str | None = None) -> Array:
    """dE/dW = delta^T a_in (n, n_in), of delta (m, n) and a_in (m, n_in)."""
    call = _Call("delta", delta, backend)
    delta = call.array("delta", delta, "m", "n")
    a_in = call.array("a_in", a_in, len(delta), "n_in")
    return call.back(call.k.weight_gradient(delta, a_in, None))


def bias_gradient(delta: Array, backend: str | None = None) -> Array:
    """dE/db = the sum over samples of delta (m, n): (n,)."""
    call = _Call("delta", delta, backend)
    return call.back(call.k.bias_gradient(call.array("delta", delta, "m", "n"), None))


def descend(w: Array, g: Array, learning_rate: float, backend: str | None = None) -> Array:
    """w - eta g, rounded once, as a new array; w and g of any one shape."""
    call = _Call("w", w, backend)
    rate = check_rate("learning_rate", learning_rate, call.dtype)
    new = call.array("w", w, *w.shape).reshape(-1).copy()
    call.k.update(new, call.array("g", g, *w.shape).reshape(-1), (), DESCENT, (rate,))
    return call.back(new.reshape(w.shape))


__all__ = [
    "activate",
    "bias_gradient",
    "dense_forward",
    "descend",
    "fused_delta",
    "hidden_delta",
    "input_gradient",
    "log_softmax",
    "output_delta",
    "sample_loss",
    "slope",
    "softmax",
    "softmax_delta",
    "weight_gradient",
]
