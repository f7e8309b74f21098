"""The calls of a kernel for what `roofline` says of it, on arrays that a cache does not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deltaprop.backends.grids import TILES
from deltaprop.backends.launches import Launches
from deltaprop.ceilings.clock import Call
from deltaprop.ceilings.limits import draw, library
from deltaprop.contract import Array, Fan, Kernels
from deltaprop.equations import Batch
from deltaprop.optimizers import OPTIMIZERS
from deltaprop.roofline import LOSS, G, Work, form_of

PRODUCTS = ("dense_forward", "hidden_delta", "weight_gradient")
LAUNCHED = ("tree_sum",)
"""Kernels that only a launch table has."""

COLD = 4
"""Sets of arrays are in all so many times as large as the second cache."""
MOST_SETS, MOST_BYTES = 64, 8 << 30


def sets_of(work: Work, cache: int) -> int:
    """How many sets of arrays take turns, so that each comes from memory."""
    cold = -(-COLD * cache // work.least) if cache else 1
    return max(1, min(cold, MOST_SETS, MOST_BYTES // work.least))


def is_cold(work: Work, cache: int) -> bool:
    """Whether they are more than the second cache holds, even once."""
    return sets_of(work, cache) * work.least > cache


def call_of(work: Work, k: Kernels, dtype: str) -> Call:
    """The kernel on new arrays."""
    make = CALLS.get(work.kernel)
    if make:
        return make(k, dtype, *work.shape)
    if work.kernel == "whole_sweep":
        return _whole(k, dtype, *work.shape)
    return _tree(k, dtype, *work.shape)


def _forward(k: Kernels, dtype: str, m: int, n: int, n_in: int) -> Call:
    a_in, W, b = draw(k, dtype, m, n_in), draw(k, dtype, n, n_in), draw(k, dtype, n)
    return lambda: k.dense_forward(a_in, W, b, G, False)


def _hidden(k: Kernels, dtype: str, m: int, n: int, n_in: int) -> Call:
    delta, W, a = draw(k, dtype, m, n), draw(k, dtype, n, n_in), draw(k, dtype, m, n_in)
    return lambda: k.hidden_delta(delta, W, a, G)


def _weights(k: Kernels, dtype: str, m: int, n: int, n_in: int) -> Call:
    delta, a_in = draw(k, dtype, m, n), draw(k, dtype, m, n_in)
    return lambda: k.weight_gradient(delta, a_in, None)


def _biases(k: Kernels, dtype: str, m: int, n: int, n_in: int) -> Call:
    delta = draw(k, dtype, m, n)
    return lambda: k.bias_gradient(delta, None)


def _apply(k: Kernels, dtype: str, m: int, n: int) -> Call:
    z = draw(k, dtype, m, n)
    return lambda: k.apply(G.value, z)


def _output(k: Kernels, dtype: str, m: int, n: int) -> Call:
    a, Y, db = draw(k, dtype, m, n), draw(k, dtype, m, n), draw(k, dtype, n)
    return lambda: k.output_delta(a, Y, a, None, LOSS, G, 1 / m, db)


def _fused(k: Kernels, dtype: str, m: int, n: int) -> Call:
    d, a, db = draw(k, dtype, m, n), draw(k, dtype, m, n), draw(k, dtype, n)
    return lambda: k.fused_delta(d, a, G, db)


def _sample(k: Kernels, dtype: str, m: int, n: int) -> Call:
    a, Y = draw(k, dtype, m, n), draw(k, dtype, m, n)
    return lambda: k.sample_loss(a, Y, LOSS)


def _rows(kernel: str) -> Callable[..., Call]:
    def make(k: Kernels, dtype: str, m: int, n: int) -> Call:
        z, f = draw(k, dtype, m, n), getattr(k, kernel)
        return lambda: f(z)

    return make


def _softmax_delta(k: Kernels, dtype: str, m: int, n: int) -> Call:
    a, upstream = draw(k, dtype, m, n), draw(k, dtype, m, n)
    return lambda: k.softmax_delta(a, upstream)


def _update(k: Kernels, dtype: str, count: int, which: int) -> Call:
    kind: Any = list(OPTIMIZERS.values())[which]
    rules, constants = kind().rules, kind().constants(2.0**-20, 1)
    w, g, *states = (draw(k, dtype, count) for _ in range(1 + len(rules)))
    return lambda: k.update(w, g, states, rules, constants)


def _add(k: Kernels, dtype: str, count: int) -> Call:
    x, y = draw(k, dtype, count), draw(k, dtype, count)
    return lambda: k.add(x, y)


def _scale(k: Kernels, dtype: str, count: int) -> Call:
    x = draw(k, dtype, count)
    return lambda: k.scale(x, 0.5)


def _fan(k: Kernels, units: int, fan: int) -> tuple[Fan, Array]:
    """Edges of units with as many peers, drawn; and the unit that each edge belongs to."""
    peer = np.random.default_rng(9).integers(0, units, units * fan).astype(np.int32)
    start = np.arange(units + 1, dtype=np.int64) * fan
    own = np.repeat(np.arange(units, dtype=np.int32), fan)
    here = k.arrays.asarray
    return Fan(here(start), here(peer), fan), here(own)


def _edge_forward(k: Kernels, dtype: str, m: int, units: int, fan: int) -> Call:
    (incoming, _), a = _fan(k, units, fan), draw(k, dtype, units, m)
    w, b = draw(k, dtype, units * fan), draw(k, dtype, units)
    return lambda: k.edge_forward(a, incoming, w, b, G, False, None)


def _edge_delta(k: Kernels, dtype: str, m: int, units: int, fan: int) -> Call:
    (outgoing, _), w = _fan(k, units, fan), draw(k, dtype, units * fan)
    delta, a = draw(k, dtype, units, m), draw(k, dtype, units, m)
    return lambda: k.edge_delta(delta, outgoing, w, a, G, None, None)


def _edge_gradient(k: Kernels, dtype: str, m: int, units: int, fan: int) -> Call:
    incoming, target = _fan(k, units, fan)
    delta, a = draw(k, dtype, units, m), draw(k, dtype, units, m)
    return lambda: k.edge_gradient(delta, a, target, incoming.peer, None)


CALLS: dict[str, Callable[..., Call]] = {
    "dense_forward": _forward,
    "hidden_delta": _hidden,
    "weight_gradient": _weights,
    "bias_gradient": _biases,
    "apply": _apply,
    "output_delta": _output,
    "fused_delta": _fused,
    "sample_loss": _sample,
    "softmax": _rows("softmax"),
    "log_softmax": _rows("log_softmax"),
    "softmax_delta": _softmax_delta,
    "update": _update,
    "add": _add,
    "scale": _scale,
    "edge_forward": _edge_forward,
    "edge_delta": _edge_delta,
    "edge_gradient": _edge_gradient,
}
"""By kernel of the contract: from a backend, a dtype and the work's shape."""


def _tree(k: Kernels, dtype: str, nodes: int, count: int) -> Call:
    device: Any = k.arrays
    x, into = draw(k, dtype, nodes, count), k.arrays.empty((count,), np.dtype(dtype))
    launches = Launches(device, TILES)
    return lambda: launches.tree_sum(x, into)


def _whole(k: Kernels, dtype: str, m: int, *sizes: int) -> Call:
    """A gradient of a narrow net; raises ValueError where it is not one launch."""
    form = form_of(sizes, dtype)
    sweeps = k.sweeps(form) if k.sweeps else None
    if sweeps is None:
        raise ValueError(f"no whole sweep for {sizes} on {k.name}")
    parameters = draw(k, dtype, form.count)
    X, Y = draw(k, dtype, m, sizes[0]), draw(k, dtype, m, sizes[-1])
    batch = Batch(Y, None, m, sizes[-1])
    return lambda: sweeps.gradient(parameters, X, batch, LOSS)


def library_call_of(work: Work, k: Kernels, dtype: str) -> Call | None:
    """The same product by the machine's own library, of arrays laid out as the kernel's."""
    if work.kernel not in PRODUCTS:
        return None
    m, n, n_in = work.shape
    xp, real = library(k), np.dtype(dtype)
    if work.kernel == "dense_forward":
        A, B, C = draw(k, dtype, m, n_in), draw(k, dtype, n, n_in).T, k.arrays.empty((m, n), real)
    elif work.kernel == "hidden_delta":
        A, B, C = draw(k, dtype, m, n), draw(k, dtype, n, n_in), k.arrays.empty((m, n_in), real)
    else:
        A, B, C = draw(k, dtype, m, n).T, draw(k, dtype, m, n_in), k.arrays.empty((n, n_in), real)
    return lambda: xp.dot(A, B, out=C)
