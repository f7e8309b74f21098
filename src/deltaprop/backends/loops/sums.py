"""Sums over samples: leaves, and their tree as a binary counter whose digits are pending nodes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.loops.jit import fma_rn, jit, namespace
from deltaprop.backends.loops.products import added_to, trailing_ones
from deltaprop.backends.loops.vectors import (
    BYTES,
    memory,
    vector_add,
    vector_fma,
    vector_negative,
)
from deltaprop.contract import LEAF_SAMPLES


@cache
def pending(read: Any) -> Any:
    """(s, node, digits, step): the nodes of these digits, as bits, added to s, the lowest first."""

    @jit
    def added(s, node, digits, step):  # type: ignore[no-untyped-def]
        while digits:
            if digits & 1:
                s = vector_add(read(node), s)
            digits >>= 1
            node += step
        return s

    return added


@cache
def _columns(dtype: np.dtype[Any], length: int) -> Any:
    """(j, ...): the sums of the columns of a vector of so many bytes, from byte j on."""
    m, zero = memory(dtype, length), dtype.type(0)
    with_nodes = pending(m.load)

    @jit
    def leaf(x, step, count, some):  # type: ignore[no-untyped-def]
        """The plain sums of `count` rows, for `some` columns of a vector."""
        s = m.splat(zero)
        for _ in range(count):
            s = vector_add(s, m.load_some(x, some))
            x += step
        return s

    @jit
    def columns(j, some, x, step, first, samples, total, nodes, nodes_step, out, rate):  # type: ignore[no-untyped-def]
        for i in range(0, samples, LEAF_SAMPLES):
            t = first + i // LEAF_SAMPLES
            last = t == total - 1
            s = leaf(x + i * step + j, step, min(LEAF_SAMPLES, samples - i), some)
            s = with_nodes(s, nodes + j, added_to(t, total), nodes_step)
            if not last:
                m.store(s, nodes + trailing_ones(t) * nodes_step + j)
                continue
            if rate:
                down = vector_negative(m.splat(m.read(rate)))
                s = vector_fma(down, s, m.load_some(out + j, some))
            m.store_some(s, out + j, some)

    return columns


@cache
def sums(dtype: np.dtype[Any]) -> Any:
    """The functions for one dtype."""
    m, size, lanes = memory(dtype), dtype.itemsize, memory(dtype).lanes
    zero, with_nodes = dtype.type(0), pending(m.read)
    vector, vectors, many = _columns(dtype, BYTES), _columns(dtype, 4 * BYTES), 4 * lanes

    @jit
    def columns(x, step, n, first, samples, total, nodes, nodes_step, out, rate):  # type: ignore[no-untyped-def]
        """out = the sums of n columns over samples that begin with leaf `first` of `total`.

        Complete with the last leaf; with a rate, out is stepped down them instead.
        """
        given = (x, step, first, samples, total, nodes, nodes_step, out, rate)
        j = 0
        while j + many <= n:  # four vectors side by side: no sum waits for itself
            vectors(j * size, many, *given)
            j += many
        while j < n:
            vector(j * size, min(lanes, n - j), *given)
            j += lanes

    @jit
    def errors(e, weights, first, samples, total, nodes, error):  # type: ignore[no-untyped-def]
        """error = sum_i w_i e_i, as far as the leaves go; without weights the plain sum."""
        for i in range(0, samples, LEAF_SAMPLES):
            s = zero
            for k in range(i * size, min(i + LEAF_SAMPLES, samples) * size, size):
                e_k = m.read(e + k)
                s = fma_rn(e_k, m.read(weights + k), s) if weights else s + e_k
            t = first + i // LEAF_SAMPLES
            last = t == total - 1
            s = with_nodes(s, nodes, added_to(t, total), size)
            m.write(s, error if last else nodes + trailing_ones(t) * size)

    @jit
    def add(x, y, count, out):  # type: ignore[no-untyped-def]
        """out = x + y."""
        for i in range(0, count, lanes):
            at, left = i * size, count - i
            s = vector_add(m.load_some(x + at, left), m.load_some(y + at, left))
            m.store_some(s, out + at, left)

    @jit
    def tree(nodes, step, many, count, root):  # type: ignore[no-untyped-def]
        """root = the tree over `many` arrays of `count` numbers, which it writes over."""
        stride = 1
        while 2 * stride < many:
            for i in range(0, many - stride, 2 * stride):
                node = nodes + i * step
                add(node, node + stride * step, count, node)
            stride *= 2
        add(nodes, nodes + stride * step, count, root)

    return namespace(columns=columns, errors=errors, tree=tree)
