"""Threads that compute together: the same bits by any number of them, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.backends import plans, team
from deltaprop.subnormals import SubnormalsFlushedError
from processes import or_else_stopped, python

# What a process of its own computes: by helpers, however little there is to do.
WORK = """
import json, os, sys, threading, time
import numpy as np
import deltaprop as dp
from deltaprop.backends import numba as table, plans, team
plans.PARALLEL_WORK = plans.TOGETHER_WORK = table.PARALLEL_WORK = 1
SIZES = [5, 33, 17, 2]

def net(backend="numba"):
    return dp.MLP(SIZES, "tanh", backend=backend)

def batch(m):
    random = np.random.default_rng(m)
    return [random.standard_normal((m, n)).astype("float32") for n in (5, 2)]

def work(m=200, backend="numba"):
    return dp.digest(net(backend).value_and_grad(*batch(m))[1])
"""
SIZES = [5, 33, 17, 2]


def wanted(m: int = 200) -> str:
    random = np.random.default_rng(m)
    X, Y = (random.standard_normal((m, n)).astype("float32") for n in (5, 2))
    net = dp.MLP(SIZES, "tanh", backend="reference")
    return dp.digest(net.value_and_grad(X, Y)[1])


@pytest.fixture(autouse=True)
def no_test_hangs() -> Iterator[None]:
    with or_else_stopped():
        yield


# ----------------------------------------------------------------------------- how many threads


def test_the_number_of_threads_is_set(threads) -> None:
    for count in (1, 2, 5, np.int64(3)):
        threads(count)
        assert team.get_num_threads() == count
        assert type(team.get_num_threads()) is int
    threads(10**6)
    assert team.get_num_threads() == 1024


@pytest.mark.parametrize("count", [0, -1, True, 2.0, "2", None])
def test_a_wrong_number_of_threads(threads, count) -> None:
    with pytest.raises(ValueError, match=r"count must be an integer of at least 1, got"):
        threads(count)
    assert team.get_num_threads() == 3


@pytest.mark.parametrize("count", ["1", "2", "5", ""])
def test_the_number_of_threads_from_outside(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("DELTAPROP_NUM_THREADS", count)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert team._at_first.__wrapped__() == (int(count) if count else cores)


@pytest.mark.parametrize("count", ["0", "-1", "two", "2.5", " ", "1e3"])
def test_a_wrong_number_of_threads_from_outside(
    monkeypatch: pytest.MonkeyPatch, count: str
) -> None:
    monkeypatch.setenv("DELTAPROP_NUM_THREADS", count)
    with pytest.raises(ValueError, match=r"\$DELTAPROP_NUM_THREADS must be an integer of at least"):
        team._at_first.__wrapped__()


def test_a_process_with_any_number_of_threads() -> None:
    """More than cores, and with any of Numba's threading layers, which are not used."""
    for count, layer in ((1, "workqueue"), (2, "omp"), (5, "tbb"), (64, "whatever")):
        code = WORK + "print(team.get_num_threads(), work(), team._team._helpers)"
        given = {"DELTAPROP_NUM_THREADS": count, "NUMBA_THREADING_LAYER": layer}
        threads, digest, helpers = python(code, **given)[0].split()
        assert (int(threads), digest) == (count, wanted())
        assert int(helpers) <= count - 1
        assert count == 1 or int(helpers) > 0


def test_a_plan_follows_the_number_of_threads(threads) -> None:
    net = dp.MLP(SIZES, "tanh", backend="numba")
    X, Y = sample((600, 5), "float32", 1), sample((600, 2), "float32", 2)
    reference = net.to("reference").value_and_grad(X, Y)
    for count in (1, 5, 2, 3, 1, 4):
        threads(count)
        for _ in range(2):
            value, gradient = net.value_and_grad(X, Y)
            assert value == reference[0]
            assert_same_bits(gradient.flat, reference[1].flat, f"{count} threads")
        plan = net._sweeps.ready(X, Y, None)
        assert plan.at_most == count
        assert plan.threads == count
        net.loss(X, Y), net.predict(X)
        for plan in net._sweeps._plans.values():
            assert plan.at_most == count


# ----------------------------------------------------------------------------------- many callers

LOSSES = ("half_sse", "half_mse", "mse")


def call(net: dp.MLP | dp.Graph, m: int, loss: str) -> tuple[float, bytes]:
    X, Y = sample((m, 5), "float32", m), sample((m, 2), "float32", m + 1)
    value, gradient = net.value_and_grad(X, Y, loss)
    return value, gradient.flat.tobytes()


def test_many_callers_of_one_net_and_of_several(threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with a loss of its own; one is led by the team at a time, the others are alone."""
    for name in ("PARALLEL_WORK", "TOGETHER_WORK"):
        monkeypatch.setattr(plans, name, 3000)  # one sample is not worth a helper
    nets = [dp.MLP(SIZES, g, backend="numba") for g in ("tanh", "tanh", "logistic")]
    nets.append(dp.MLP([5, 4, 2], "tanh", backend="numba").to_graph())
    jobs = [(net, m, loss) for net in nets for m in (1, 70, 400) for loss in LOSSES]
    threads(1)
    alone = [call(*job) for job in jobs]
    threads(3)
    order = np.random.default_rng(0).permutation(len(jobs) * 12) % len(jobs)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: call(*jobs[i]), order, timeout=120))
    for i, (value, gradient) in zip(order, found):
        assert value == alone[i][0], jobs[i]
        assert gradient == alone[i][1], jobs[i]


def test_callers_with_losses_of_their_own_on_one_net(threads) -> None:
    """A plan that is ready for one caller's loss is never taken for another's of that name."""
    net = dp.MLP(SIZES, "tanh", backend="numba")
    X, Y = sample((9, 5), "float32", 1), sample((9, 2), "float32", 2)
    sweeps = net._sweeps
    net.value_and_grad(X, Y, "mse")
    mse = sweeps.ready(X, Y, "mse")

    def elsewhere() -> None:
        _, loss, batch = net._given(X, Y, "half_sse", None)
        sweeps.gradient(net.parameters, X, batch, loss)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(elsewhere).result(60)
    sweeps.is_ready("mse", dp.LOSSES["mse"])
    assert sweeps.ready(X, Y, "mse") is mse


def test_the_number_of_threads_changes_while_others_compute(threads) -> None:
    net = dp.MLP(SIZES, "tanh", backend="numba")
    wanted = call(net, 400, "mse")

    def turn(i: int) -> bool:
        if i % 5 == 0:
            threads(1 + i % 4)
        return call(net, 400, "mse") == wanted

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(turn, range(400), timeout=120))


MEANWHILE = """
net, (X, Y) = net(), batch(400)
value = net.value_and_grad(X, Y)[0]
rules, entered = plans.Plan._rules, threading.Event()

def slowly(plan):
    entered.set()
    time.sleep(0.3)
    rules(plan)

def compute():
    found.append(net.value_and_grad(X, Y)[0] == value)

plans.Plan._rules, found = slowly, []
team.set_num_threads(2)
first, second = (threading.Thread(target=compute) for _ in range(2))
first.start()
entered.wait(100)
second.start()
first.join()
second.join()
print(found)
"""


def test_a_plan_that_is_being_made_is_waited_for() -> None:
    assert python(WORK + MEANWHILE, DELTAPROP_NUM_THREADS=3)[0] == "[True, True]"


def test_who_finds_the_team_at_work_computes_alone(threads) -> None:
    net = dp.MLP(SIZES, "tanh", backend="numba")
    wanted = call(net, 400, "mse")
    with team._team.lock:
        assert call(net, 400, "mse") == wanted


# --------------------------------------------------------------------------------------- trouble


def test_threads_that_the_system_does_not_give(threads, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(function, arguments) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(team, "_team", team._Team())
    net = dp.MLP(SIZES, "tanh", backend="numba")
    with monkeypatch.context() as patch:
        patch.setattr(team, "start_new_thread", no_thread)
        few = call(net, 400, "mse")
        assert call(net, 400, "mse") == few
    assert not team._team.lock.locked()
    assert team._team._helpers == 0
    assert call(net, 400, "mse") == few
    assert team._team._helpers == 2


def test_a_system_without_threads_of_posix(threads, monkeypatch: pytest.MonkeyPatch) -> None:
    net = dp.MLP(SIZES, "tanh", backend="numba")
    wanted = call(net, 400, "mse")
    monkeypatch.setattr(team, "has_threads", lambda: False)
    monkeypatch.setattr(team._Team, "run", None)
    assert call(net, 400, "mse") == wanted


INTERRUPTS = """
import contextlib, signal

class Interrupt(Exception):
    pass

def interrupt(*of_signal):
    raise Interrupt

net, (X, Y) = net(), batch(3000)
value = net.value_and_grad(X, Y)[0]
signal.signal(signal.SIGALRM, interrupt)
for i in range(60):
    if i % 10 == 0:
        team._after_fork()
    with contextlib.suppress(Interrupt):
        signal.setitimer(signal.ITIMER_REAL, 1e-5 + 1e-4 * (i % 10))
        while True:
            assert net.value_and_grad(X, Y)[0] == value
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(net.value_and_grad(X, Y)[0] == value)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signal.setitimer")
def test_an_interrupt_leaves_the_team_to_others() -> None:
    """Whenever it comes: in a job, or as helpers start."""
    assert python(WORK + INTERRUPTS, DELTAPROP_NUM_THREADS=3)[0] == "True"


def test_an_exception_leaves_the_team_to_others(threads, monkeypatch: pytest.MonkeyPatch) -> None:
    net = dp.MLP(SIZES, "tanh", backend="numba")
    wanted = call(net, 400, "mse")
    with monkeypatch.context() as patch:
        patch.setattr(team._Team, "run", lambda *args: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            call(net, 400, "mse")
    assert not team._team.lock.locked()
    assert call(net, 400, "mse") == wanted


@pytest.mark.parametrize("m", [70, 400, 3000])
def test_one_helper_that_flushes_is_noticed(threads, flush: int, m: int) -> None:
    """An ensemble does without it: its members wait for nobody."""
    net = dp.MLP(SIZES, "tanh", backend="numba")
    members = dp.MLP(SIZES, "tanh", backend="numba", ensemble=3)
    graph = dp.MLP([5, 4, 2], "tanh", backend="numba").to_graph()
    X, Y = sample((m, 5), "float32", 1), sample((m, 2), "float32", 2)
    nets = (net, members, graph)
    assert team._team.run(flush, 0, 3) == 0
    wanted = [dp.digest(each.value_and_grad(X, Y)[1]) for each in nets]
    before = [each.parameters.copy() for each in nets]
    assert team._team.run(flush, 1, 3) == 0
    try:
        for each in (net, graph):
            for call in (each.value_and_grad, each.train_step):
                with pytest.raises(SubnormalsFlushedError):
                    call(X, Y)
        for _ in range(3):
            with pytest.raises(SubnormalsFlushedError):
                net.train_step(X, Y, None, 0.1, sample(m, "float32", 3))
        for _ in range(100):
            assert dp.digest(members.value_and_grad(X, Y)[1]) == wanted[1]
    finally:
        assert team._team.run(flush, 0, 3) == 0
    for each, parameters in zip(nets, before):
        assert_same_bits(each.parameters, parameters)
    assert [dp.digest(each.value_and_grad(X, Y)[1]) for each in nets] == wanted
    assert not team._team.lock.locked()
