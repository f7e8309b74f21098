"""Sums over the edges of a graph as compiled loops.

The samples of a unit lie side by side in memory. A sum over edges is computed for a tile of
samples, four vectors, at once; in a sum over samples a lane is an edge, and the edges of one unit
go through the samples abreast.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np

from deltaprop.backends.jit import (
    LEVELS,
    carry,
    close,
    compiled,
    fma_rn,
    jit,
    kernel,
)
from deltaprop.backends.vectors import (
    BYTES,
    call_finish,
    chain,
    finish,
    load,
    load_some,
    splat,
    store,
    store_some,
    vector_fma,
)
from deltaprop.scalar import Rule

WIDTH = 16 * BYTES
"""Bytes of a row for which the sums over a unit's edges are computed at a time."""


@jit
def _leaf_of_tile(x, peer, w, first, last, i, nodes, top, k):  # type: ignore[no-untyped-def]
    """nodes[top, k:] = the leaf over edges first, ..., last - 1 for four vectors of samples."""
    s0 = s1 = s2 = s3 = splat(x.dtype.type(0))
    lanes = BYTES // x.itemsize
    for e in range(first, last):
        w_e, row = splat(w[e]), peer[e]
        s0 = vector_fma(w_e, load(x, row, i), s0)
        s1 = vector_fma(w_e, load(x, row, i + lanes), s1)
        s2 = vector_fma(w_e, load(x, row, i + 2 * lanes), s2)
        s3 = vector_fma(w_e, load(x, row, i + 3 * lanes), s3)
    store(s0, nodes, top, k)
    store(s1, nodes, top, k + lanes)
    store(s2, nodes, top, k + 2 * lanes)
    store(s3, nodes, top, k + 3 * lanes)


@jit
def _leaf_of_vector(x, peer, w, first, last, i, count, nodes, top, k):  # type: ignore[no-untyped-def]
    """As `_leaf_of_tile`, for `count` samples of one vector."""
    s = splat(x.dtype.type(0))
    for e in range(first, last):
        s = vector_fma(splat(w[e]), load_some(x, peer[e], i, count), s)
    store(s, nodes, top, k)


@jit
def _leaf(x, peer, w, first, last, i, width, nodes, top):  # type: ignore[no-untyped-def]
    """nodes[top, :width] = the leaf over edges first, ..., last - 1 for samples i, ..."""
    lanes = BYTES // x.itemsize
    tiles = width // (4 * lanes) * (4 * lanes)
    for k in range(0, tiles, 4 * lanes):
        _leaf_of_tile(x, peer, w, first, last, i + k, nodes, top, k)
    for k in range(tiles, width, lanes):
        _leaf_of_vector(x, peer, w, first, last, i + k, min(lanes, width - k), nodes, top, k)


@jit
def _edge_sum(x, peer, w, leaf, begin, end, i, width, nodes):  # type: ignore[no-untyped-def]
    """nodes[0, :width] = the sum over edges begin, ..., end - 1 for samples i, ..."""
    if end - begin <= leaf:
        _leaf(x, peer, w, begin, end, i, width, nodes, 0)
        return
    top = 0
    for first in range(begin, end, leaf):
        _leaf(x, peer, w, first, min(first + leaf, end), i, width, nodes, top)
        top = carry(nodes, top + 1, (first - begin) // leaf + 1)
    close(nodes, top)


@cache
def edge_sums(dtype: np.dtype[Any], parallel: bool) -> Any:
    """(x, start, peer, w, leaf, function, s, t, out (n, m), tiny, kept).

    `function`, the address of a `finish`, makes row j of out of the sums over the edges of unit
    j. kept[0] becomes 0 if a thread flushes `tiny`, the smallest subnormal, to zero.
    """

    def sums(x, start, peer, w, leaf, function, s, t, out, tiny, kept):  # type: ignore[no-untyped-def]
        n, m = out.shape
        tasks = n * -(-m // most)
        share = -(-tasks // parts)
        for part in numba.prange(parts):
            if tiny * x.dtype.type(1) == 0:
                kept[0] = 0
            nodes = np.empty((LEVELS, most), x.dtype)
            for task in range(part * share, min((part + 1) * share, tasks)):
                j, i = task % n, task // n * most
                width = min(most, m - i)
                _edge_sum(x, peer, w, leaf, start[j], start[j + 1], i, width, nodes)
                call_finish(function, nodes, s, t, out, j, i, width)

    parts, most = (64 if parallel else 1), WIDTH // dtype.itemsize
    return kernel(dtype, "MLIViiMmmrv", parallel)(sums)


@cache
def finish_forward(value: Rule, dtype: np.dtype[Any], bias: bool, keep_z: bool) -> int:
    """out = g(sum + b): s is b_j, t becomes z with `keep_z`. The function's address."""
    g = compiled(value, dtype)

    @finish(dtype)
    def forward(sums, b, z, out, width):  # type: ignore[no-untyped-def]
        for k in range(width):
            z_k = sums[k] + b[0] if bias else sums[k]
            if keep_z:
                z[k] = z_k
            out[k] = g(z_k)

    return forward


@cache
def finish_delta(slope: Rule, dtype: np.dtype[Any], adds: bool) -> int:
    """out = sum * g'(s); t, the units' own delta, comes first with `adds`. The address."""
    g_slope = compiled(slope, dtype)

    @finish(dtype)
    def delta(sums, s, own, out, width):  # type: ignore[no-untyped-def]
        for k in range(width):
            through_edges = sums[k] * g_slope(s[k])
            out[k] = own[k] + through_edges if adds else through_edges

    return delta


@jit
def _leaf_of_edges(x, j, y, row, e, last, first, end, out, k):  # type: ignore[no-untyped-def]
    """out[k, :] = the leaf of x_j y_row(e) over samples first, ..., end - 1 for edges e, ..."""
    lanes = BYTES // x.itemsize
    s = splat(x.dtype.type(0))
    whole = first + (end - first) // lanes * lanes
    for i in range(first, whole, lanes):
        s = chain(x, j, y, row, e, last, i, s)
    store(s, out, k, 0)
    for lane in range(last - e + 1 if whole < end else 0):
        r, s_k = row[e + lane], out[k, lane]
        for i in range(whole, end):
            s_k = fma_rn(x[j, i], y[r, i], s_k)
        out[k, lane] = s_k


@jit
def _edge_gradients(x, j, y, row, leaf, e, last, out, nodes):  # type: ignore[no-untyped-def]
    """out[e], ..., out[last]: the sums of x_j y_row(e) over samples; one end is shared."""
    top = 0
    for first in range(0, x.shape[1], leaf):
        _leaf_of_edges(x, j, y, row, e, last, first, min(first + leaf, x.shape[1]), nodes, top)
        top = carry(nodes, top + 1, first // leaf + 1)
    close(nodes, top)
    store_some(load(nodes, 0, 0), out, 0, e, last + 1 - e)


@jit
def _last_alike(end, e, most):  # type: ignore[no-untyped-def]
    """The last of up to `most` edges from e on that have one end in common."""
    last = e
    while last + 1 < min(e + most, end.size) and end[last + 1] == end[e]:
        last += 1
    return last


@cache
def edge_gradients(dtype: np.dtype[Any], parallel: bool) -> Any:
    """(delta, a, target, source, leaf, out (1, edges), tiny, kept): out_e = sum of delta_e a_e.

    Fastest where consecutive edges have one end in common. `tiny` and `kept` as of `edge_sums`.
    """

    def gradients(delta, a, target, source, leaf, out, tiny, kept):  # type: ignore[no-untyped-def]
        edges = target.size
        share = -(-edges // parts)
        for part in numba.prange(parts):
            if tiny * delta.dtype.type(1) == 0:
                kept[0] = 0
            nodes = np.empty((LEVELS, lanes), delta.dtype)
            e, end = part * share, min((part + 1) * share, edges)
            while e < end:
                most = min(lanes, end - e)
                into, out_of = _last_alike(target, e, most), _last_alike(source, e, most)
                if into >= out_of:
                    _edge_gradients(delta, target[e], a, source, leaf, e, into, out, nodes)
                    e = into + 1
                else:
                    _edge_gradients(a, source[e], delta, target, leaf, e, out_of, out, nodes)
                    e = out_of + 1

    parts, lanes = (64 if parallel else 1), BYTES // dtype.itemsize
    return kernel(dtype, "MMIIimrv", parallel)(gradients)
