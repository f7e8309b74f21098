"""However threads share the work of a sweep, and wherever arrays lie, the bits are the same."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.backends import team
from deltaprop.backends.tiling import groups, panels
from processes import or_else_stopped, python
from sharing import WAYS, Task, Way, assert_as_reference, plan_of, shared

F32 = np.dtype("float32")
PASSED = 64  # where a team counts its barriers, see loops/team.py
SOFTMAX = {"output": "softmax", "loss": "cross_entropy"}
YES_OR_NO = {"output": "logistic", "loss": "binary_cross_entropy"}

TASKS = {
    "small": Task((5, 33, 17, 2), 600),
    "no hidden layer": Task((3, 1), 321, loss="mse", weighted=True),
    "one of everything": Task((1, 1, 1), 1),
    "fewer samples than threads": Task((4, 5, 3), 3, "relu"),
    "classes": Task((6, 20, 5), 450, "relu", weighted=True, **SOFTMAX),
    "many classes": Task((3, 300), 70, dtype="float64", **SOFTMAX),
    "yes or no": Task((6, 20, 1), 450, "gelu", dtype="float64", **YES_OR_NO),
    "no bias": Task((5, 16, 2), 577, "gelu", bias=False, weighted=True),
    "sums over features with a tree": Task((3, 700, 2), 130, dtype="float64"),
    "steps that are padded": Task((4, 128, 64, 3), 200, loss="half_sse"),
    "packed rows": Task((1100, 9, 2), 300, weighted=True),
    "many blocks": Task((2, 3, 1), 4200, "relu", weighted=True),
    "few samples": Task((70, 300, 33, 9), 29, "gelu", weighted=True),
    "one sample of many classes": Task((9, 40, 300), 1, dtype="float64", **SOFTMAX),
    "few samples of one layer": Task((5, 66), 64, bias=False),
}


@pytest.fixture(autouse=True)
def no_test_hangs() -> Iterator[None]:
    with or_else_stopped():
        yield


@pytest.mark.parametrize("name", TASKS)
def test_any_way_to_share_the_work(name: str) -> None:
    assert_as_reference(TASKS[name])


def test_the_ways_are_those_they_seem_to_be() -> None:
    small, many = TASKS["small"], TASKS["many blocks"]
    plan = plan_of(small, WAYS["alone"])
    assert (plan.threads, plan.blocks, plan.part) == (1, 1, 600)
    plan = plan_of(small, WAYS["alone in parts"])
    assert (plan.threads, plan.blocks, plan.part, plan.chunk) == (1, 1, 256, 7)
    plan = plan_of(small, WAYS["2 together"])
    assert (plan.threads, plan.blocks, plan.alone) == (2, 1, False)
    plan = plan_of(small, WAYS["3 together in parts"])
    assert (plan.threads, plan.blocks, plan.part, plan.chunk) == (3, 1, 256, 5)
    plan = plan_of(small, WAYS["5 with blocks in parts"])
    assert (plan.threads, plan.blocks, plan.block) == (5, 5, 128)
    assert small.m % plan.block
    plan = plan_of(many, WAYS["2 with blocks"])
    assert (plan.blocks, plan.block, plan.part) == (3, 2048, 2048)
    plan = plan_of(many, WAY_IN_PARTS)
    assert (plan.blocks, plan.block, plan.part) == (3, 2048, 256)
    assert plan.plan["levels"] > 0
    for m in (64, 65):
        plan = plan_of(Task((5, 9, 2), m), WAYS["3 together in parts"])
        assert (plan.threads, plan.blocks, plan.few) == (3, 1, m == 64)


WAY_IN_PARTS = Way(2, parts=True, chunk=33)


def test_blocks_that_are_cut_into_parts() -> None:
    assert_as_reference(TASKS["many blocks"], {"2 with blocks in parts": WAY_IN_PARTS})


def test_the_tasks_are_what_they_seem_to_be() -> None:
    """On any CPU: its tile has at most 14 rows and 64 columns."""
    assert panels(1100, F32) >= 2 * 8
    assert groups(128, F32) >= 8
    padded = plan_of(TASKS["steps that are padded"], Way()).layers
    assert [int(s) % 512 for s in padded["step"]] == [16, 64, 256, 12]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_members(members: int, own: bool) -> None:
    ways = {name: WAYS[name] for name in ("alone in parts", "3 together in parts", "2 with blocks")}
    for options in ({}, {"dtype": "float64", "weighted": True, "loss": "mse"}):
        task = Task((5, 9, 2), 300, members=members, own=own, **options)
        assert_as_reference(task, ways)
        assert plan_of(task, WAYS["2 with blocks"]).threads == 2 if members > 1 else True


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_threads_wait_for_each_other(way: Way) -> None:
    """Before they begin, after packing, and in every part after each half of the work.

    Few samples: after the inputs, in place of packing, and after each layer both ways.

    A barrier that is missing may do no harm for a long time, so they are counted.
    """
    passed = team.memory() + PASSED
    few = [task for name, task in TASKS.items() if "few samples" in name]
    for task in (TASKS["small"], Task((5, 9, 2), 300, members=4), *few):
        plan, net = plan_of(task, way), task.net("numba")
        gradient, (X, Y, _) = np.empty_like(net.parameters), task.batch()
        before = ctypes.c_int64.from_address(passed).value
        with shared(way):
            plan.run(net.parameters, X, Y, None, gradient)
        waited = ctypes.c_int64.from_address(passed).value - before
        parts = -(-task.m // plan.part)
        each = 0 if plan.members > 1 else 2 if plan.blocks > 1 else 2 + 2 * parts
        if plan.few:
            each = 3 + 2 * (len(plan.layers) - 1)
        assert waited == (each if plan.threads > 1 else 0)


EDGES = [1, 2, 63, 64, 65, 127, 128, 129, 191, 255, 256, 257, 320, 511, 513, 769, 1025, 1500]
tasks = st.builds(
    Task,
    st.lists(st.integers(1, 70), min_size=2, max_size=4).map(tuple),
    st.sampled_from(EDGES) | st.integers(1, 400),
    st.sampled_from(["tanh", "relu", "gelu"]),
    loss=st.sampled_from(["half_sse", "half_mse", "mse"]),
    dtype=st.sampled_from(["float32", "float64"]),
    bias=st.booleans(),
    weighted=st.booleans(),
)
ways = st.builds(
    Way, st.sampled_from([1, 2, 3, 5]), st.booleans(), st.booleans(), st.integers(1, 130)
)


@settings(max_examples=15, deadline=None)
@given(tasks, ways)
def test_any_net_in_any_way(task: Task, way: Way) -> None:
    assert_as_reference(task, {"this": way})


@pytest.mark.parametrize("name", ["small", "classes", "many blocks"])
def test_micro_batches_in_any_way(name: str) -> None:
    task = TASKS[name]
    X, Y, weights = task.batch()
    value, whole = task.net("reference").value_and_grad(X, Y, task.loss, weights)
    for way in (WAYS["alone in parts"], WAYS["3 together in parts"], WAYS["2 with blocks"]):
        with shared(way):
            net = task.net("numba")
            for part in (64, 192, 320):
                got = net.value_and_grad(X, Y, task.loss, weights, micro_batch=part)
                assert got[0] == value
                assert_same_bits(got[1].flat, whole.flat, f"{way}, parts of {part}")


def test_the_same_net_with_batches_of_many_sizes() -> None:
    """More than there are plans kept, in any order, with every loss."""
    net = dp.MLP([3, 5, 2], "tanh", backend="numba")
    reference = net.to("reference")
    random = np.random.default_rng(0)
    for m in random.permutation(np.repeat([1, 7, 31, 64, 65, 100, 128, 150, 200, 333], 2)):
        X, Y = sample((m, 3), "float32", 1), sample((m, 2), "float32", 2)
        for loss in ("mse", None, "half_sse"):
            got, wanted = (each.value_and_grad(X, Y, loss) for each in (net, reference))
            assert got[0] == wanted[0]
            assert_same_bits(got[1].flat, wanted[1].flat, f"{m} {loss}")


# --------------------------------------------------------------------------- where arrays lie


def unaligned(x: np.ndarray, offset: int) -> np.ndarray:
    """The same numbers `offset` numbers after a cache line begins."""
    room = np.zeros(x.size + 64, x.dtype)
    first = -(room.ctypes.data // x.itemsize) % (64 // x.itemsize) + offset
    y = room[first : first + x.size].reshape(x.shape)
    y[...] = x
    return y


@pytest.mark.parametrize("name", ["small", "classes", "yes or no"])
def test_arrays_that_are_not_on_a_cache_line(name: str) -> None:
    task = TASKS[name]
    X, Y, weights = task.batch()
    for way in (WAYS["2 together"], WAYS["2 with blocks"]):
        with shared(way):
            net = task.net("numba")
            wanted = net.value_and_grad(X, Y, task.loss, weights)
            for offset in (1, 3, 7):
                given = [x if x is None else unaligned(x, offset) for x in (X, Y, weights)]
                for _ in range(2):
                    got = net.value_and_grad(given[0], given[1], task.loss, given[2])
                    assert_same_bits(got[1].flat, wanted[1].flat, f"{way}, offset {offset}")


def test_rows_of_a_larger_array() -> None:
    whole, targets = sample((900, 5), "float32", 1), sample((900, 2), "float32", 2)
    for way in WAYS.values():
        with shared(way):
            net = TASKS["small"].net("numba")
            for first, end in ((1, 601), (299, 899), (300, 900)):
                got = net.value_and_grad(whole[first:end], targets[first:end])
                wanted = net.value_and_grad(whole[first:end].copy(), targets[first:end].copy())
                assert got[0] == wanted[0]
                assert_same_bits(got[1].flat, wanted[1].flat, str(way))


CANARY = 64


def test_nothing_is_written_beyond_the_results() -> None:
    """Gradients, outputs and parameters lie between numbers that stay as they are."""
    for name in ("small", "steps that are padded", "no hidden layer"):
        task = TASKS[name]
        X, Y, _ = task.batch()
        for way in WAYS.values():
            net, plan = task.net("numba"), plan_of(task, way)
            count, shape = net.parameters.size, (task.m, task.sizes[-1])
            before = sample(2 * CANARY + max(count, Y.size), "float32", 9)
            rooms = [before.copy() for _ in range(3)]
            gradient, parameters = (room[CANARY : CANARY + count] for room in rooms[:2])
            outputs = rooms[2][CANARY : CANARY + Y.size].reshape(shape)
            parameters[...] = net.parameters
            given = {"delta_scale": plan.delta_scale}
            with shared(way):
                plan.run(parameters, X, Y, None, gradient, outputs, **given)
                plan.run(parameters, X, Y, None, None, None, rate=0.1, **given)
            for room, size in zip(rooms, (count, count, Y.size)):
                assert_same_bits(room[:CANARY], before[:CANARY], f"before, {way}")
                end = CANARY + size
                assert_same_bits(room[end:], before[end:], f"after, {way}")
            assert_same_bits(gradient, net.value_and_grad(X, Y, task.loss)[1].flat)
            assert_same_bits(outputs, net.predict(X))


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected as on Linux")
@pytest.mark.parametrize("end", [True, False])
def test_nothing_is_read_or_written_beyond_the_arrays(end: bool) -> None:
    """They end where a page begins that nobody may touch, or begin where one ends."""
    assert python(f"import pages; pages.sweeps({end}); pages.kernels({end})")[0] == ""


OLDER_CPU = {"x86_64": "haswell", "AMD64": "haswell"}.get(platform.machine(), "generic")
ELSEWHERE = """
import test_plans
from sharing import assert_as_reference
for name in ("small", "classes", "steps that are padded", "packed rows"):
    assert_as_reference(test_plans.TASKS[name])
import pages
if test_plans.sys.platform == "linux":
    pages.sweeps(True)
"""


def test_an_older_instruction_set() -> None:
    """Shorter vectors: other tiles, other panels."""
    given = {"NUMBA_CPU_NAME": OLDER_CPU, "NUMBA_CPU_FEATURES": ""}
    assert python(ELSEWHERE, **given)[0] == ""
