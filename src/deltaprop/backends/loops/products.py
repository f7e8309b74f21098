"""Products of matrices from tiles: panels that are packed, leaves, and the tree over them.

    rows        c = x P          x (rows, K) row by row, P (K, n) in panels, + b
    columns     c = d^T a        sums over samples: d (m, n), a (m, n_in)

A panel is as wide as a tile, its rows of K follow each other in memory. All addresses and steps
are in bytes.
"""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.loops.jit import jit, namespace
from deltaprop.backends.loops.tiles import tile
from deltaprop.backends.loops.vectors import memory, prefetch, splat, transposed
from deltaprop.backends.tiling import BLOCK, NEAR, shape
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES

LINE = 64
WRITTEN = 3
"""The last leaves of a sum, in which the rows that it will change are fetched."""
PACKED = 8
"""How often what is packed must be read to be worth it."""
AHEAD = 8
"""How many vectors before it is packed a row is fetched: many rows at once are too many streams."""
FEW = 64
"""Numbers of a panel that are sooner copied one by one than transposed in blocks."""

Columns = namedtuple("Columns", "address step columns groups group_step")
"""A matrix (samples, columns) of which numbers are read; group by group if it is packed."""
Rows = namedtuple("Rows", "address step")
"""A matrix of which vectors are read."""
Result = namedtuple("Result", "address step columns leaves rate")
Nodes = namedtuple("Nodes", "near far levels")
"""Pending nodes of one panel: those of a block, and those that wait for other blocks."""
Room = namedtuple("Room", "near far levels packed_rows packed_panel")
"""Where all nodes are, and what is packed."""
Part = namedtuple("Part", "leaf samples leaves")
"""The first leaf, the samples that follow, and how many leaves there are in all."""
Out = namedtuple("Out", "address step rate")


@jit
def share(count, place):  # type: ignore[no-untyped-def]
    """First and last + 1 of `count` things that are this thread's."""
    first = count * place.thread // place.threads
    return first, count * (place.thread + 1) // place.threads


@jit
def trailing_ones(t):  # type: ignore[no-untyped-def]
    """How many pending nodes leaf number t is added to."""
    count = 0
    while t & 1:
        t >>= 1
        count += 1
    return count


@jit
def added_to(t, total):  # type: ignore[no-untyped-def]
    """The digits whose nodes leaf t is added to, as bits: all that wait, for the last of all."""
    return t if t == total - 1 else t & ~(t + 1)


@jit
def digits(leaves):  # type: ignore[no-untyped-def]
    """How many nodes may be pending in a sum of so many leaves."""
    count, rest = 0, leaves - 1
    while rest:
        rest >>= 1
        count += 1
    return count


@cache
def products(dtype: np.dtype[Any]) -> Any:
    """The functions for one dtype."""
    size, lanes, most, _, width, tile_bytes = shape(dtype)
    memory_of, transpose = memory(dtype), transposed(dtype)
    by_rows, by_columns = tile(dtype, True), tile(dtype, False)
    load_some, store = memory_of.load_some, memory_of.store
    read, write, zero = memory_of.read, memory_of.write, dtype.type(0)
    long, half = memory_of.lanes, width * size // 2

    @jit
    def zeros():  # type: ignore[no-untyped-def]
        return splat(zero)

    @jit
    def groups(rows):  # type: ignore[no-untyped-def]
        """How many tiles lie below each other: as few as can be, of nearly equal height."""
        return (rows + most - 1) // most

    @jit
    def panels(n):  # type: ignore[no-untyped-def]
        return (n + width - 1) // width

    @jit
    def pack(W, step, first, last, n, K, P):  # type: ignore[no-untyped-def]
        """Rows first, ..., last - 1 of W (K, n) in every panel of P; columns beyond n are 0."""
        for j in range(0, n, width):
            source, target = W + first * step + j * size, P + (j * K + first * width) * size
            for _ in range(first, last):
                for i in range(0, width, long):
                    store(load_some(source + i * size, n - j - i), target + i * size)
                source += step
                target += width * size

    @jit
    def pack_transposed(W, step, K, n, panel, P):  # type: ignore[no-untyped-def]
        """P becomes panel number `panel` of W^T, for W (n, K)."""
        count = min(width, n - panel * width)
        source = W + panel * width * step
        if K * count < FEW:
            for k in range(K):
                for j in range(0, width, long):
                    store(zeros(), P + (k * width + j) * size)
                for j in range(count):
                    write(read(source + j * step + k * size), P + (k * width + j) * size)
            return
        for k in range(0, K, long):
            for j in range(count):
                prefetch(source + j * step + (k + AHEAD * long) * size)
            for j in range(0, width, long):
                transpose(
                    source + j * step + k * size,
                    step,
                    count - j,
                    min(long, K - k),
                    P + (k * width + j) * size,
                    width * size,
                )

    @jit
    def leaf_product(x, x_step, rows, v, t, K, columns, bias, c, c_step, nodes, fetched):  # type: ignore[no-untyped-def]
        """Leaf t of one panel of c, whose rows are at v; c is written with the last of all leaves.

        `fetched`: how many bytes behind the leaf each term of it fetches.
        """
        below, leaves = groups(rows), (K + LEAF_FEATURES - 1) // LEAF_FEATURES
        height, extra, levels = rows // below, rows % below, digits(leaves)
        vectors = (columns + lanes - 1) // lanes
        last, digit = t == leaves - 1, trailing_ones(t)
        k = min(LEAF_FEATURES, K - t * LEAF_FEATURES)
        following, x_i, c_i = v + k * width * size, x + t * LEAF_FEATURES * size, c
        for i in range(below):
            high = height + 1 if i < extra else height
            by_rows(
                high,
                vectors,
                (
                    x_i,
                    x_step,
                    v,
                    width * size,
                    k,
                    nodes + i * levels * tile_bytes,
                    added_to(t, leaves),
                    0,
                    0,
                    0 if last else nodes + (i * levels + digit) * tile_bytes,
                    c_i,
                    c_step,
                    columns,
                    bias,
                    0,
                    following + i * k * fetched,
                    fetched,
                ),
            )
            x_i += high * x_step
            c_i += high * c_step

    @jit
    def rows_product(x, x_step, rows, K, P, n, bias, c, c_step, nodes):  # type: ignore[no-untyped-def]
        """c (rows, n) = x (rows, K) P + bias; nodes: pending ones of a panel's tiles."""
        share_of_leaf = width * size // groups(rows)
        for panel in range(panels(n)):
            j = panel * width * size
            columns, b = min(width, n - panel * width), bias + j if bias else 0
            for first in range(0, K, LEAF_FEATURES):
                v, t = P + (panel * K + first) * width * size, first // LEAF_FEATURES
                fetched = share_of_leaf if first + LEAF_FEATURES <= K else 0
                leaf_product(x, x_step, rows, v, t, K, columns, b, c + j, c_step, nodes, fetched)

    @jit
    def panels_product(  # type: ignore[no-untyped-def]
        x, x_step, rows, K, W, transposed, first, last, n, bias, c, c_step, nodes, P
    ):
        """Panels first, ..., last - 1 of c = x W^T + bias, W (n, K), or of c = x W, W (K, n).

        Each leaf of a panel is packed, in P, when it is needed.
        """
        for panel in range(first, last):
            j = panel * width * size
            columns, b = min(width, n - panel * width), bias + j if bias else 0
            for begin in range(0, K, LEAF_FEATURES):
                k, t = min(LEAF_FEATURES, K - begin), begin // LEAF_FEATURES
                if transposed:
                    pack_transposed(W + begin * size, K * size, k, n, panel, P)
                else:
                    pack(W + begin * n * size + j, n * size, 0, k, columns, k, P)
                leaf_product(x, x_step, rows, P, t, K, columns, b, c + j, c_step, nodes, 0)

    @jit
    def pack_block(d, step, n, samples, packed):  # type: ignore[no-untyped-def]
        """d (samples, n), a group of tiles' rows after the other: no two lie pages apart."""
        below, row = groups(n), 0
        height, extra = n // below, n % below
        for i in range(below):
            high = height + 1 if i < extra else height
            source, target = d + row * size, packed + i * BLOCK * most * size
            for _ in range(samples):
                for j in range(0, most, long):
                    store(load_some(source + j * size, high - j), target + j * size)
                source += step
                target += most * size
            row += high

    @jit
    def soon(t, i, v, far, c, following):  # type: ignore[no-untyped-def]
        """What tile i fetches in leaf t: what its sums will be added to, or some of the next panel.

        That is an address for the first sample, and a step from one to the next.
        """
        if added_to(t, c.leaves) >> NEAR & 1:
            return far, tile_bytes // LEAF_SAMPLES
        if t >= c.leaves - WRITTEN:
            return c.address + (t & 1) * half, c.step
        if t % (1 << NEAR) == 0 and i < 2 << NEAR:
            k = (i >> 1) * LEAF_SAMPLES
            return following.address + k * following.step + (i & 1) * half, following.step
        return v, 0

    @jit
    def block_of_columns(d, a, following, c, at, leaf, samples):  # type: ignore[no-untyped-def]
        """One panel of c for the samples of a block, the first of which are leaf number `leaf`.

        `following` are the rows of the next panel.
        """
        vectors = (c.columns + lanes - 1) // lanes
        height, extra = d.columns // d.groups, d.columns % d.groups
        row = 0
        for i in range(d.groups):
            high = height + 1 if i < extra else height
            x = d.address + (i * d.group_step if d.group_step else row * size)
            far = at.far + i * at.levels * tile_bytes
            for s in range(0, samples, LEAF_SAMPLES):
                t = leaf + s // LEAF_SAMPLES
                last = t == c.leaves - 1
                added, digit = added_to(t, c.leaves), trailing_ones(t)
                near = digit < NEAR
                pending = (
                    at.near + digit * tile_bytes if near else far + (digit - NEAR) * tile_bytes
                )
                v = a.address + s * a.step
                c_i = Result(c.address + row * c.step, c.step, c.columns, c.leaves, c.rate)
                ahead, ahead_step = soon(t, i, v, far, c_i, following)
                by_columns(
                    high,
                    vectors,
                    (
                        x + s * d.step,
                        d.step,
                        v,
                        a.step,
                        min(LEAF_SAMPLES, samples - s),
                        at.near,
                        added & ((1 << NEAR) - 1),
                        far,
                        added >> NEAR,
                        0 if last else pending,
                        c_i.address,
                        c_i.step,
                        c.columns,
                        0,
                        c.rate,
                        ahead,
                        ahead_step,
                    ),
                )
            row += high

    @jit
    def one_leaf(d, d_step, n, a, a_step, n_in, out, samples):  # type: ignore[no-untyped-def]
        """c (n, n_in) for so few samples that to read and write c takes longest: row by row."""
        below = groups(n)
        height, extra, row = n // below, n % below, 0
        for i in range(below):
            high = height + 1 if i < extra else height
            x, c = d + row * size, out.address + row * out.step
            for panel in range(panels(n_in)):
                j, columns = panel * width * size, min(width, n_in - panel * width)
                vectors = (columns + lanes - 1) // lanes
                sums = (x, d_step, a + j, a_step, samples, 0, 0, 0, 0, 0)
                result = (c + j, out.step, columns, 0, out.rate)
                by_columns(high, vectors, sums + result + (c + j, 0))
            row += high

    @jit
    def columns_product(d, d_step, n, a, a_step, n_in, out, at, part, exact):  # type: ignore[no-untyped-def]
        """c (n, n_in) = sum over samples of d^T a, as far as the part goes.

        With the last of all leaves c is written: the sum, or c - eta times it where there is a
        rate. With `exact` nothing beyond a is read.
        """
        many, below, levels = panels(n_in), groups(n), at.levels
        if part.leaves == 1 and below >= PACKED and not exact:
            one_leaf(d, d_step, n, a, a_step, n_in, out, part.samples)
            return
        for start in range(0, part.samples, BLOCK):
            samples = min(BLOCK, part.samples - start)
            d_block = Columns(d + start * d_step, d_step, n, below, 0)
            if many >= PACKED:
                pack_block(d_block.address, d_step, n, samples, at.packed_rows)
                d_block = Columns(at.packed_rows, most * size, n, below, BLOCK * most * size)
            for j in range(many):
                columns = min(width, n_in - j * width)
                v = Rows(a + start * a_step + j * width * size, a_step)
                if exact or below >= PACKED:
                    pack(v.address, a_step, 0, samples, columns, samples, at.packed_panel)
                    v = Rows(at.packed_panel, width * size)
                address = out.address + j * width * size
                c = Result(address, out.step, columns, part.leaves, out.rate)
                nodes = Nodes(at.near, at.far + j * below * levels * tile_bytes, levels)
                following = Rows(a + start * a_step + (j + 1) * width * size, a_step)
                leaf = part.leaf + start // LEAF_SAMPLES
                block_of_columns(d_block, v, following, c, nodes, leaf, samples)

    @jit
    def share_of_columns(d, d_step, n, a, a_step, n_in, out, at, part, exact, place):  # type: ignore[no-untyped-def]
        """This thread's share of c: rows, as of W when it is packed, or columns of few rows."""
        first, last, tiles = 0, n, 0
        left, right = 0, n_in
        if groups(n) >= 2 * place.threads:
            first, last = share(n, place)
            tiles = panels(n_in) * (groups(first) + place.thread)
        else:
            left, right = share(panels(n_in), place)
            tiles = left * groups(n)
            left, right = left * width, min(right * width, n_in)
        if first == last or left == right:
            return
        columns_product(
            d + first * size,
            d_step,
            last - first,
            a + left * size,
            a_step,
            right - left,
            Out(out.address + first * out.step + left * size, out.step, out.rate),
            Room(
                at.near,
                at.far + tiles * at.levels * tile_bytes,
                at.levels,
                at.packed_rows,
                at.packed_panel,
            ),
            part,
            exact,
        )

    return namespace(
        pack=pack,
        pack_transposed=pack_transposed,
        rows_product=rows_product,
        panels_product=panels_product,
        share_of_columns=share_of_columns,
        groups=groups,
        panels=panels,
    )
