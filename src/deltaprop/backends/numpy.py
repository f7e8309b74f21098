"""The numpy backend: BLAS for the products, ufuncs for the rest.

Not exact: a BLAS orders its sums as it likes and NumPy's exp is not ours. It agrees with the
exact backends within the bound of the specification, and is what a CPU without fma can run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from deltaprop import elementary as el
from deltaprop.activations import Activation
from deltaprop.backends import reference
from deltaprop.contract import Array, Kernels
from deltaprop.losses import Loss
from deltaprop.periodic import cos, sin
from deltaprop.scalar import Rule, trace

NATIVE: dict[Rule, Callable[..., Any]] = {
    el.exp: np.exp,
    el.expm1: np.expm1,
    el.log: np.log,
    el.log1p: np.log1p,
    el.tanh: np.tanh,
    sin: np.sin,
    cos: np.cos,
}
OPERATIONS = (
    reference.OPERATIONS
    | {"fma": lambda x, y, z: x * y + z}
    | {trace(f, "float32").symbol: native for f, native in NATIVE.items()}
)


quiet = np.errstate(all="ignore")
"""A decorator: NaN and infinity propagate without a warning."""


def rule(f: Rule, *arrays: Array) -> Array:
    """f of arrays of one dtype, element by element."""
    if f in NATIVE:
        return np.asarray(NATIVE[f](*arrays))
    result = trace(f, arrays[0].dtype.name).run(OPERATIONS, *arrays)
    return np.broadcast_to(result, arrays[0].shape)


@quiet
def apply(f: Rule, x: Array) -> Array:
    return np.array(rule(f, x))


@quiet
def dense_forward(
    a_in: Array, W: Array, b: Array | None, g: Activation, keep_z: bool
) -> tuple[Array | None, Array]:
    z = a_in @ W.T
    if b is not None:
        z += b
    return (z if keep_z else None), np.array(rule(g.value, z))


@quiet
def softmax(z: Array) -> Array:
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


@quiet
def log_softmax(z: Array) -> Array:
    shifted = z - np.max(z, axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


@quiet
def sample_loss(s: Array, Y: Array, loss: Loss) -> Array:
    x, v = (rule(f, s, Y) for f in loss.factors)
    return np.sum(x * v, axis=1, keepdims=True)


@quiet
def output_delta(
    a: Array,
    Y: Array,
    s: Array,
    weights: Array | None,
    loss: Loss,
    g: Activation,
    scale: float,
) -> Array:
    c = a.dtype.type(scale)
    delta = rule(loss.residual, a, Y) * (c if weights is None else weights * c)
    return delta * rule(g.slope, s)


@quiet
def hidden_delta(delta_next: Array, W_next: Array, s: Array, g: Activation) -> Array:
    delta = delta_next @ W_next
    delta *= rule(g.slope, s)
    return delta


@quiet
def weight_gradient(delta: Array, a_in: Array, out: Array | None) -> Array:
    return np.matmul(delta.T, a_in, out=out)


@quiet
def bias_gradient(delta: Array, out: Array | None) -> Array:
    return np.sum(delta, axis=0, out=out)


@quiet
def descend(w: Array, g: Array, eta: float) -> None:
    w -= w.dtype.type(eta) * g


def kernels() -> Kernels:
    """The backend as a value."""
    return replace(
        reference.kernels(),
        name="numpy",
        apply=apply,
        dense_forward=dense_forward,
        softmax=softmax,
        log_softmax=log_softmax,
        sample_loss=sample_loss,
        output_delta=output_delta,
        hidden_delta=hidden_delta,
        weight_gradient=weight_gradient,
        bias_gradient=bias_gradient,
        descend=descend,
    )
