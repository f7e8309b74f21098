"""Rules along memory: activations, slopes and losses, vector by vector.

Each is a function of addresses and a count, called by its own address.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.loops.jit import by_address, inline
from deltaprop.backends.loops.rules import compiled
from deltaprop.backends.loops.vectors import (
    BYTES,
    memory,
    splat,
    vector_multiply,
    vector_subtract,
)
from deltaprop.scalar import Rule

LONG = 4 * BYTES
"""Bytes that a rule is computed for at once: four chains of operations side by side keep the
processor busy, where one waits for itself."""


@cache
def along(dtype: np.dtype[Any], step_of: Any, arrays: int) -> Any:
    """step(addresses, count) for every vector of `count` numbers that lie at so many addresses.

    step_of(memory) makes a step for vectors of one length.
    """
    long, short = memory(dtype, LONG), memory(dtype)
    step, steps, size = step_of(short), step_of(long), dtype.itemsize
    lanes, more = short.lanes, long.lanes

    @inline
    def run(p, count):  # type: ignore[no-untyped-def]
        i, end = 0, count * size
        while i + more * size <= end:
            steps(p[0] + i, p[1] + i, p[2] + i, p[3] + i, p[4] + i, more)
            i += more * size
        while i < end:
            left = min(lanes, (end - i) // size)
            step(p[0] + i, p[1] + i, p[2] + i, p[3] + i, p[4] + i, left)
            i += lanes * size

    if arrays == 2:

        @by_address(3)
        def two(a, b, count):  # type: ignore[no-untyped-def]
            run((a, b, 0, 0, 0), count)

        return two
    if arrays == 4:

        @by_address(5)
        def four(a, b, c, d, count):  # type: ignore[no-untyped-def]
            run((a, b, c, d, 0), count)

        return four

    @by_address(6)
    def five(a, b, c, d, e, count):  # type: ignore[no-untyped-def]
        run((a, b, c, d, e), count)

    return five


def value(dtype: np.dtype[Any], rule: Rule) -> Any:
    """(x, y, count): y = f(x)."""
    f = compiled(rule, dtype)

    def step_of(m: Any) -> Any:
        @inline
        def step(x, y, unused0, unused1, unused2, count):  # type: ignore[no-untyped-def]
            m.store_some(f(m.load_some(x, count)), y, count)

        return step

    return along(dtype, step_of, 2)


def slope(dtype: np.dtype[Any], rule: Rule) -> Any:
    """(s, delta, count): delta = delta * g'(s)."""
    g_slope = compiled(rule, dtype)

    def step_of(m: Any) -> Any:
        @inline
        def step(s, delta, unused0, unused1, unused2, count):  # type: ignore[no-untyped-def]
            product = vector_multiply(m.load_some(delta, count), g_slope(m.load_some(s, count)))
            m.store_some(product, delta, count)

        return step

    return along(dtype, step_of, 2)


def residual(dtype: np.dtype[Any], rule: Rule, slope: Rule) -> Any:
    """(a, Y, s, c, delta, count): delta = (r(a, y) * c) * g'(s)."""
    r, g_slope = compiled(rule, dtype), compiled(slope, dtype)

    def step_of(m: Any) -> Any:
        @inline
        def step(a, Y, s, c, delta, count):  # type: ignore[no-untyped-def]
            error = r(m.load_some(a, count), m.load_some(Y, count))
            scaled = vector_multiply(error, m.load_some(c, count))
            m.store_some(vector_multiply(scaled, g_slope(m.load_some(s, count))), delta, count)

        return step

    return along(dtype, step_of, 5)


def factors(dtype: np.dtype[Any], x_rule: Rule, v_rule: Rule) -> Any:
    """(s, Y, x, v, count): the two factors of every output's error."""
    x_of, v_of = compiled(x_rule, dtype), compiled(v_rule, dtype)

    def step_of(m: Any) -> Any:
        @inline
        def step(s, Y, x, v, unused, count):  # type: ignore[no-untyped-def]
            s_, y_ = m.load_some(s, count), m.load_some(Y, count)
            m.store_some(x_of(s_, y_), x, count)
            m.store_some(v_of(s_, y_), v, count)

        return step

    return along(dtype, step_of, 4)


def softmax_delta(dtype: np.dtype[Any]) -> Any:
    """(a, u, dots, delta, rows, n): delta_k = a_k (u_k - dot), with the dot of each row."""
    m, size, lanes = memory(dtype), dtype.itemsize, memory(dtype).lanes

    @by_address(6)
    def run(a, u, dots, delta, rows, n):  # type: ignore[no-untyped-def]
        for _ in range(rows):
            dot = splat(m.read(dots))
            for k in range(0, n, lanes):
                at, left = k * size, n - k
                rest = vector_subtract(m.load_some(u + at, left), dot)
                product = vector_multiply(m.load_some(a + at, left), rest)
                m.store_some(product, delta + at, left)
            a += n * size
            u += n * size
            delta += n * size
            dots += size

    return run
