"""Sums over the edges of a graph as compiled loops.

The samples of a unit lie side by side in memory. A sum over edges is computed for a tile of
samples at once, four vectors of them; in a sum over samples a lane is an edge, and the edges of
one unit go through the samples abreast.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np

from deltaprop.backends.jit import LEVELS, carry, close, fma_rn, jit, kernel
from deltaprop.backends.vectors import BYTES, chain, load, load_some, splat, store, vector_fma


@jit
def _leaf_of_tile(x, peer, w, first, last, i, nodes, top):  # type: ignore[no-untyped-def]
    """nodes[top, k] = the leaf over edges first, ..., last - 1 for sample i + k; a whole tile."""
    lanes = nodes.shape[1] // 4
    s0 = s1 = s2 = s3 = splat(x.dtype.type(0))
    for e in range(first, last):
        w_e, row = splat(w[e]), peer[e]
        s0 = vector_fma(w_e, load(x, row, i), s0)
        s1 = vector_fma(w_e, load(x, row, i + lanes), s1)
        s2 = vector_fma(w_e, load(x, row, i + 2 * lanes), s2)
        s3 = vector_fma(w_e, load(x, row, i + 3 * lanes), s3)
    store(s0, nodes, top, 0)
    store(s1, nodes, top, lanes)
    store(s2, nodes, top, 2 * lanes)
    store(s3, nodes, top, 3 * lanes)


@jit
def _leaf_of_part(x, peer, w, first, last, i, width, nodes, top):  # type: ignore[no-untyped-def]
    """As `_leaf_of_tile`, for the first `width` samples of a tile: one vector at a time."""
    lanes = nodes.shape[1] // 4
    for k in range(0, width, lanes):
        count = min(lanes, width - k)
        s = splat(x.dtype.type(0))
        for e in range(first, last):
            s = vector_fma(splat(w[e]), load_some(x, peer[e], i + k, count), s)
        store(s, nodes, top, k)


@jit
def _edge_sum(x, start, peer, w, leaf, j, i, out, nodes):  # type: ignore[no-untyped-def]
    """out[j, i:] = the sum over the edges of unit j, for a tile of samples."""
    width = min(nodes.shape[1], out.shape[1] - i)
    begin, end = start[j], start[j + 1]
    top = 0
    for first in range(begin, end, leaf):
        last = min(first + leaf, end)
        if width == nodes.shape[1]:
            _leaf_of_tile(x, peer, w, first, last, i, nodes, top)
        else:
            _leaf_of_part(x, peer, w, first, last, i, width, nodes, top)
        top = carry(nodes, top + 1, (first - begin) // leaf + 1)
    close(nodes, top)
    if top == 0:
        nodes[0] = 0
    for k in range(width):
        out[j, i + k] = nodes[0, k]


@cache
def edge_sums(dtype: np.dtype[Any], parallel: bool) -> Any:
    """(x, start, peer, w, leaf, out, tiny, kept): out (n, m) = the sums over each unit's edges.

    kept[0] becomes 0 if a thread flushes `tiny`, the smallest subnormal, to zero.
    """

    def sums(x, start, peer, w, leaf, out, tiny, kept):  # type: ignore[no-untyped-def]
        n = out.shape[0]
        tasks = n * -(-out.shape[1] // tile)
        share = -(-tasks // parts)
        for part in numba.prange(parts):
            if tiny * x.dtype.type(1) == 0:
                kept[0] = 0
            nodes = np.empty((LEVELS, tile), x.dtype)
            for task in range(part * share, min((part + 1) * share, tasks)):
                _edge_sum(x, start, peer, w, leaf, task % n, task // n * tile, out, nodes)

    parts, tile = (64 if parallel else 1), 4 * BYTES // dtype.itemsize
    return kernel(dtype, "MLIVimrv", parallel)(sums)


@jit
def _leaf_of_edges(delta, j, a, source, e, last, first, end, nodes, top):  # type: ignore[no-untyped-def]
    """nodes[top, k] = the leaf over samples first, ..., end - 1 for edge e + k into unit j."""
    lanes = nodes.shape[1]
    s = splat(delta.dtype.type(0))
    whole = first + (end - first) // lanes * lanes
    for i in range(first, whole, lanes):
        s = chain(delta, j, a, source, e, last, i, s)
    store(s, nodes, top, 0)
    for k in range(last - e + 1 if whole < end else 0):
        row, s_k = source[e + k], nodes[top, k]
        for i in range(whole, end):
            s_k = fma_rn(delta[j, i], a[row, i], s_k)
        nodes[top, k] = s_k


@jit
def _edge_gradients(delta, a, target, source, leaf, e, last, out, nodes):  # type: ignore[no-untyped-def]
    """out[e], ..., out[last]: the sums over samples for edges into one unit."""
    top = 0
    for first in range(0, delta.shape[1], leaf):
        end = min(first + leaf, delta.shape[1])
        _leaf_of_edges(delta, target[e], a, source, e, last, first, end, nodes, top)
        top = carry(nodes, top + 1, first // leaf + 1)
    close(nodes, top)
    for k in range(last + 1 - e):
        out[e + k] = nodes[0, k]


@cache
def edge_gradients(dtype: np.dtype[Any], parallel: bool) -> Any:
    """(delta, a, target, source, leaf, out, tiny, kept): out_e = sum of delta_e a_e.

    `tiny` and `kept` as of `edge_sums`.
    """

    def gradients(delta, a, target, source, leaf, out, tiny, kept):  # type: ignore[no-untyped-def]
        share = -(-out.size // parts)
        for part in numba.prange(parts):
            if tiny * delta.dtype.type(1) == 0:
                kept[0] = 0
            nodes = np.empty((LEVELS, lanes), delta.dtype)
            e, end = part * share, min((part + 1) * share, out.size)
            while e < end:
                last = e
                while last + 1 < min(e + lanes, end) and target[last + 1] == target[e]:
                    last += 1
                _edge_gradients(delta, a, target, source, leaf, e, last, out, nodes)
                e = last + 1

    parts, lanes = (64 if parallel else 1), BYTES // dtype.itemsize
    return kernel(dtype, "MMIIivrv", parallel)(gradients)
