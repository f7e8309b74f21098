"""micro_batch: every sweep in parts, of which only one at a time is where the backend computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import HERE, assert_same_bits, sample
from deltaprop.check import to_numpy
from deltaprop.parts import part_for
from graphs import two_paths
from strict_cupy import use_strict_cupy

M = 300
NETS = {
    "MLP": lambda: dp.MLP([2, 5, 2], "tanh", dtype="float64", backend="reference"),
    "ensemble": lambda: dp.MLP([2, 5, 2], dtype="float64", ensemble=3, backend="reference"),
    "graph": two_paths,
}


def batch_of(net: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sample((M, 2), "f8", 1), sample((M, net.outputs), "f8", 2), np.abs(sample(M, "f8", 3))


def assert_the_same(net: Any, given: Any, there: Any, given_there: Any, part: Any) -> None:
    """Outputs, loss, gradient and step, at once here and in parts there."""
    X, Y, w = given
    X_there, Y_there, w_there = given_there
    assert_same_bits(to_numpy(there.predict(X_there, part)), net.predict(X))
    wanted = np.float64(net.loss(X, Y, None, w))
    assert_same_bits(to_numpy(there.loss(X_there, Y_there, None, w_there, part)), wanted)
    value, gradient = there.value_and_grad(X_there, Y_there, None, w_there, part)
    assert_same_bits(to_numpy(value), wanted)
    assert_same_bits(to_numpy(gradient.flat), net.value_and_grad(X, Y, None, w)[1].flat)
    there.train_step(X_there, Y_there, None, 0.5, w_there, part)
    net.train_step(X, Y, None, 0.5, w)
    assert_same_bits(to_numpy(there.parameters), net.parameters)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("part", [192, "auto"])
def test_every_sweep(exact: str, name: str, part: Any) -> None:
    net = NETS[name]()
    given = batch_of(net)
    assert_the_same(net, given, net.to(exact), given, part)


@pytest.mark.skipif("cuda-host" not in HERE, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", ["numpy", "cupy"])
@pytest.mark.parametrize("part", [128, "auto"])
def test_a_gpu_has_one_part_at_a_time(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str, part: Any
) -> None:
    """Of NumPy's arrays, which may be larger than its memory."""
    cupy, net = use_strict_cupy(monkeypatch), NETS[name]()
    there, brought = net.to("cuda"), []
    cupy.free = 2 * 128 * there._bytes()
    given = batch_of(net)
    given_there = [cupy.asarray(x) if kind == "cupy" else x for x in given]
    asarray = cupy.asarray
    cupy.asarray = lambda x: brought.append(np.shape(x)) or asarray(x)
    assert_the_same(net, given, there, given_there, part)
    sizes = [shape[-2] for shape in brought if len(shape) > 1]
    assert sizes
    assert max(sizes) == 128


def test_as_many_samples_as_there_is_room_for() -> None:
    assert part_for(64 * 100, 100) == 64
    assert part_for(127 * 100, 100) == 64
    assert part_for(128 * 100, 100) == 128
    assert part_for(1 << 40, 100) == 1 << 33
    assert part_for(0, 100) == 64  # the least: whoever allocates says that there is no room


@pytest.mark.parametrize("part", [63, -64, 0, "some", 64.0, True])
def test_bad_sizes_change_nothing(part: Any) -> None:
    net = NETS["MLP"]()
    X, Y, _ = batch_of(net)
    before = net.parameters.copy()
    for call in (net.predict, net.loss, net.value_and_grad, net.train_step):
        given = (X,) if call == net.predict else (X, Y)
        with pytest.raises((TypeError, ValueError), match="micro_batch"):
            call(*given, micro_batch=part)
    assert_same_bits(net.parameters, before)
