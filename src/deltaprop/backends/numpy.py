"""The numpy backend: BLAS for the products, ufuncs for the rest.

Not exact: a BLAS orders its sums as it likes and NumPy's exp is not ours. It agrees with the
exact backends within the bound of the specification, and is what a CPU without fma can run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deltaprop import elementary as el
from deltaprop import emulation
from deltaprop.activations import Activation
from deltaprop.backends import reference
from deltaprop.contract import Array, Fan, Kernels
from deltaprop.losses import Loss
from deltaprop.optimizers import Rules, numbers_of
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
    emulation.OPERATIONS
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
    db: Array | None,
) -> Array:
    c = a.dtype.type(scale)
    d = rule(loss.residual, a, Y) * (c if weights is None else weights * c)
    return fused_delta(d, s, g, db)


@quiet
def fused_delta(d: Array, s: Array, g: Activation, db: Array | None) -> Array:
    delta = d * rule(g.slope, s)
    if db is not None:
        bias_gradient(delta, db)
    return delta


@quiet
def softmax_delta(a: Array, upstream: Array) -> Array:
    return a * (upstream - np.sum(a * upstream, axis=1, keepdims=True))


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


PRODUCTS = 1 << 20
"""How many products of edges and samples are in memory at a time."""


def edge_sums(x: Array, fan: Fan, w: Array) -> Array:
    """For each unit, the sum over its edges e of w_e x[peer_e]: (n, m)."""
    n, m = len(fan.start) - 1, x.shape[1]
    sums = np.zeros((n, m), x.dtype)
    some = max(1, PRODUCTS // m)
    first = 0
    while first < n:
        # As many units as have `some` edges together, at least one.
        last = max(first + 1, int(np.searchsorted(fan.start, fan.start[first] + some, "right")) - 1)
        edges = slice(fan.start[first], fan.start[last])
        begins = fan.start[first:last] - fan.start[first]
        here = first + np.flatnonzero(np.diff(fan.start[first : last + 1]))
        if here.size:
            products = w[edges, None] * x[fan.peer[edges]]
            sums[here] = np.add.reduceat(products, begins[here - first])
        first = last
    return sums


@quiet
def edge_forward(
    a: Array, fan: Fan, w: Array, b: Array | None, g: Activation, keep_z: bool, out: Array | None
) -> tuple[Array | None, Array]:
    z = edge_sums(a, fan, w)
    if b is not None:
        z += b[:, None]
    return (z if keep_z else None), reference.write(np.array(rule(g.value, z)), out)


@quiet
def edge_delta(
    delta: Array,
    fan: Fan,
    w: Array,
    s: Array,
    g: Activation,
    own: Array | None,
    out: Array | None,
) -> Array:
    through_edges = edge_sums(delta, fan, w)
    through_edges *= rule(g.slope, s)
    return reference.write(through_edges if own is None else own + through_edges, out)


@quiet
def edge_gradient(delta: Array, a: Array, target: Array, source: Array, out: Array | None) -> Array:
    out = np.empty(len(target), delta.dtype) if out is None else out
    some = max(1, PRODUCTS // delta.shape[1])
    for first in range(0, len(target), some):
        edges = slice(first, first + some)
        np.einsum("ei,ei->e", delta[target[edges]], a[source[edges]], out=out[edges])
    return out


@quiet
def update(
    w: Array, g: Array, states: Sequence[Array], rules: Rules, constants: Sequence[float]
) -> None:
    rounded = [w.dtype.type(c) for c in constants]
    for new, f in zip([*states, w], rules, strict=True):
        program = trace(f, w.dtype.name)
        new[...] = program.run(OPERATIONS, *numbers_of(w, g, states, rounded))


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
        fused_delta=fused_delta,
        softmax_delta=softmax_delta,
        hidden_delta=hidden_delta,
        weight_gradient=weight_gradient,
        bias_gradient=bias_gradient,
        edge_forward=edge_forward,
        edge_delta=edge_delta,
        edge_gradient=edge_gradient,
        update=update,
    )
