"""The outputs of a few samples: their errors, and the delta that everything begins with."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.loops.jit import by_address, call, data_of, jit, namespace
from deltaprop.backends.loops.products import added_to, trailing_ones
from deltaprop.backends.loops.rules import compiled
from deltaprop.backends.loops.sums import pending
from deltaprop.backends.loops.vectors import (
    memory,
    splat,
    transposed,
    vector_fma,
    vector_subtract,
)
from deltaprop.contract import LEAF_FEATURES
from deltaprop.elementary import exp, log


@cache
def _elements(dtype: np.dtype[Any]) -> Any:
    m, size, lanes = memory(dtype), dtype.itemsize, memory(dtype).lanes

    @jit
    def copy(x, x_step, y, y_step, rows, n):  # type: ignore[no-untyped-def]
        """y = x."""
        if x_step == y_step == n * size:
            rows, n = 1, rows * n
        for _ in range(rows):
            for j in range(0, n, lanes):
                m.store_some(m.load_some(x + j * size, n - j), y + j * size, n - j)
            x += x_step
            y += y_step

    @jit
    def fill(number, y, count):  # type: ignore[no-untyped-def]
        """y = the number."""
        for j in range(0, count, lanes):
            m.store_some(splat(number), y + j * size, count - j)

    @jit
    def along(function, x, x_step, y, y_step, rows, n):  # type: ignore[no-untyped-def]
        """A function (x, y, count) of every row, at once where they lie side by side."""
        if x_step == y_step == n * size:
            rows, n = 1, rows * n
        for _ in range(rows):
            call(function, (x, y, n))
            x += x_step
            y += y_step

    return namespace(copy=copy, fill=fill, along=along)


@cache
def _dots(dtype: np.dtype[Any]) -> Any:
    m, size, lanes, transpose = (
        memory(dtype),
        dtype.itemsize,
        memory(dtype).lanes,
        transposed(dtype),
    )
    zero, line = dtype.type(0), memory(dtype).lanes * dtype.itemsize
    with_nodes = pending(m.load)

    @jit
    def leaf(x, v, step, rows, count, scratch):  # type: ignore[no-untyped-def]
        """fma chains of `count` terms; a lane is a row."""
        s = splat(zero)
        xs, vs = scratch, scratch + lanes * line
        for k in range(0, count, lanes):
            terms = min(lanes, count - k)
            transpose(x + k * size, step, rows, terms, xs, line)
            transpose(v + k * size, step, rows, terms, vs, line)
            for q in range(0, terms * line, line):
                s = vector_fma(m.load(xs + q), m.load(vs + q), s)
        return s

    @jit
    def dots(x, v, step, rows, n, e, scratch):  # type: ignore[no-untyped-def]
        """e_i = sum_k x_ik v_ik: leaves and tree over features."""
        if n == 1:
            for i in range(0, rows * size, line):
                left = rows - i // size
                s = vector_fma(m.load_some(x + i, left), m.load_some(v + i, left), splat(zero))
                m.store_some(s, e + i, left)
            return
        nodes = scratch + 2 * lanes * line
        leaves = (n + LEAF_FEATURES - 1) // LEAF_FEATURES
        for i in range(0, rows, lanes):
            left = min(lanes, rows - i)
            for t in range(leaves):
                k = t * LEAF_FEATURES
                at = i * step + k * size
                s = leaf(x + at, v + at, step, left, min(LEAF_FEATURES, n - k), scratch)
                last = t == leaves - 1
                s = with_nodes(s, nodes, added_to(t, leaves), line)
                if last:
                    m.store_some(s, e + i * size, left)
                else:
                    m.store(s, nodes + trailing_ones(t) * line)

    return dots


@cache
def outputs(dtype: np.dtype[Any]) -> Any:
    """The functions for one dtype; `first` counts samples in the batch, `i` in the part."""
    m, size = memory(dtype), dtype.itemsize
    elements, dots = _elements(dtype), _dots(dtype)

    @jit
    def errors(plan, last, batch, place, first, i, count):  # type: ignore[no-untyped-def]
        """e_i of every sample: the two factors of each output, then their products' sum."""
        n, step = last.units, last.step
        s = place.room + (last.z if plan.loss_of_z else last.a) + i * step
        if plan.log_softmax:
            z, s, own = s, place.own + plan.s_at, place.own + plan.columns_at
            call(plan.log_softmax, (z, step, s, n * size, count, n, own))
            step = n * size
        x, v = place.own + plan.x_at, place.own + plan.v_at
        rows, Y = count, batch.Y + first * n * size
        if step == n * size:
            rows, n = 1, count * n
        for r in range(rows):
            at = r * n * size
            call(plan.factors, (s + r * step, Y + at, x + at, v + at, n))
        e, n = place.room + plan.error_at + i * size, last.units
        dots(x, v, n * size, count, n, e, place.own + plan.columns_at)

    @jit
    def scales(plan, last, batch, place, first, count):  # type: ignore[no-untyped-def]
        """c_i for every output: scale, or w_i * scale."""
        c, scale, n = place.own + plan.scales_at, m.read(data_of(plan.scale)), last.units
        if not batch.weights:
            elements.fill(scale, c, count * n)
            return
        for r in range(count):
            weight = m.read(batch.weights + (first + r) * size)
            elements.fill(weight * scale, c + r * n * size, n)

    @jit
    def delta(plan, last, batch, place, first, i, count):  # type: ignore[no-untyped-def]
        """delta^L = (r(a, y) * c_i) * g'(s)."""
        n, step = last.units, last.step
        scales(plan, last, batch, place, first, count)
        a = place.room + last.a + i * step
        s = place.room + (last.z if plan.slope_of_z else last.a) + i * step
        d, c = place.room + last.delta + i * step, place.own + plan.scales_at
        rows, Y = count, batch.Y + first * n * size
        if step == n * size:
            rows, n = 1, count * n
        for r in range(rows):
            at, dense = r * step, r * n * size
            call(plan.residual, (a + at, Y + dense, s + at, c + dense, d + at, n))

    return namespace(
        copy=elements.copy, along=elements.along, errors=errors, delta=delta, dots=dots
    )


def softmax(dtype: np.dtype[Any], log_form: bool) -> Any:
    """(z, z_step, p, p_step, rows, n, scratch): the softmax of every row, or its logarithm."""
    m, size, lanes = memory(dtype), dtype.itemsize, memory(dtype).lanes
    exp_, log_ = compiled(exp, dtype), compiled(log, dtype)
    zero, lowest = dtype.type(0), dtype.type(-np.inf)
    with_nodes = pending(m.read)

    @jit
    def largest_of(z, n):  # type: ignore[no-untyped-def]
        """A NaN is passed over, to come back in the sum."""
        largest = lowest
        for k in range(0, n * size, size):
            z_k = m.read(z + k)
            largest = z_k if z_k > largest else largest
        return largest

    @jit
    def total_of(p, n, nodes):  # type: ignore[no-untyped-def]
        """The sum of a row: leaves and tree over features."""
        leaves = (n + LEAF_FEATURES - 1) // LEAF_FEATURES
        s = zero
        for t in range(leaves):
            s = zero
            for k in range(t * LEAF_FEATURES, min((t + 1) * LEAF_FEATURES, n)):
                s = s + m.read(p + k * size)
            s = with_nodes(s, nodes, added_to(t, leaves), size)
            if t < leaves - 1:
                m.write(s, nodes + trailing_ones(t) * size)
        return s

    @jit
    def shifted(z, largest, n, p, exponential):  # type: ignore[no-untyped-def]
        """p = z - largest, or exp of it."""
        for k in range(0, n, lanes):
            at, left = k * size, n - k
            x = vector_subtract(m.load_some(z + at, left), splat(largest))
            m.store_some(exp_(x) if exponential else x, p + at, left)

    @by_address(7)
    def run(z, z_step, p, p_step, rows, n, scratch):  # type: ignore[no-untyped-def]
        for _ in range(rows):
            largest = largest_of(z, n)
            shifted(z, largest, n, p, True)
            total = total_of(p, n, scratch)
            if log_form:
                shifted(z, largest, n, p, False)
                total = log_(total)
            for k in range(0, n * size, size):
                p_k = m.read(p + k)
                m.write(p_k - total if log_form else p_k / total, p + k)
            z += z_step
            p += p_step

    return run
