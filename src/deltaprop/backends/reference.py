"""The reference backend: the numerics specification, executed.

NumPy with emulated fma, written as the specification reads and for nothing else; every other
exact backend returns these bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from deltaprop.activations import Activation
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES, Array, Fan, Kernels
from deltaprop.devices.memory import NumpyArrays
from deltaprop.elementary import exp, log
from deltaprop.emulation import OPERATIONS, rule
from deltaprop.fma import fma
from deltaprop.losses import Loss
from deltaprop.optimizers import Rules, numbers_of
from deltaprop.scalar import Rule, trace
from deltaprop.subnormals import require_subnormals

F = TypeVar("F", bound=Callable[..., Any])


def exactly(kernel: F) -> F:
    """NaN and infinity propagate without a warning; subnormals are kept."""

    @wraps(kernel)
    def call(*args: Any) -> Any:
        require_subnormals()
        with np.errstate(all="ignore"):
            return kernel(*args)

    return call  # type: ignore[return-value]


def leaves(terms: int, length: int) -> list[range]:
    """The consecutive terms of each leaf."""
    return [range(i, min(i + length, terms)) for i in range(0, terms, length)]


def tree(nodes: list[Array]) -> Array:
    """Level by level, neighbours (2i, 2i + 1) are added; an odd last one is carried up."""
    while len(nodes) > 1:
        pairs = [x + y for x, y in zip(nodes[0::2], nodes[1::2], strict=False)]
        nodes = pairs + nodes[2 * len(pairs) :]
    return nodes[0]


def ordered_product(A: Array, B: Array, leaf: int) -> Array:
    """A B for A (m, K) and B (K, n): in each leaf s = fma(A[:, k], B[k], s), k ascending."""
    nodes = []
    for terms in leaves(A.shape[1], leaf):
        s = np.zeros((A.shape[0], B.shape[1]), A.dtype)
        for k in terms:
            s = fma(A[:, k, None], B[None, k], s)
        nodes.append(s)
    return tree(nodes)


def ordered_sum(V: Array, leaf: int) -> Array:
    """The sum of the rows of V (K, n): in each leaf s = s + V[k], k ascending."""
    nodes = []
    for terms in leaves(V.shape[0], leaf):
        s = np.zeros(V.shape[1], V.dtype)
        for k in terms:
            s = s + V[k]
        nodes.append(s)
    return tree(nodes)


def write(result: Array, out: Array | None) -> Array:
    """`result`, or `out` filled with it."""
    if out is None:
        return result
    out[...] = result
    return out


@exactly
def apply(f: Rule, x: Array) -> Array:
    return rule(f, x)


@exactly
def dense_forward(
    a_in: Array, W: Array, b: Array | None, g: Activation, keep_z: bool
) -> tuple[Array | None, Array]:
    z = ordered_product(a_in, W.T, LEAF_FEATURES)
    if b is not None:
        z = z + b
    return (z if keep_z else None), rule(g.value, z)


def _row_max(z: Array) -> Array:
    """The largest of each row, (m, 1); a NaN is passed over, to come back in the sum."""
    return np.fmax.reduce(z, axis=1, keepdims=True)


def _row_sum(x: Array) -> Array:
    return ordered_sum(x.T, LEAF_FEATURES)[:, None]


@exactly
def softmax(z: Array) -> Array:
    e = rule(exp, z - _row_max(z))
    return e / _row_sum(e)


@exactly
def log_softmax(z: Array) -> Array:
    shifted = z - _row_max(z)
    return shifted - rule(log, _row_sum(rule(exp, shifted)))


def _row_dot(x: Array, v: Array) -> Array:
    """sum_k x_k v_k of each row, (m, 1)."""
    nodes = []
    for terms in leaves(x.shape[1], LEAF_FEATURES):
        s = np.zeros(x.shape[0], x.dtype)
        for k in terms:
            s = fma(x[:, k], v[:, k], s)
        nodes.append(s)
    return tree(nodes)[:, None]


@exactly
def sample_loss(s: Array, Y: Array, loss: Loss) -> Array:
    return _row_dot(*(rule(f, s, Y) for f in loss.factors))


@exactly
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


@exactly
def fused_delta(d: Array, s: Array, g: Activation, db: Array | None) -> Array:
    delta = d * rule(g.slope, s)
    if db is not None:
        bias_gradient(delta, db)
    return delta


@exactly
def softmax_delta(a: Array, upstream: Array) -> Array:
    return a * (upstream - _row_dot(a, upstream))


@exactly
def hidden_delta(delta_next: Array, W_next: Array, s: Array, g: Activation) -> Array:
    return fused_delta(ordered_product(delta_next, W_next, LEAF_FEATURES), s, g, None)


@exactly
def weight_gradient(delta: Array, a_in: Array, out: Array | None) -> Array:
    return write(ordered_product(delta.T, a_in, LEAF_SAMPLES), out)


@exactly
def bias_gradient(delta: Array, out: Array | None) -> Array:
    return write(ordered_sum(delta, LEAF_SAMPLES), out)


def _edge_sums(x: Array, fan: Fan, w: Array) -> Array:
    """For each unit, the sum over its edges e of w_e x[peer_e]: (n, m)."""
    sums = np.zeros((len(fan.start) - 1, x.shape[1]), x.dtype)
    for j, (first, last) in enumerate(pairwise(fan.start)):
        if last > first:
            edges = slice(first, last)
            sums[j] = ordered_product(w[None, edges], x[fan.peer[edges]], LEAF_FEATURES)[0]
    return sums


@exactly
def edge_forward(
    a: Array, fan: Fan, w: Array, b: Array | None, g: Activation, keep_z: bool, out: Array | None
) -> tuple[Array | None, Array]:
    z = _edge_sums(a, fan, w)
    if b is not None:
        z = z + b[:, None]
    return (z if keep_z else None), write(rule(g.value, z), out)


@exactly
def edge_delta(
    delta: Array,
    fan: Fan,
    w: Array,
    s: Array,
    g: Activation,
    own: Array | None,
    out: Array | None,
) -> Array:
    through_edges = _edge_sums(delta, fan, w) * rule(g.slope, s)
    return write(through_edges if own is None else own + through_edges, out)


@exactly
def edge_gradient(delta: Array, a: Array, target: Array, source: Array, out: Array | None) -> Array:
    nodes = []
    for terms in leaves(delta.shape[1], LEAF_SAMPLES):
        s = np.zeros(len(target), delta.dtype)
        for i in terms:
            s = fma(delta[target, i], a[source, i], s)
        nodes.append(s)
    return write(tree(nodes), out)


@exactly
def update(
    w: Array, g: Array, states: Sequence[Array], rules: Rules, constants: Sequence[float]
) -> None:
    rounded = [w.dtype.type(c) for c in constants]
    for new, f in zip([*states, w], rules, strict=True):
        program = trace(f, w.dtype.name)
        new[...] = program.run(OPERATIONS, *numbers_of(w, g, states, rounded))


@exactly
def add(x: Array, y: Array) -> None:
    x += y


@exactly
def scale(x: Array, c: float) -> Array:
    return x * x.dtype.type(c)


def kernels() -> Kernels:
    """The backend as a value."""
    return Kernels(
        name="reference",
        arrays=NumpyArrays(),
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
        add=add,
        scale=scale,
    )
