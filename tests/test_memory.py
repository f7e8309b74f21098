"""How much memory a sweep needs is known, written down, and kept to."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memory
from deltaprop.backends.tiling import shape
from processes import python
from sharing import WAYS, Task, Way, plan_of
from test_plans import TASKS

PAGE = (Path(__file__).parents[1] / "docs" / "memory.md").read_text(encoding="utf-8")


def assert_as_formula(task: Task, way: Way) -> None:
    plan = plan_of(task, way)
    tile = shape(plan.dtype)
    needs = memory.needs(plan, tile)
    assert plan.bytes == sum(plan.rooms.values()) == memory.total(plan, tile)
    assert plan.plan["next_own"] == needs.own
    assert plan.plan["next_room"] == (needs.room if plan.alone else 0)


@pytest.mark.parametrize("name", TASKS)
def test_a_plan_needs_what_the_formula_says(name: str) -> None:
    for way in WAYS.values():
        assert_as_formula(TASKS[name], way)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 600), min_size=2, max_size=5).map(tuple),
    st.integers(1, 10**6),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([None, None, 1, 3]),
    st.builds(
        Way, st.sampled_from([1, 2, 3, 5]), st.booleans(), st.booleans(), st.sampled_from([1, 64])
    ),
)
def test_any_plan_needs_what_the_formula_says(sizes, m, dtype, members, way) -> None:
    assert_as_formula(Task(sizes, m, dtype=dtype, members=members), way)


@pytest.mark.parametrize("name", TASKS)
def test_what_is_there_at_the_same_time_lies_apart(name: str) -> None:
    """In a room: every array of every layer, but nodes, where one thread takes layers in turn."""
    for way in WAYS.values():
        plan = plan_of(TASKS[name], way)
        tile, room = shape(plan.dtype), memory.needs(plan, shape(plan.dtype)).room
        leaves = memory.digits(memory.up(plan.block, 64))
        places, shared = [], []
        for l, layer in enumerate(plan.layers):
            rows = plan.part * int(layer["step"])
            places += [(int(layer["a"]), rows)]
            if l == 0:
                continue
            places += [(int(layer["delta"]), rows)]
            places += [(int(layer["z"]), rows)] if layer["z"] >= 0 else []
            places += [(int(layer["bias_nodes"]), leaves * int(plan.plan["bias_step"]))]
            rows = memory.up(layer["units"], tile.rows) + (0 if plan.alone else plan.threads)
            tiles = memory.up(layer["inputs"], tile.width) * rows
            shared += [(int(layer["nodes"]), int(tiles * plan.plan["levels"] * tile.bytes))]
        places += [(int(plan.plan["error_at"]), plan.part * plan.size)]
        places += [(int(plan.plan["error_nodes"]), leaves * plan.size)]
        if plan.alone and plan.part == plan.block:
            shared = [max(shared)]
        places = sorted(place for place in places + shared if place[1])
        for (start, size), (following, _) in zip(places, [*places[1:], (room, 0)]):
            assert start + size <= following, f"{name}, {way}"


def test_the_table_of_the_page() -> None:
    """`python tests/memory.py` prints it."""
    (found,) = re.findall(r"^\| net \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert found.strip() == memory.table()


def test_the_constants_of_the_page() -> None:
    from deltaprop.backends import plans, whole

    assert f"last {whole.KEPT} plans" in PAGE
    assert f"fits in {plans.CACHE // 1024} kB" in PAGE
    assert f"fits in {plans.ROOM >> 20} MB" in PAGE
    assert memory.AVX512["float32"].rows == 14
    for dtype, tile in memory.AVX512.items():
        assert tile.bytes == tile.rows * tile.width * np.dtype(dtype).itemsize


LARGE = """
import numpy as np
import deltaprop as dp
random, m = np.random.default_rng(0), 1_000_000
X, Y = random.standard_normal((m, 3), "float32"), random.random((m, 1), "float32")
net = dp.MLP([3, 64, 64, 64, 64, 1], "tanh", backend="numba")
value, gradient = net.value_and_grad(X, Y)
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
again = net.value_and_grad(X, Y, micro_batch=1 << 18)
print(value == again[0] and (gradient.flat == again[1].flat).all())
few = net.to("numpy").loss(X[:10000], Y[:10000])
print(abs(net.loss(X[:10000], Y[:10000]) - few) < 1e-6 * few)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
def test_a_million_samples_need_little() -> None:
    """The peak of that process, X and Y and Python with it."""
    peak, same, right = python(LARGE)[0].split()
    assert (same, right) == ("True", "True")
    assert int(peak) * 1024 < 1e9
