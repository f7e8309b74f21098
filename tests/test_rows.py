"""The CUDA sources that go row by row: several rows a block, one in parts, threads in any order."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from conftest import HERE, sample
from deltaprop.backends import cuda as table
from deltaprop.backends import grids
from deltaprop.devices.host import ORDERS, HostDevice
from deltaprop.losses import LOSSES
from kernels.helpers import hostile
from test_column_sums import assert_as_reference
from test_ordered_gemm import shifted

pytestmark = pytest.mark.skipif("cuda-host" not in HERE, reason="no C++ compiler")

# Rows of a block and one more; outputs: single ones, chunks, a leaf, parts of leaves.
SIZES = ((300, 1), (70, 3), (40, 10), (37, 64), (9, 300), (3, 1028))


def calls(m, n, numbers):
    """Each kernel of rows.cuh."""
    z, Y = numbers((m, n), seed=1), numbers((m, n), seed=2)
    yield "softmax", z
    yield "log_softmax", z
    yield "sample_loss", z, Y, LOSSES["half_mse"]
    yield "softmax_delta", z, Y


def kernels(*args, **options):
    return table.kernels(HostDevice(*args, **options), "cuda-host")


@pytest.fixture
def in_parts(monkeypatch):
    """No block has room for more than two leaves of a tile."""
    device = HostDevice("random")
    device.shared_memory = 1024 + 8 * 2 * 2 * 260
    monkeypatch.setattr(grids, "ROOM", 16)
    grids.rows.cache_clear()
    yield table.kernels(device, "cuda-host")
    grids.rows.cache_clear()


@pytest.mark.parametrize("order", ORDERS)
def test_every_edge(dtype, order):
    k = kernels(order, processors=1 if order == "forward" else 4)
    for size in SIZES:
        for call in calls(*size, partial(sample, dtype=dtype)):
            assert_as_reference(k, *call)


def test_a_row_in_parts(dtype, in_parts):
    """Of one part, of several, of a last one that is short."""
    for n in (300, 1028):
        for call in calls(2, n, partial(sample, dtype=dtype)):
            assert_as_reference(in_parts, *call)


@pytest.mark.parametrize("family", ["everything", "subnormal"])
def test_special_numbers_in_parts(dtype, family, in_parts):
    for call in calls(3, 1028, partial(hostile, family, dtype=dtype)):
        assert_as_reference(in_parts, *call)


@pytest.mark.parametrize("n", [64, 300])
def test_arrays_that_are_not_aligned(dtype, n):
    for field, *args in calls(5, n, partial(sample, dtype=dtype)):
        for i in (i for i, x in enumerate(args) if isinstance(x, np.ndarray)):
            assert_as_reference(kernels(), field, *args[:i], shifted(args[i]), *args[i + 1 :])


@pytest.mark.parametrize(("n", "threads"), [(9000, 512), (20_000, 1024), (60_000, 1024)])
def test_long_rows(n, threads):
    """In more shared memory and with more threads, and in parts where even that is too little."""
    divided = grids.rows(1, n, 256, 1, 4, 132, HostDevice.shared_memory)
    assert (divided.rows, divided.threads, divided.room < n) == (1, threads, n == 60_000)
    assert_as_reference(kernels(), "softmax", sample((1, n), "float32"))
