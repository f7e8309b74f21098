"""How a product is divided among the processors of a GPU: by what it costs, never by timing.

The bits are those of every other division. Costs are instructions: of the threads of the
processor that has most to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from deltaprop.devices.unit import Tile

TILES = {
    "float32": (
        Tile(256, 128, 16, 8, 1, depth=8),
        Tile(128, 128, 8, 8, 2),
        Tile(128, 64, 8, 8, 3),
        Tile(64, 64, 4, 8, 4),
        Tile(32, 32, 4, 4, 8),
    ),
    "float64": (Tile(64, 64, 4, 8, 2), Tile(32, 32, 4, 4, 8)),
}
"""The tiles that kernels are compiled for, by dtype."""

COPYING = 10
"""Instructions of a thread for each term that are neither products nor loads from shared memory."""

HIDING = 256
"""Threads that a processor needs to compute while others wait."""

BUSY = 512
"""Threads of a processor that sum over edges."""

BLOCKS = 4
"""Blocks of a processor that sum columns, or rows."""

ROOM = 32 << 10
"""Bytes of shared memory of a block that has several rows."""

COLUMNS = 64
"""Of a block that sums columns."""

BYTE = 7
"""Instructions that a processor could do in the time of its share of the memory's bandwidth."""

LAUNCH = 400_000
"""Instructions that a processor could do in the time of another launch."""


class Grid(NamedTuple):
    """A product's blocks: a tile each of C, for a slice of the terms."""

    tile: Tile
    down: int
    across: int
    slices: int
    terms: int
    """Of a slice: whole leaves, as many as a power of two, so each slice is a node of the tree."""


def ceil_div(count: int, size: int) -> int:
    """How many of that size hold so many."""
    return -(-count // size)


@lru_cache(4096)
def grid(
    M: int,
    N: int,
    K: int,
    leaf: int,
    size: int,
    tiles: tuple[Tile, ...],
    processors: int,
    sliced: bool = False,
) -> Grid:
    """The cheapest grid for C (M, N), reals of that size, with sums of K terms.

    In slices only if those are wanted.
    """
    grids = _grids(M, N, max(K, 1), leaf, tiles, sliced)
    return min(grids, key=lambda g: cost(g, M * N, size, processors))


def _grids(
    M: int, N: int, K: int, leaf: int, tiles: tuple[Tile, ...], sliced: bool
) -> Iterator[Grid]:
    leaves = ceil_div(K, leaf)
    halvings = (leaves - 1).bit_length() if sliced else 0
    for tile in tiles:
        down, across = ceil_div(M, tile.block_rows), ceil_div(N, tile.block_columns)
        yield Grid(tile, down, across, 1, K)
        for halving in range(halvings):
            terms = leaf << halving
            yield Grid(tile, down, across, ceil_div(K, terms), terms)


def cost(g: Grid, elements: int, size: int, processors: int) -> float:
    """Instructions until the last processor is done with a grid for so many elements of C."""
    rows, columns = g.tile.rows, g.tile.columns
    rounds = ceil_div(g.down * g.across * g.slices, processors)
    loads = (rows + columns) * size / 16
    product = max(HIDING, rounds * g.tile.threads) * (rows * columns + loads + COPYING) * g.terms
    if g.slices == 1:
        return product
    return product + LAUNCH + BYTE * 2 * g.slices * elements * size / processors


class Rows(NamedTuple):
    """How a block of rows.cuh takes rows: so many, or one in parts; `lanes` threads along each."""

    rows: int
    lanes: int
    room: int
    threads: int
    shared: int


@lru_cache(4096)
def rows(
    m: int, n: int, leaf: int, tiles: int, size: int, processors: int, shared_memory: int
) -> Rows:
    """For m rows of n reals of that size, of which so many tiles are held in shared memory.

    As many as fit in a room of which a processor holds several; a long row gets a larger one, and
    is taken in parts where it does not fit in the largest.
    """
    chunk = 16 // size
    pitch = ceil_div(min(n, leaf), chunk) * chunk | chunk
    of_leaf, of_row = tiles * pitch + 1, 2
    needed = ceil_div(n, leaf) * of_leaf + of_row
    rooms = [(ROOM, 256)] + [(shared_memory // k - 1024, min(1024, 2048 // k)) for k in (4, 2, 1)]
    shared, threads = next((x for x in rooms if x[0] >= needed * size), rooms[-1])
    fit, units = shared // (needed * size), n // chunk if n % chunk == 0 else n
    if fit == 0:
        return Rows(1, threads, (shared // size - of_row) // of_leaf * leaf, threads, shared)
    count = min(fit, threads, ceil_div(m, BLOCKS * processors))
    along = max(32, threads >> (count - 1).bit_length())
    return Rows(count, min(along, 1 << (units - 1).bit_length()), n, threads, shared)


class Columns(NamedTuple):
    """How a block sums columns: so many leaves at a time, so many terms in all."""

    across: int
    slices: int
    leaves: int
    terms: int


def columns(n: int, m: int, leaf: int, processors: int) -> Columns:
    """For sums of m terms in n columns: several leaves at a time where there are few columns."""
    leaves = min(16, 1 << max(0, (COLUMNS // n).bit_length() - 1))
    across = ceil_div(n, COLUMNS)
    slices, terms = runs(across, m, leaf * leaves, processors, BLOCKS)
    return Columns(across, slices, leaves, terms)


def runs(sums: int, K: int, leaf: int, processors: int, busy: int = BUSY) -> tuple[int, int]:
    """Slices, and terms of each, for so many sums of K terms, where a slice of a sum is one's work.

    As few slices as keep the processors busy, each with so many at work: a slice is whole leaves, a
    power of two of them.
    """
    leaves = max(1, ceil_div(K, leaf))
    wanted = ceil_div(busy * processors, sums)
    terms = leaf << max(0, (leaves // wanted).bit_length() - 1)
    return ceil_div(leaves * leaf, terms), terms
