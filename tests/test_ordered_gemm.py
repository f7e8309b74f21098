"""The product of the CUDA sources: in every tile, at every edge, whatever the order of threads."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from conftest import HERE, assert_same_bits, sample
from deltaprop.activations import ACTIVATIONS
from deltaprop.backends import cuda as table
from deltaprop.backends.grids import TILES
from deltaprop.devices.host import ORDERS, HostDevice
from kernels.helpers import hostile, run

pytestmark = pytest.mark.skipif("cuda-host" not in HERE, reason="no C++ compiler")

EACH = [(dtype, tile) for dtype, tiles in TILES.items() for tile in tiles]
each_tile = pytest.mark.parametrize(
    ("dtype", "tile"), EACH, ids=[f"{dtype}-{t.block_rows}x{t.block_columns}" for dtype, t in EACH]
)

# Rows and columns of C, terms: less than a tile, a tile, one more; whole chunks and others; less
# than a stage, whole leaves, several of them.
SIZES = ((1, 1, 1), (3, 5, 17), (33, 65, 16), (128, 132, 48), (130, 129, 256), (17, 36, 1030))


def calls(dtype, rows, columns, terms, numbers=sample):
    """Each kernel made of ordered_gemm, for a C of that shape and sums of so many terms."""
    g, x = ACTIVATIONS["tanh"], partial(numbers, dtype=dtype)
    long, wide = x((rows, terms), seed=1), x((terms, columns), seed=2)
    yield "dense_forward", long, x((columns, terms), seed=3), x((columns,), seed=4), g, True
    yield "dense_forward", long, x((columns, terms), seed=3), None, g, False
    yield "hidden_delta", long, wide, x((rows, columns), seed=5), g
    yield "weight_gradient", x((terms, rows), seed=6), wide, None


def in_tiles(tile, dtype, **device):
    return table.kernels(HostDevice(**device), "cuda-host", {dtype: (tile,)})


def assert_as_reference(k, field, *args):
    got, wanted = (run(x, field, *args) for x in (k, "reference"))
    for x, y in zip(got, wanted) if isinstance(wanted, tuple) else [(got, wanted)]:
        if y is not None:
            assert_same_bits(x, y, f"{field} {[getattr(z, 'shape', z) for z in args]}")


@each_tile
@pytest.mark.parametrize("order", ORDERS)
def test_every_edge(dtype, tile, order):
    k = in_tiles(tile, dtype, order=order)
    for size in SIZES if order == "random" else SIZES[1::2]:
        for call in calls(dtype, *size):
            assert_as_reference(k, *call)


@each_tile
@pytest.mark.parametrize("family", ["everything", "vanishing", "zeros"])
def test_what_lies_beyond_the_last_term_adds_nothing(dtype, tile, family):
    """Not even to -0: it is the one sum that 0 would change."""
    k = in_tiles(tile, dtype)
    for call in calls(dtype, 33, 36, 5, partial(hostile, family)):
        assert_as_reference(k, *call)


@each_tile
@pytest.mark.parametrize("processors", [1, 60, 1000])
def test_slices_of_a_sum_over_samples(dtype, tile, processors):
    """From one to one a leaf; the last is shorter, or the only one."""
    k = in_tiles(tile, dtype, processors=processors)
    for m in (1, 64, 65, 700, 1300):
        delta, a_in = sample((m, 3), dtype, 1), sample((m, 5), dtype, 2)
        assert_as_reference(k, "weight_gradient", delta, a_in, None)


@each_tile
def test_arrays_that_are_not_aligned(dtype, tile):
    """Each operand by itself, and what is written."""
    k = in_tiles(tile, dtype)
    for field, *args in calls(dtype, 132, 128, 32):
        wanted = getattr(k, field)(*args)
        for i in (i for i, x in enumerate(args) if isinstance(x, np.ndarray)):
            got = getattr(k, field)(*args[:i], shifted(args[i]), *args[i + 1 :])
            assert_same_bits(last(got), last(wanted), f"{field}, argument {i}")
    delta, a_in = sample((70, 132), dtype, 1), sample((70, 128), dtype, 2)
    dW = k.weight_gradient(delta, a_in, shifted(np.zeros((132, 128), dtype)))
    assert_same_bits(dW, run("reference", "weight_gradient", delta, a_in, None))


def shifted(x):
    """The same numbers, one real further on in memory."""
    y = np.empty(x.size + 1, x.dtype)[1:].reshape(x.shape)
    y[...] = x
    return y


def last(results):
    """The activations of dense_forward; what the others return."""
    return results[-1] if isinstance(results, tuple) else results
