"""The numba backend: the specification's sums and rules as compiled loops, exact.

Each kernel of the contract by itself, and `sweeps`, layered nets in one call.
What is called here is compiled by `backends/loops`, once, and loaded from the disk after that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deltaprop.activations import Activation
from deltaprop.backends import reference, team
from deltaprop.backends.blocks import LINE, Memory
from deltaprop.backends.native import address, function
from deltaprop.backends.plans import CHUNK, PARALLEL_WORK, PARAMETER_WORK, columns_bytes
from deltaprop.backends.records import GRADIENT, LEVELS, PRODUCT, WIDTH
from deltaprop.backends.tiling import BLOCK, NEAR, digits, groups, panels, shape
from deltaprop.backends.whole import WholeSweeps
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES, Array, Fan, Kernels
from deltaprop.losses import Loss
from deltaprop.optimizers import STATES, Rules
from deltaprop.scalar import Rule
from deltaprop.subnormals import require_subnormals


def _call(where: int, *arguments: Any) -> None:
    """A function of integers, given integers and arrays."""
    require_subnormals()
    integers = [x.ctypes.data if isinstance(x, np.ndarray) else x for x in arguments]
    function(where, len(integers))(*integers)


def _threads(work: int) -> int:
    return max(1, min(team.get_num_threads(), work // PARALLEL_WORK))


def apply(f: Rule, x: Array) -> Array:
    y = np.empty_like(x)
    _call(address("rows.value", x.dtype, f), x, y, x.size)
    return y


def _product(
    x: Array,
    W: Array,
    transposed: bool,
    b: Array | None,
    c: Array,
    function: int,
    given: Array,
    made: Array,
) -> None:
    """c = x W^T + b or x W, then made = function(given); given and made may be c."""
    (rows, K), n, dtype, size = x.shape, c.shape[1], x.dtype, x.itemsize
    tile, threads = shape(dtype), _threads(x.size * n)
    chunk = min(CHUNK, -(-rows // threads))
    own = groups(chunk, dtype) * digits(-(-K // LEAF_FEATURES)) * tile.bytes + LINE
    scratch = Memory(threads * own)
    packed = Memory(panels(n, dtype) * K * tile.width * size)
    addresses = [0 if y is None else y.ctypes.data for y in (x, W, b, c, given, made)]
    x_, W_, b_, c_, given_, made_ = addresses
    words = (x_, W_, b_, c_, rows, K, n, transposed, function, given_, made_)
    block = np.array(
        [(*words, packed.at, scratch.at, own, chunk, team.memory())], PRODUCT, order="C"
    )
    team.run(address("kernels.product", dtype), block.ctypes.data, threads)


def dense_forward(
    a_in: Array, W: Array, b: Array | None, g: Activation, keep_z: bool
) -> tuple[Array | None, Array]:
    z = np.empty((len(a_in), len(W)), a_in.dtype)
    a = np.empty_like(z) if keep_z else z
    _product(a_in, W, True, b, z, address("rows.value", z.dtype, g.value), z, a)
    return (z if keep_z else None), a


def hidden_delta(delta_next: Array, W_next: Array, s: Array, g: Activation) -> Array:
    delta = np.empty((len(delta_next), W_next.shape[1]), delta_next.dtype)
    slope = address("rows.slope", delta.dtype, g.slope)
    _product(delta_next, W_next, False, None, delta, slope, s, delta)
    return delta


def weight_gradient(delta: Array, a_in: Array, out: Array | None) -> Array:
    (m, n), n_in, dtype = delta.shape, a_in.shape[1], delta.dtype
    out = np.empty((n, n_in), dtype) if out is None else out
    tile, threads = shape(dtype), _threads(delta.size * n_in)
    levels = max(0, digits(-(-m // LEAF_SAMPLES)) - NEAR)
    rows_at = NEAR * tile.bytes
    panel_at = rows_at + (groups(n, dtype) * tile.rows * BLOCK + LINE) * delta.itemsize
    own = -(-(panel_at + (BLOCK * tile.width + LINE) * delta.itemsize) // LINE) * LINE
    scratch = Memory(threads * own)
    far = Memory(panels(n_in, dtype) * (groups(n, dtype) + threads) * levels * tile.bytes)
    arrays = delta.ctypes.data, a_in.ctypes.data, out.ctypes.data
    block = np.array(
        [(*arrays, m, n, n_in, scratch.at, own, rows_at, panel_at, far.at, levels)], GRADIENT
    )
    team.run(address("kernels.gradient", dtype), block.ctypes.data, threads)
    return out


def bias_gradient(delta: Array, out: Array | None) -> Array:
    m, n = delta.shape
    out = np.empty(n, delta.dtype) if out is None else out
    step = -(-n * delta.itemsize // LINE) * LINE
    nodes = Memory(digits(-(-m // LEAF_SAMPLES)) * step)
    _call(address("kernels.column_sums", delta.dtype), delta, m, n, nodes.at, step, out)
    return out


def softmax(z: Array, log_form: bool = False) -> Array:
    p, (rows, n) = np.empty_like(z), z.shape
    step = n * z.itemsize
    where = address("outputs.softmax", z.dtype, log_form)
    _call(where, z, step, p, step, rows, n, np.empty(columns_bytes(z.dtype), np.uint8))
    return p


def log_softmax(z: Array) -> Array:
    return softmax(z, log_form=True)


def _row_dot(x: Array, v: Array) -> Array:
    """sum_k x_k v_k of each row, (m, 1)."""
    (m, n), dots = x.shape, np.empty((len(x), 1), x.dtype)
    scratch = np.empty(columns_bytes(x.dtype), np.uint8)
    _call(address("kernels.dots", x.dtype), x, v, m, n, dots, scratch)
    return dots


def sample_loss(s: Array, Y: Array, loss: Loss) -> Array:
    x, v = np.empty_like(s), np.empty_like(s)
    _call(address("rows.factors", s.dtype, *loss.factors), s, Y, x, v, s.size)
    return _row_dot(x, v)


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
    delta, c = np.empty_like(a), np.full_like(a, scale)
    if weights is not None:
        with np.errstate(all="ignore"):
            c *= weights
    where = address("rows.residual", a.dtype, loss.residual, g.slope)
    _call(where, a, Y, s, c, delta, a.size)
    if db is not None:
        bias_gradient(delta, db)
    return delta


def fused_delta(d: Array, s: Array, g: Activation, db: Array | None) -> Array:
    delta = d.copy()
    _call(address("rows.slope", d.dtype, g.slope), s, delta, d.size)
    if db is not None:
        bias_gradient(delta, db)
    return delta


def softmax_delta(a: Array, upstream: Array) -> Array:
    delta, (m, n) = np.empty_like(a), a.shape
    where = address("rows.softmax_delta", a.dtype)
    _call(where, a, upstream, _row_dot(a, upstream), delta, m, n)
    return delta


def edge_forward(
    a: Array, fan: Fan, w: Array, b: Array | None, g: Activation, keep_z: bool, out: Array | None
) -> tuple[Array | None, Array]:
    shape = len(fan.start) - 1, a.shape[1]
    out = np.empty(shape, a.dtype) if out is None else out
    z = np.empty(shape, a.dtype) if keep_z else out
    finish = address("edges.forward", a.dtype, g.value, b is not None)
    _edge_sums(a, fan, w, finish, (a if b is None else b), a.itemsize, z, out)
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
    finish = address("edges.delta", s.dtype, g.slope, own is not None)
    step = s.shape[1] * s.itemsize
    _edge_sums(delta, fan, w, finish, s, step, (out if own is None else own), out)
    return out


def _edge_sums(
    x: Array, fan: Fan, w: Array, finish: int, s: Array, s_step: int, t: Array, out: Array
) -> None:
    threads = _threads(len(fan.peer) * x.shape[1])
    nodes = np.empty((threads, LEVELS, WIDTH // x.itemsize), x.dtype)
    s_, t_ = s.ctypes.data, t.ctypes.data
    where = address("edges.edge_sums", x.dtype)
    _run(where, threads, x, fan.start, fan.peer, w, finish, s_, s_step, t_, out, nodes)


def edge_gradient(delta: Array, a: Array, target: Array, source: Array, out: Array | None) -> Array:
    out = np.empty(len(target), delta.dtype) if out is None else out
    threads = _threads(len(target) * delta.shape[1])
    nodes = np.empty((threads, LEVELS, LINE // delta.itemsize), delta.dtype)
    row, where = out.reshape(1, -1), address("edges.edge_gradients", delta.dtype)
    _run(where, threads, delta, a, target, source, row, nodes)
    return out


def _run(where: int, threads: int, *arguments: Any) -> None:
    """An entry made by `kernel`, on integers and arrays."""
    words = [id(x) if isinstance(x, np.ndarray) else x for x in arguments]
    block = (ctypes.c_int64 * len(words))(*words)
    team.run(where, ctypes.addressof(block), threads)


def update(
    w: Array, g: Array, states: Sequence[Array], rules: Rules, constants: Sequence[float]
) -> None:
    absent, rounded = [w] * (STATES - len(states)), np.array(constants, w.dtype)
    threads, where = _threads(w.size * PARAMETER_WORK), address("updates.shared", w.dtype, *rules)
    _run(where, threads, w, g, *states, *absent, rounded, w.size)


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
        fused_delta=fused_delta,
        softmax_delta=softmax_delta,
        hidden_delta=hidden_delta,
        weight_gradient=weight_gradient,
        bias_gradient=bias_gradient,
        edge_forward=edge_forward,
        edge_delta=edge_delta,
        edge_gradient=edge_gradient,
        update=update,
        sweeps=WholeSweeps,
    )
