"""What launches are made of: a device, units, grids, and the second pass of a sum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from deltaprop.backends.grids import Grid, ceil_div, grid
from deltaprop.contract import Array, Arrays
from deltaprop.devices.unit import Tile, Unit
from deltaprop.optimizers import CONSTANTS, Rules, numbers_of
from deltaprop.scalar import Rule, trace

COLUMNS, LINES = 32, 8
"""Elements and lines of a block of tree_sum.cu."""

THREADS = 256
MOST_BLOCKS, MOST_DOWN = 1 << 20, 65_535
"""Of a grid, and of its second dimension, which CUDA restricts to that."""
AHEAD = 32
"""Bytes of each array that a thread of `map` in grid.cuh takes at once."""


class Device(Arrays, Protocol):
    """What the table needs of a machine: arrays, and launches on them.

    Arguments of a launch are arrays, None (null), Python ints (64 bits), NumPy reals; a block gets
    `shared` bytes of shared memory beside what the kernel declares.
    """

    @property
    def shared_memory(self) -> int:
        """Bytes that a block may have."""

    @property
    def processors(self) -> int:
        """How many blocks run at once at least, each on a processor of its own."""

    def launch(
        self,
        unit: Unit,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: tuple[Any, ...],
        shared: int = 0,
    ) -> None: ...


def levels(terms: int, leaf: int) -> int:
    """Nodes that may wait in a tree over that many terms, up to a power of two.

    After i leaves as many wait as i has ones. A power of two, so that few variants of a kernel are
    compiled.
    """
    leaves = max(1, ceil_div(terms, leaf))
    waiting = (leaves + 1).bit_length() - 1
    return 1 << (waiting - 1).bit_length()


@lru_cache(4096)
def _unit(
    kernel: str,
    dtype: np.dtype[Any],
    levels: int,
    rules: tuple[tuple[str, Rule], ...],
    tile: Tile | None,
    constants: tuple[tuple[str, int], ...],
) -> Unit:
    """The same unit for the same arguments: it is looked up at every launch."""
    programs = tuple((alias, trace(rule, dtype.name)) for alias, rule in rules)
    return Unit(kernel, dtype, programs, levels, tile, constants)


class Launches:
    """Launches on a device, of units made for them; products in those tiles."""

    def __init__(self, device: Device, tiles: dict[str, tuple[Tile, ...]]) -> None:
        self.device, self.tiles = device, tiles

    def map(self, kernel: str, size: int, args: tuple[Any, ...], **rules: Rule) -> None:
        """A kernel that goes through arrays of that size element by element."""
        unit = self.unit(kernel, args[0].dtype, 1, rules)
        blocks = ceil_div(size * args[0].dtype.itemsize, AHEAD * THREADS)
        self.device.launch(unit, (min(blocks, MOST_BLOCKS), 1, 1), (THREADS, 1, 1), args)

    def each(
        self, kernel: str, n: int, m: int, args: tuple[Any, ...], levels: int, **rules: Rule
    ) -> None:
        """A kernel with a thread for each element of a matrix (n, m)."""
        unit = self.unit(kernel, args[0].dtype, levels, rules)
        across = min(THREADS, 1 << (m - 1).bit_length())
        down = THREADS // across
        blocks = ceil_div(m, across), min(ceil_div(n, down), MOST_DOWN)
        self.device.launch(unit, (*blocks, 1), (across, down, 1), args)

    def product(
        self, kernel: str, divided: Grid, leaf: int, args: tuple[Any, ...], **rules: Rule
    ) -> None:
        """A kernel made of ordered_gemm."""
        unit = self.unit(kernel, args[0].dtype, levels(divided.terms, leaf), rules, divided.tile)
        blocks = (divided.down, divided.across, divided.slices)
        self.device.launch(unit, blocks, (divided.tile.threads, 1, 1), args)

    def grid(self, M: int, N: int, K: int, leaf: int, array: Array, sliced: bool = False) -> Grid:
        """Of a product C (M, N) with sums of K terms, of the array's dtype."""
        tiles = self.tiles[array.dtype.name]
        return grid(M, N, K, leaf, array.dtype.itemsize, tiles, self.device.processors, sliced)

    def nodes(self, slices: int, out: Array) -> Array:
        """Where a sum over samples in so many slices goes: `out` itself, or what tree_sum adds."""
        return out if slices == 1 else self.device.empty((slices, *out.shape), out.dtype)

    def tree_sum(self, nodes: Array, out: Array) -> None:
        """The tree over the first axis of `nodes`, unless that is `out` itself."""
        if nodes is out:
            return
        count, size = len(nodes), out.size
        run = 1 << (ceil_div(count, LINES) - 1).bit_length()
        unit = self.unit("tree_sum", out.dtype, levels(count, 1), {})
        args = (nodes, out, count, size, run)
        self.device.launch(unit, (ceil_div(size, COLUMNS), 1, 1), (COLUMNS * LINES, 1, 1), args)

    def unit(
        self,
        kernel: str,
        dtype: np.dtype[Any],
        levels: int,
        rules: dict[str, Rule],
        tile: Tile | None = None,
        constants: tuple[tuple[str, int], ...] = (),
    ) -> Unit:
        return _unit(kernel, dtype, levels, tuple(rules.items()), tile, constants)

    def update(
        self,
        w: Array,
        g: Array,
        states: Sequence[Array],
        rules: Rules,
        constants: Sequence[float],
    ) -> None:
        """Each state, then w, takes its new value; a thread has as many as 16 bytes hold."""
        *of_states, of_w = rules
        named = {f"new_s{i}": rule for i, rule in enumerate(of_states)} | {"new_w": of_w}
        unit = self.unit("update", w.dtype, 1, named, None, (("STATES", len(states)),))
        numbers = numbers_of(w, g, states, constants)
        arrays, reals = numbers[:-CONSTANTS], map(w.dtype.type, numbers[-CONSTANTS:])
        blocks = min(ceil_div(w.size, THREADS * 16 // w.dtype.itemsize), MOST_BLOCKS)
        self.device.launch(unit, (blocks, 1, 1), (THREADS, 1, 1), (*arrays, *reals, w.size))
