"""Sweeps that are captured when they come again, and replayed from then on: the same bits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
import strict_cupy
from conftest import HERE, assert_same_bits, sample
from deltaprop import net as nets
from deltaprop.backends import replays
from deltaprop.backends.replays import Captured
from deltaprop.check import to_numpy
from strict_cupy import TAPE, StrictCupy, use_strict_cupy

needs_compiler = pytest.mark.skipif("cuda-host" not in HERE, reason="needs a C++ compiler")


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> StrictCupy:
    strict_cupy.CAPTURED.clear()
    return use_strict_cupy(monkeypatch)


def deep() -> dp.Graph:
    """Outputs of two levels, an activation whose slope is of z, weights that are gathered."""
    g = dp.Graph(["x1", "x2"], ["a", "b"], backend="reference", seed=2)
    for name in ("h", "a", "b"):
        g.unit(name, "silu", bias=None if name == "h" else 0.5)
    for source, target in (("x1", "h"), ("x2", "h"), ("h", "a"), ("a", "b"), ("x1", "b")):
        g.edge(source, target)
    return g


NETS = {
    "MLP": lambda: dp.MLP([2, 129, 2], "tanh", backend="reference"),
    "softmax": lambda: dp.MLP([2, 129, 2], ["gelu"], "softmax", backend="reference"),
    "ensemble": lambda: dp.MLP([2, 129, 2], "tanh", ensemble=2, backend="reference"),
    "graph": deep,
}


def batch_of(net: Any, m: int = 70, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    Y = np.abs(sample((m, net.outputs), "float32", seed + 1))
    return sample((m, 2), "float32", seed), Y / Y.sum(axis=1, keepdims=True)


@needs_compiler
@pytest.mark.parametrize("name", NETS)
def test_steps_and_gradients(cupy: StrictCupy, name: str) -> None:
    """Launched, captured, replayed; what is in the arrays may change from run to run."""
    net = NETS[name]()
    there = net.to("cuda")
    X, Y = batch_of(net)
    given = [cupy.asarray(x) for x in (X, Y)]
    for i in range(4):
        value, gradient = there.value_and_grad(*given)
        wanted_value, wanted = net.value_and_grad(X, Y)
        assert_same_bits(to_numpy(value), np.float32(wanted_value))
        assert_same_bits(to_numpy(gradient.flat), wanted.flat, f"gradient {i}")
        there.train_step(*given, learning_rate=0.25 * i)
        net.train_step(X, Y, learning_rate=0.25 * i)
        assert_same_bits(to_numpy(there.parameters), net.parameters, f"step {i}")
        assert_same_bits(to_numpy(there.loss(*given)), np.float32(net.loss(X, Y)))
        assert_same_bits(to_numpy(there.predict(given[0])), net.predict(X))
        X, Y = batch_of(net, seed=2 * i)
        given[0][...], given[1][...] = (cupy.asarray(x) for x in (X, Y))
    # All but the first time: the gradient is known when the step comes, which asks for the same.
    assert len(strict_cupy.CAPTURED) == 3 + 4 + 3 + 3
    assert min(strict_cupy.CAPTURED) > 1


@pytest.mark.skipif("cuda" not in HERE, reason="needs a GPU; the test above is of a stand-in")
@pytest.mark.parametrize("name", NETS)
def test_on_a_gpu(name: str) -> None:
    """Graphs are captured and replayed, in two streams; the same bits."""
    import cupy

    net = NETS[name]()
    there = net.to("cuda")
    X, Y = batch_of(net)
    given = [cupy.asarray(x) for x in (X, Y)]
    for _ in range(4):
        for stream in (cupy.cuda.Stream.null, cupy.cuda.Stream(non_blocking=True)):
            cupy.cuda.Device().synchronize()
            with stream:
                gradient = there.value_and_grad(*given)[1].flat
                there.train_step(*given, learning_rate=0.25)
                stream.synchronize()
            assert_same_bits(to_numpy(gradient), net.value_and_grad(X, Y)[1].flat)
            net.train_step(X, Y, learning_rate=0.25)
            assert_same_bits(to_numpy(there.parameters), net.parameters)
    places = there._replays._places._entries.values()
    captured = [x for place in places for x in place.known._entries.values() if x.replay]
    assert len(captured) >= 1


@needs_compiler
def test_results_are_the_callers(cupy: StrictCupy) -> None:
    """The next run leaves them as they are."""
    net = NETS["MLP"]().to("cuda")
    X, Y = (cupy.asarray(x) for x in batch_of(net))
    found = [net.value_and_grad(X, Y)[1].flat for _ in range(3)] + [net.predict(X)] * 2
    before = [x.get() for x in found]
    X[...] = cupy.asarray(sample((70, 2), "float32", 5))
    net.value_and_grad(X, Y)
    net.predict(X)
    for x, y in zip(found, before, strict=True):
        assert_same_bits(x.get(), y)


@needs_compiler
def test_other_batches_and_weights_are_other_sweeps(cupy: StrictCupy) -> None:
    net = NETS["MLP"]()
    there = net.to("cuda")
    batches = [batch_of(net, m, m) for m in (70, 64, 3)]
    given = [[cupy.asarray(x) for x in batch] for batch in batches]
    w = np.abs(sample(70, "float32", 9))
    w_there = cupy.asarray(w)
    for _ in range(3):
        for (X, Y), (x, y) in zip(batches, given):
            for loss in ("half_mse", "half_sse"):
                wanted = net.value_and_grad(X, Y, loss)[1].flat
                assert_same_bits(to_numpy(there.value_and_grad(x, y, loss)[1].flat), wanted)
        wanted = net.value_and_grad(*batches[0], None, w)[1].flat
        got = there.value_and_grad(*given[0], None, w_there)[1].flat
        assert_same_bits(to_numpy(got), wanted)
    assert len(strict_cupy.CAPTURED) == 2 * 7


@needs_compiler
def test_large_work_is_launched(cupy: StrictCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS["MLP"]().to("cuda")
    X, Y = (cupy.asarray(x) for x in batch_of(net))
    monkeypatch.setattr(nets, "REPLAYED", 70 * net.parameters.size - 1)
    for _ in range(3):
        net.train_step(X, Y)
    assert not strict_cupy.CAPTURED


@needs_compiler
def test_a_capture_that_fails_is_over(cupy: StrictCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is told, nothing captures any more, and the next call works."""
    net = NETS["MLP"]().to("cuda")
    X, Y = (cupy.asarray(x) for x in batch_of(net))
    before = net.parameters.get()
    net.value_and_grad(X, Y)
    with monkeypatch.context() as patch:
        patch.setattr(net, "_sweep", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            net.train_step(X, Y)
    assert TAPE.steps is None
    assert_same_bits(net.parameters.get(), before)
    net.train_step(X, Y)
    assert len(strict_cupy.CAPTURED) == 1


class Machine:
    """Captures nothing: a sweep that is replayed runs again."""

    def __init__(self) -> None:
        self.here, self.captures, self.replayed = 0, [], 0

    def place(self) -> int:
        return self.here

    def address(self, x: Any) -> int:
        return id(x)

    def capture(self) -> Any:
        self.captures.append([])

        def capture(sweep: Any, found: list[Any] = self.captures[-1]) -> Any:
            found.append(sweep)

            def launch() -> None:
                self.replayed += 1

            return launch, sweep()

        return capture


def test_each_place_captures_for_itself() -> None:
    """Sweeps of two streams may overlap, so they share no memory."""
    machine, x = Machine(), np.ones(3)
    runs = Captured(machine)
    for place in (0, 1, 0, 1, 0):
        machine.here = place
        runs.run("what", [x, None], lambda: (x,))
    assert [len(found) for found in machine.captures] == [1, 1]
    assert machine.replayed == 3


def test_more_threads_than_places() -> None:
    """Places come and go, and every result is right."""
    machine = Machine()
    machine.place = threading.get_ident  # type: ignore[method-assign]
    runs, arrays = Captured(machine), [np.full(3, i) for i in range(8)]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as pool:
        patch.setattr(runs._places, "_most", 3)

        def run(i: int) -> bool:
            x = arrays[i % 8]
            return all(runs.run("what", [x], lambda: (x,))[0] is not None for _ in range(50))

        assert all(pool.map(run, range(64)))
    assert len(runs._places._entries) == 3


def test_arrays_are_lent_or_copied() -> None:
    x, runs = np.ones(3), Captured(Machine())
    found = [runs.run("what", [x], lambda: (x,), lent)[0] for lent in (True, True, False)]
    assert found[1] is x and found[2] is not x
    assert_same_bits(found[2], x)


def test_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """More batches than are kept are launched as ever, none is captured in vain."""
    monkeypatch.setattr(replays, "KEPT", 2)
    for count, captured in ((2, 2), (3, 0)):
        machine, arrays = Machine(), [np.ones(3) for _ in range(count)]
        runs = Captured(machine)
        for x in arrays * 3:
            runs.run("what", [x], lambda: (np.ones(1),))
        assert len(machine.captures[0]) == captured
