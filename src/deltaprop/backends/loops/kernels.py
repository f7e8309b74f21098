"""The kernels of the contract, each by itself: one equation on whole arrays."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from deltaprop.backends.loops.jit import by_address, data_of, entry, flushes, record_at
from deltaprop.backends.loops.outputs import outputs
from deltaprop.backends.loops.products import Out, Part, Room, products, share
from deltaprop.backends.loops.sums import sums
from deltaprop.backends.loops.team import barrier
from deltaprop.backends.loops.vectors import memory
from deltaprop.backends.records import GRADIENT, PRODUCT
from deltaprop.backends.tiling import shape
from deltaprop.contract import LEAF_SAMPLES

Member = namedtuple("Member", "thread threads")


def product(dtype: np.dtype[Any]) -> Any:
    """(PRODUCT): c = x W^T + b, or c = x W, and a function of what comes out."""
    p, o, size = products(dtype), outputs(dtype), dtype.itemsize
    width, product_at = shape(dtype).width, record_at(PRODUCT)

    @entry
    def run(block, thread, threads):  # type: ignore[no-untyped-def]
        q = product_at(block, 0)
        place = Member(thread, threads)
        first, last = share(p.panels(q.n) if q.transposed else q.K, place)
        if q.transposed:
            for panel in range(first, last):
                P = q.panels + panel * q.K * width * size
                p.pack_transposed(q.W, q.K * size, q.K, q.n, panel, P)
        else:
            p.pack(q.W, q.n * size, first, last, q.n, q.K, q.panels)
        barrier(q.team, threads)
        own = q.own + thread * q.next_own
        i, end = share(q.rows, place)
        while i < end:
            rows = min(q.chunk, end - i)
            c = q.c + i * q.n * size
            x = q.x + i * q.K * size
            p.rows_product(x, q.K * size, rows, q.K, q.panels, q.n, q.b, c, q.n * size, own)
            at, step = i * q.n * size, q.n * size
            o.along(q.function, q.given + at, step, q.made + at, step, rows, q.n)
            i += rows
        return flushes()

    return run


def gradient(dtype: np.dtype[Any]) -> Any:
    """(GRADIENT): c = d^T a, the sum over samples."""
    p, size, gradient_at = products(dtype), dtype.itemsize, record_at(GRADIENT)

    @entry
    def run(block, thread, threads):  # type: ignore[no-untyped-def]
        q = gradient_at(block, 0)
        own = q.own + thread * q.next_own
        leaves = (q.samples + LEAF_SAMPLES - 1) // LEAF_SAMPLES
        room = Room(own, q.far, q.levels, own + q.packed_rows_at, own + q.packed_panel_at)
        d_step, a_step = q.n * size, q.n_in * size
        part, out = Part(0, q.samples, leaves), Out(q.c, q.n_in * size, 0)
        place = Member(thread, threads)
        p.share_of_columns(q.d, d_step, q.n, q.a, a_step, q.n_in, out, room, part, True, place)
        return flushes()

    return run


def column_sums(dtype: np.dtype[Any]) -> Any:
    """(V, rows, n, nodes, nodes_step, out): the sum of the rows, leaves and tree."""
    s, size = sums(dtype), dtype.itemsize

    @by_address(6)
    def run(V, rows, n, nodes, nodes_step, out):  # type: ignore[no-untyped-def]
        leaves = (rows + LEAF_SAMPLES - 1) // LEAF_SAMPLES
        s.columns(V, n * size, n, 0, rows, leaves, nodes, nodes_step, out, 0)

    return run


def farthest_from_one(dtype: np.dtype[Any]) -> Any:
    """(Y, rows, n, out): out = the largest |1 - sum of a row|; Y and out are arrays' objects."""
    m, size, one = memory(dtype), dtype.itemsize, dtype.type(1)

    @by_address(4)
    def run(Y, rows, n, out):  # type: ignore[no-untyped-def]
        y, farthest = data_of(Y), one - one
        for _ in range(rows):
            rest = one
            for _ in range(n):
                rest = rest - m.read(y)
                y += size
            off = rest if rest > 0 else -rest
            farthest = off if off > farthest else farthest
        m.write(farthest, data_of(out))

    return run


def dots(dtype: np.dtype[Any]) -> Any:
    """(x, v, rows, n, e, scratch): e_i = sum_k x_ik v_ik."""
    o, size = outputs(dtype), dtype.itemsize

    @by_address(6)
    def run(x, v, rows, n, e, scratch):  # type: ignore[no-untyped-def]
        o.dots(x, v, n * size, rows, n, e, scratch)

    return run
