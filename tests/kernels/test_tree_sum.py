"""tree_sum: y_i = the tree over nodes x_1i, x_2i, ..., the second pass of sums over samples."""

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.backends.grids import TILES
from deltaprop.backends.launches import Launches
from deltaprop.devices.host import ORDERS
from kernels.helpers import device_at, hostile, on_every_device, ordered_dot

COUNTS = (2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 129, 1000)


def tree_sum(where, nodes, order="random"):
    device = device_at(where, order=order)
    y = device.empty(nodes.shape[1:], nodes.dtype)
    Launches(device, TILES).tree_sum(device.asarray(nodes), y)
    return device.to_numpy(y)


@on_every_device
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_count(where, dtype, count, order):
    """Leaves of one term: the specification's tree, in exact arithmetic, rounded."""
    nodes = sample((count, 35), dtype)
    got = tree_sum(where, nodes, order)
    for i in (0, 31, 32, 34):
        wanted = ordered_dot(nodes[:, i], np.ones(count, dtype), 1)
        assert_same_bits(got[i : i + 1], np.array([wanted]))


@on_every_device
@pytest.mark.parametrize("family", ["everything", "zeros", "vanishing", "overflow"])
@pytest.mark.parametrize("count", [2, 9, 70])
def test_special_numbers(where, dtype, family, count):
    """Level by level, neighbours are added; an odd last one is carried up unchanged."""
    nodes = level = hostile(family, (count, 3, 5), dtype)
    with np.errstate(all="ignore"):
        while len(level) > 1:
            pairs = len(level) // 2 * 2
            level = np.concatenate([level[0:pairs:2] + level[1:pairs:2], level[pairs:]])
    assert_same_bits(tree_sum(where, nodes), level[0])
