"""How products are divided among processors: every part once, and all processors have work."""

from __future__ import annotations

import itertools
import math

import pytest

from deltaprop.backends.grids import TILES, columns, cost, grid, rows, runs

LEAF = 64
SIZES = (1, 2, 10, 64, 100, 128, 200, 256, 500, 784, 1000, 1024, 2048, 3000, 4096)
TERMS = (1, 63, 64, 65, 1000, 4096, 65_536, 1_000_000)
PROCESSORS = (1, 2, 40, 132)
BYTES = {"float32": 4, "float64": 8}


def chosen(dtype, M, N, K, processors, sliced=True):
    return grid(M, N, K, LEAF, BYTES[dtype], TILES[dtype], processors, sliced)


def shapes():
    return itertools.product(SIZES[::2], SIZES[1::3], TERMS, PROCESSORS)


def test_a_grid_covers_the_product_and_no_more(dtype):
    for M, N, K, processors in shapes():
        g = chosen(dtype, M, N, K, processors)
        assert (g.down - 1) * g.tile.block_rows < M <= g.down * g.tile.block_rows
        assert (g.across - 1) * g.tile.block_columns < N <= g.across * g.tile.block_columns
        assert (g.slices - 1) * g.terms < K <= g.slices * g.terms


def test_slices_are_nodes_of_the_tree(dtype):
    """Each has as many whole leaves as some power of two; CUDA allows 65,535 blocks in z."""
    for M, N, K, processors in shapes():
        g = chosen(dtype, M, N, K, processors)
        leaves, rest = divmod(g.terms, LEAF)
        assert g.slices == 1 or (rest == 0 and leaves.bit_count() == 1)
        assert g.slices <= 65_535


def test_there_are_no_slices_where_none_are_wanted(dtype):
    for M, N, K, processors in shapes():
        assert chosen(dtype, M, N, K, processors, sliced=False)[3:] == (1, K)


def test_every_tile_has_its_use(dtype):
    """On a GPU of 132 processors, for square products and for those with many more rows."""
    square = {chosen(dtype, n, n, n, 132, sliced=False).tile for n in (*SIZES, 1280)}
    tall = {chosen(dtype, 65_536, n, n, 132, sliced=False).tile for n in SIZES}
    assert square | tall == set(TILES[dtype])


def test_a_sum_over_many_samples_keeps_all_processors_busy(dtype):
    for n in (1, 10, 64, 128):
        g = chosen(dtype, n, n, 1_000_000, 132)
        assert g.down * g.across * g.slices >= 100


def test_operations_of_a_large_product_are_most_of_its_instructions():
    """On a GPU of 132 processors, from 2048 on: four fifths."""
    for n in (2048, 3000, 4096, 8192):
        g = chosen("float32", n, n, n, 132, sliced=False)
        assert n**3 / 132 / cost(g, n * n, 4, 132) > 0.75


@pytest.mark.parametrize("sums", [1, 3, 64, 4096])
@pytest.mark.parametrize("K", [*TERMS, 0])
def test_runs(sums, K):
    slices, terms = runs(sums, K, LEAF, 132)
    leaves, rest = divmod(terms, LEAF)
    assert rest == 0 and leaves.bit_count() == 1
    assert slices == max(1, math.ceil(K / terms))
    # Half as long ones are more than it takes, unless there are none.
    assert leaves == 1 or sums * 2 * slices >= 512 * 132 / 2


@pytest.mark.parametrize("n", [1, 2, 10, 64, 65, 4096])
@pytest.mark.parametrize("m", TERMS)
def test_columns(n, m):
    """Leaves of a slice are a power of two, the columns of a block's leaves at most 64."""
    g = columns(n, m, LEAF, 132)
    leaves, rest = divmod(g.terms, LEAF)
    assert rest == 0 and leaves.bit_count() == 1
    assert leaves % g.leaves == 0 and g.leaves * min(n, 64) <= 64
    assert (g.across - 1) * 64 < n <= g.across * 64
    assert (g.slices - 1) * g.terms < m <= g.slices * g.terms
    # CUDA allows 65,535 blocks in y; half of the blocks are enough for all processors, if any are.
    assert g.slices <= 65_535
    assert leaves == g.leaves or 2 * g.across * g.slices >= 4 * 132


@pytest.mark.parametrize("tiles", [1, 2])
@pytest.mark.parametrize("shared_memory", [64 << 10, 99 << 10, 227 << 10])
@pytest.mark.parametrize("n", [1, 3, 64, 256, 257, 1000, 8192, 50_257, 200_000])
def test_rows(n, shared_memory, tiles, dtype):
    """Tiles, a number of each leaf and two of each row fit in the shared memory."""
    size = BYTES[dtype]
    for m in (1, 100, 1_000_000):
        g = rows(m, n, 256, tiles, size, 132, shared_memory)
        leaves = math.ceil(g.room / 256)
        pitch = math.ceil(min(g.room, 256) * size / 16)
        reals = tiles * leaves * (pitch | 1) * 16 // size + leaves + 2
        assert g.rows * reals * size <= g.shared <= shared_memory
        assert g.rows <= g.threads <= 1024 and g.lanes <= g.threads
        assert g.lanes.bit_count() == g.threads.bit_count() == 1
        assert g.room == n or (g.rows == 1 and g.room < n and g.room % 256 == 0)
        # All processors have work, if there is enough of it.
        assert m < 4 * 132 or math.ceil(m / g.rows) >= 4 * 132
