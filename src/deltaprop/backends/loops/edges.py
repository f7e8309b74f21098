"""Sums over the edges of a graph as compiled loops.

The samples of a unit lie side by side in memory. A sum over edges is computed for a tile of
samples, four vectors, at once; in a sum over samples a lane is an edge, and the edges of one unit
go through the samples abreast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.backends.loops.jit import by_address, call, carry, close, fma_rn, inline, jit, kernel
from deltaprop.backends.loops.rows import along
from deltaprop.backends.loops.rules import compiled
from deltaprop.backends.loops.vectors import (
    BYTES,
    chain,
    load,
    load_some,
    memory,
    splat,
    store,
    store_some,
    vector_add,
    vector_fma,
    vector_multiply,
)
from deltaprop.backends.records import WIDTH
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES
from deltaprop.scalar import Rule


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
def _edge_sum(x, peer, w, begin, end, i, width, nodes):  # type: ignore[no-untyped-def]
    """nodes[0, :width] = the sum over edges begin, ..., end - 1 for samples i, ..."""
    if end - begin <= LEAF_FEATURES:
        _leaf(x, peer, w, begin, end, i, width, nodes, 0)
        return
    top = 0
    for first in range(begin, end, LEAF_FEATURES):
        _leaf(x, peer, w, first, min(first + LEAF_FEATURES, end), i, width, nodes, top)
        top = carry(nodes, top + 1, (first - begin) // LEAF_FEATURES + 1)
    close(nodes, top)


def edge_sums(dtype: np.dtype[Any]) -> Any:
    """(x, start, peer, w, function, s, s_step, t, out (n, m), nodes (threads, LEVELS, -)).

    `function`, an address, makes row j of out of the sums over the edges of unit j, of the
    numbers s_j, from which s_step bytes lead to the next unit's, and of row j of t.
    """
    size, most = dtype.itemsize, WIDTH // dtype.itemsize

    @kernel(dtype, "MLIViiiiMT")
    def sums(x, start, peer, w, function, s, s_step, t, out, nodes, thread, threads):  # type: ignore[no-untyped-def]
        n, m = out.shape
        tasks = n * -(-m // most)
        mine = nodes[thread]
        for task in range(tasks * thread // threads, tasks * (thread + 1) // threads):
            j, i = task % n, task // n * most
            width = min(most, m - i)
            _edge_sum(x, peer, w, start[j], start[j + 1], i, width, mine)
            at = (j * m + i) * size
            s_j = s + j * s_step + (i * size if s_step > size else 0)
            call(function, (mine.ctypes.data, s_j, t + at, out.ctypes.data + at, width))

    return sums


def forward(dtype: np.dtype[Any], value: Rule, bias: bool) -> Any:
    """(sums, b, z, out, count): out = g(sum + b), and z is what g is taken of."""
    m, g = memory(dtype), compiled(value, dtype)

    @inline
    def step(sums, b, z, out, count):  # type: ignore[no-untyped-def]
        z_ = m.load_some(sums, count)
        if bias:
            z_ = vector_add(z_, splat(m.read(b)))
        m.store_some(z_, z, count)
        m.store_some(g(z_), out, count)

    @by_address(5)
    def run(sums, b, z, out, count):  # type: ignore[no-untyped-def]
        for i in range(0, count, m.lanes):
            at = i * m.size
            step(sums + at, b, z + at, out + at, min(m.lanes, count - i))

    return run


def delta(dtype: np.dtype[Any], slope: Rule, adds: bool) -> Any:
    """(sums, s, own, out, count): out = sum * g'(s); the units' own delta comes first."""
    g_slope = compiled(slope, dtype)

    def step_of(m: Any) -> Any:
        @inline
        def step(sums, s, own, out, unused, count):  # type: ignore[no-untyped-def]
            d = vector_multiply(m.load_some(sums, count), g_slope(m.load_some(s, count)))
            if adds:
                d = vector_add(m.load_some(own, count), d)
            m.store_some(d, out, count)

        return step

    return along(dtype, step_of, 4)


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
def _edge_gradients(x, j, y, row, e, last, out, nodes):  # type: ignore[no-untyped-def]
    """out[e], ..., out[last]: the sums of x_j y_row(e) over samples; one end is shared."""
    top = 0
    for first in range(0, x.shape[1], LEAF_SAMPLES):
        _leaf_of_edges(
            x, j, y, row, e, last, first, min(first + LEAF_SAMPLES, x.shape[1]), nodes, top
        )
        top = carry(nodes, top + 1, first // LEAF_SAMPLES + 1)
    close(nodes, top)
    store_some(load(nodes, 0, 0), out, 0, e, last + 1 - e)


@jit
def _last_alike(end, e, most):  # type: ignore[no-untyped-def]
    """The last of up to `most` edges from e on that have one end in common."""
    last = e
    while last + 1 < min(e + most, end.size) and end[last + 1] == end[e]:
        last += 1
    return last


def edge_gradients(dtype: np.dtype[Any]) -> Any:
    """(delta, a, target, source, out (1, edges), nodes): out_e = sum of delta_e a_e.

    Fastest where consecutive edges have one end in common. nodes (threads, LEVELS, lanes).
    """
    lanes = BYTES // dtype.itemsize

    @kernel(dtype, "MMIIMT")
    def gradients(delta, a, target, source, out, nodes, thread, threads):  # type: ignore[no-untyped-def]
        edges, mine = target.size, nodes[thread]
        e, end = edges * thread // threads, edges * (thread + 1) // threads
        while e < end:
            most = min(lanes, end - e)
            into, out_of = _last_alike(target, e, most), _last_alike(source, e, most)
            if into >= out_of:
                _edge_gradients(delta, target[e], a, source, e, into, out, mine)
                e = into + 1
            else:
                _edge_gradients(a, source[e], delta, target, e, out_of, out, mine)
                e = out_of + 1

    return gradients
