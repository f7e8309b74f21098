"""Sums over samples in the CUDA sources, however they are divided and threads are ordered."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from conftest import HERE, sample
from deltaprop.activations import ACTIVATIONS
from deltaprop.backends import cuda as table
from deltaprop.devices.host import ORDERS, HostDevice
from deltaprop.losses import LOSSES
from kernels.helpers import assert_same_results, hostile, run
from test_ordered_gemm import shifted

pytestmark = pytest.mark.skipif("cuda-host" not in HERE, reason="no C++ compiler")

# Samples and outputs: parts of a leaf and several; less than a block's columns, as many, more.
SIZES = ((1, 1), (65, 2), (700, 3), (1100, 1), (200, 10), (66, 64), (130, 65), (70, 132))
G, LOSS = ACTIVATIONS["logistic"], LOSSES["half_mse"]


def calls(dtype, m, n, numbers=sample):
    """Each kernel made of column_sums."""
    x = [numbers((m, n), dtype, seed=seed) for seed in (1, 2, 3)]
    weights, db = numbers((m, 1), dtype, seed=4), np.zeros(n, dtype)
    yield "output_delta", *x, weights, LOSS, G, 0.3, db
    yield "output_delta", *x[:2], x[0], None, LOSS, G, 0.3, db
    yield "fused_delta", *x[:2], G, db
    yield "bias_gradient", x[0], None


def assert_as_reference(k, field, *args):
    got, wanted = (run(x, field, *args) for x in (k, "reference"))
    assert_same_results(got, wanted, f"{field} {[getattr(x, 'shape', x) for x in args]}")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("processors", [1, 60])
def test_every_edge(dtype, order, processors):
    """A slice of several leaves, and of one."""
    k = table.kernels(HostDevice(order, processors=processors), "cuda-host")
    for size in SIZES:
        for call in calls(dtype, *size):
            assert_as_reference(k, *call)


@pytest.mark.parametrize("family", ["everything", "subnormal", "zeros"])
def test_special_numbers(dtype, family):
    k = table.kernels(HostDevice(), "cuda-host")
    for size in SIZES[2::2]:
        for call in calls(dtype, *size, partial(hostile, family)):
            assert_as_reference(k, *call)


@pytest.mark.parametrize("size", [(70, 64), (66, 132)])
def test_arrays_that_are_not_aligned(dtype, size):
    """Each by itself."""
    k = table.kernels(HostDevice(), "cuda-host")
    for field, *args in calls(dtype, *size):
        for i in (i for i, x in enumerate(args[:3]) if isinstance(x, np.ndarray)):
            assert_as_reference(k, field, *args[:i], shifted(args[i]), *args[i + 1 :])
