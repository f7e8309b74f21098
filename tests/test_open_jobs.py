"""Jobs that threads join as they come: members of ensembles, each computed once by somebody."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.backends import team
from deltaprop.backends.loops.jit import entry
from deltaprop.backends.loops.team import take_part
from deltaprop.backends.records import BLOCK, ENTRY, INSIDE, JOB, OPEN
from deltaprop.subnormals import SubnormalsFlushedError
from processes import or_else_stopped

SIZES = [5, 33, 17, 2]


@pytest.fixture(autouse=True)
def no_test_hangs() -> Iterator[None]:
    with or_else_stopped():
        yield


def test_jobs_that_threads_join_and_jobs_that_wait_for_all(threads) -> None:
    """Members of ensembles are dealt to whoever comes; who comes late is in nobody's way."""
    threads(5)  # more than cores: some come late
    net = dp.MLP(SIZES, "tanh", backend="numba")
    few, many = (dp.MLP(SIZES, "tanh", backend="numba", ensemble=n) for n in (2, 300))
    X, Y = sample((150, 5), "float32", 1), sample((150, 2), "float32", 2)
    calls = [
        lambda: few.value_and_grad(X, Y)[1],
        lambda: net.value_and_grad(X, Y)[1],
        lambda: many.value_and_grad(X[:3], Y[:3])[1],
        lambda: few.value_and_grad(X[:3], Y[:3])[1],
        lambda: after_a_step(many, X[:3], Y[:3]),
    ]
    threads(1)
    right = [dp.digest(call()) for call in calls]
    threads(5)
    random = np.random.default_rng(0)
    for i in random.integers(len(calls), size=2000):
        assert dp.digest(calls[i]()) == right[i], i
    job = ctypes.c_int64.from_address(team.memory() + JOB).value
    assert many.value_and_grad(X[:3], Y[:3])[1].flat.any()
    over = ctypes.c_int64.from_address(team.memory() + JOB).value
    assert over > job and over & (2 * OPEN - 1) == 0, "nobody may join a job that is over"


def after_a_step(net: dp.MLP, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    net = net.to()
    net.train_step(X, Y)
    return net.parameters


def test_a_helper_that_comes_late() -> None:
    """It enters the job that it was called to, if that is not over; nobody is left inside."""
    entered: list[tuple[int, ...]] = []
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)
    work = prototype(lambda *given: entered.append((*given, words[INSIDE // 8])) or 0)
    words = np.zeros(team.BYTES // 8, np.int64)
    words[ENTRY // 8], words[BLOCK // 8] = ctypes.cast(work, ctypes.c_void_p).value, 7

    @entry
    def join(memory, thread, seen):  # type: ignore[no-untyped-def]
        take_part(memory, thread, seen)
        return 0

    now, before = (5 << 16) + OPEN + 3, (4 << 16) + OPEN + 3
    words[JOB // 8] = now
    for thread, seen in ((1, before), (3, now), (2, now)):
        join.ctypes(words.ctypes.data, thread, seen)
    assert entered == [(7, 2, 3, 1)]
    assert words[INSIDE // 8] == 0


def test_a_leader_that_flushes_leaves_all_members_as_they_were(threads, flush: int) -> None:
    members = dp.MLP(SIZES, "tanh", backend="numba", ensemble=300)
    X, Y = sample((70, 5), "float32", 1), sample((70, 2), "float32", 2)
    before = members.parameters.copy()
    for _ in range(50):
        members.value_and_grad(X, Y)  # the helpers are awake
        assert team.function(flush)(1, 0, 1) == 0
        try:
            with pytest.raises(SubnormalsFlushedError):
                members.train_step(X, Y)
        finally:
            assert team.function(flush)(0, 0, 1) == 0
    assert_same_bits(members.parameters, before)
