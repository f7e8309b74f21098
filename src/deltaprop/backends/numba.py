"""The numba backend: the specification's sums and rules as compiled loops, exact."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from deltaprop.activations import Activation
from deltaprop.backends import reference
from deltaprop.backends.edges import edge_gradients, edge_sums, finish_delta, finish_forward
from deltaprop.backends.jit import (
    LEVELS,
    compiled,
    fma_rn,
    kernel,
    ordered_dot,
    ordered_product,
    ordered_sum,
)
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES, Array, Fan, Kernels
from deltaprop.elementary import exp, log
from deltaprop.losses import Loss
from deltaprop.scalar import Rule
from deltaprop.subnormals import SubnormalsFlushedError

PARALLEL_WORK = 1 << 18
"""Multiplications from which a product is worth waking other threads for."""

_one_at_a_time = Lock()
"""Where Numba has no OpenMP, two callers of its threads at once would end the process."""


def _run(
    kernel: Callable[[np.dtype[Any], bool], Any], work: int, dtype: np.dtype[Any], *args: Any
) -> None:
    """A kernel of that dtype on args, by several threads where the multiplications are many."""
    tiny, kept = np.finfo(dtype).smallest_subnormal, np.ones(1, dtype)
    parallel = work >= PARALLEL_WORK
    compiled_kernel = kernel(dtype, parallel)
    with _one_at_a_time if parallel else nullcontext():
        compiled_kernel(*args, tiny, kept)
    if not kept[0]:
        raise SubnormalsFlushedError


def _product(A: Array, B: Array, leaf: int, out: Array | None = None) -> Array:
    C = np.empty((A.shape[0], B.shape[1]), A.dtype) if out is None else out
    _run(ordered_product, A.size * B.shape[1], A.dtype, A, B, leaf, C)
    return C


@cache
def _apply(f: Rule, dtype: np.dtype[Any]) -> Any:
    f = compiled(f, dtype)

    @kernel(dtype, "Vv")
    def apply(x, y):  # type: ignore[no-untyped-def]
        for i in range(x.size):
            y[i] = f(x[i])

    return apply


def apply(f: Rule, x: Array) -> Array:
    y = np.empty_like(x)
    _apply(f, x.dtype)(x.reshape(-1), y.reshape(-1))
    return y


@cache
def _bias_value(value: Rule, dtype: np.dtype[Any], bias: bool, keep_z: bool) -> Any:
    """a = g(z + b); with keep_z, z becomes z + b. Otherwise z and a are one: no loop reads both."""
    g = compiled(value, dtype)

    @kernel(dtype, "mVm")
    def bias_value(z, b, a):  # type: ignore[no-untyped-def]
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                if keep_z:
                    z[i, j] = z[i, j] + b[j] if bias else z[i, j]
                    a[i, j] = g(z[i, j])
                else:
                    a[i, j] = g(a[i, j] + b[j] if bias else a[i, j])

    return bias_value


def dense_forward(
    a_in: Array, W: Array, b: Array | None, g: Activation, keep_z: bool
) -> tuple[Array | None, Array]:
    z = _product(a_in, np.ascontiguousarray(W.T), LEAF_FEATURES)
    a = np.empty_like(z) if keep_z else z
    unused = W[0] if b is None else b
    _bias_value(g.value, z.dtype, b is not None, keep_z)(z, unused, a)
    return (z if keep_z else None), a


@cache
def _softmax(dtype: np.dtype[Any], log_form: bool) -> Any:
    exp_, log_ = compiled(exp, dtype), compiled(log, dtype)

    @kernel(dtype, "MVm")
    def softmax(z, ones, p):  # type: ignore[no-untyped-def]
        nodes = np.empty((LEVELS, 1), z.dtype)
        for i in range(z.shape[0]):
            largest = z[i, 0]
            for k in range(1, z.shape[1]):
                largest = max(largest, z[i, k])
            for k in range(z.shape[1]):
                p[i, k] = exp_(z[i, k] - largest)
            # 1 * e rounds to e: the fma chain is the plain sum.
            total = ordered_dot(ones, p[i], LEAF_FEATURES, nodes)
            for k in range(z.shape[1]):
                if log_form:
                    p[i, k] = (z[i, k] - largest) - log_(total)
                else:
                    p[i, k] = p[i, k] / total

    return softmax


def softmax(z: Array, log_form: bool = False) -> Array:
    p = np.empty_like(z)
    _softmax(z.dtype, log_form)(z, np.ones(z.shape[1], z.dtype), p)
    return p


def log_softmax(z: Array) -> Array:
    return softmax(z, log_form=True)


@cache
def _sample_loss(factors: tuple[Rule, Rule], dtype: np.dtype[Any]) -> Any:
    x, v = (compiled(f, dtype) for f in factors)

    @kernel(dtype, "MMm")
    def sample_loss(s, Y, e):  # type: ignore[no-untyped-def]
        n = s.shape[1]
        nodes = np.empty((LEVELS, 1), s.dtype)
        xs, vs = np.empty(n, s.dtype), np.empty(n, s.dtype)
        for i in range(s.shape[0]):
            for k in range(n):
                xs[k] = x(s[i, k], Y[i, k])
                vs[k] = v(s[i, k], Y[i, k])
            e[i, 0] = ordered_dot(xs, vs, LEAF_FEATURES, nodes)

    return sample_loss


def sample_loss(s: Array, Y: Array, loss: Loss) -> Array:
    e = np.empty((len(s), 1), s.dtype)
    _sample_loss(loss.factors, s.dtype)(s, Y, e)
    return e


@cache
def _output_delta(residual: Rule, slope: Rule, dtype: np.dtype[Any], weighted: bool) -> Any:
    r, g_slope = compiled(residual, dtype), compiled(slope, dtype)

    @kernel(dtype, "MMMMrm")
    def output_delta(a, Y, s, weights, scale, delta):  # type: ignore[no-untyped-def]
        for i in range(a.shape[0]):
            c = weights[i, 0] * scale if weighted else scale
            for k in range(a.shape[1]):
                delta[i, k] = (r(a[i, k], Y[i, k]) * c) * g_slope(s[i, k])

    return output_delta


def output_delta(
    a: Array,
    Y: Array,
    s: Array,
    weights: Array | None,
    loss: Loss,
    g: Activation,
    scale: float,
) -> Array:
    delta = np.empty_like(a)
    kernel = _output_delta(loss.residual, g.slope, a.dtype, weights is not None)
    kernel(a, Y, s, a if weights is None else weights, a.dtype.type(scale), delta)
    return delta


@cache
def _times_slope(slope: Rule, dtype: np.dtype[Any]) -> Any:
    g_slope = compiled(slope, dtype)

    @kernel(dtype, "mM")
    def times_slope(delta, s):  # type: ignore[no-untyped-def]
        for i in range(delta.shape[0]):
            for j in range(delta.shape[1]):
                delta[i, j] = delta[i, j] * g_slope(s[i, j])

    return times_slope


def hidden_delta(delta_next: Array, W_next: Array, s: Array, g: Activation) -> Array:
    delta = _product(delta_next, W_next, LEAF_FEATURES)
    _times_slope(g.slope, delta.dtype)(delta, s)
    return delta


def weight_gradient(delta: Array, a_in: Array, out: Array | None) -> Array:
    return _product(delta.T, a_in, LEAF_SAMPLES, out)


def bias_gradient(delta: Array, out: Array | None) -> Array:
    out = np.empty(delta.shape[1], delta.dtype) if out is None else out
    ordered_sum(delta.dtype)(delta, LEAF_SAMPLES, out)
    return out


def edge_forward(
    a: Array, fan: Fan, w: Array, b: Array | None, g: Activation, keep_z: bool, out: Array | None
) -> tuple[Array | None, Array]:
    shape = len(fan.start) - 1, a.shape[1]
    out = np.empty(shape, a.dtype) if out is None else out
    z = np.empty(shape, a.dtype) if keep_z else out
    finish = finish_forward(g.value, a.dtype, b is not None, keep_z)
    _edge_sums(a, fan, w, finish, (a if b is None else b.reshape(-1, 1), z, out))
    return (z if keep_z else None), out


def edge_delta(
    delta: Array,
    fan: Fan,
    w: Array,
    s: Array,
    g: Activation,
    own: Array | None,
    out: Array | None,
) -> Array:
    out = np.empty_like(s) if out is None else out
    finish = finish_delta(g.slope, s.dtype, own is not None)
    _edge_sums(delta, fan, w, finish, (s, out if own is None else np.require(own, None, "W"), out))
    return out


def _edge_sums(x: Array, fan: Fan, w: Array, finish: Any, rows: tuple[Array, ...]) -> None:
    work = len(fan.peer) * x.shape[1]
    _run(edge_sums, work, x.dtype, x, fan.start, fan.peer, w, LEAF_FEATURES, finish, *rows)


def edge_gradient(delta: Array, a: Array, target: Array, source: Array, out: Array | None) -> Array:
    out = np.empty(len(target), delta.dtype) if out is None else out
    work = len(target) * delta.shape[1]
    row = out.reshape(1, -1)
    _run(edge_gradients, work, delta.dtype, delta, a, target, source, LEAF_SAMPLES, row)
    return out


@cache
def _descend(dtype: np.dtype[Any]) -> Any:
    @kernel(dtype, "vVr")
    def descend(w, g, eta):  # type: ignore[no-untyped-def]
        for i in range(w.size):
            w[i] = fma_rn(-eta, g[i], w[i])

    return descend


def descend(w: Array, g: Array, eta: float) -> None:
    _descend(w.dtype)(w, g, w.dtype.type(eta))


def kernels() -> Kernels:
    """The backend as a value."""
    return replace(
        reference.kernels(),
        name="numba",
        apply=apply,
        dense_forward=dense_forward,
        softmax=softmax,
        log_softmax=log_softmax,
        sample_loss=sample_loss,
        output_delta=output_delta,
        hidden_delta=hidden_delta,
        weight_gradient=weight_gradient,
        bias_gradient=bias_gradient,
        edge_forward=edge_forward,
        edge_delta=edge_delta,
        edge_gradient=edge_gradient,
        descend=descend,
    )
