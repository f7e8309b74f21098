"""Whole gradients through CuPy's arrays, for which a strict stand-in takes the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import HERE, assert_same_bits, sample
from deltaprop.check import to_numpy
from graphs import two_paths
from strict_cupy import TAPE, DeviceArray, StrictCupy, use_strict_cupy

pytestmark = pytest.mark.skipif("cuda-host" not in HERE, reason="needs a C++ compiler")
M = 130


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> StrictCupy:
    return use_strict_cupy(monkeypatch)


def softmaxes() -> dp.Graph:
    """Outputs of two levels, in another order than that of evaluation."""
    g = dp.Graph(["x1", "x2"], ["a", "b", "c"], dtype="float64", backend="reference", seed=2)
    for name in ("b", "h", "a", "c"):
        g.unit(name, "silu" if name == "h" else "softmax", bias=None if name == "a" else 0.5)
    for source, target in (("x1", "h"), ("x2", "h"), ("h", "a"), ("x1", "b"), ("h", "c")):
        g.edge(source, target)
    return g


def leads_on() -> dp.Graph:
    g = two_paths()
    g.edge("y1", "y2", 0.5)
    return g


def layers() -> dp.MLP:
    return dp.MLP([2, 5, 3, 2], ["tanh", "gelu"], dtype="float64", backend="reference", seed=1)


NETS = {"two paths": two_paths, "softmax": softmaxes, "leads on": leads_on, "MLP": layers}


def batch_of(net: Any) -> tuple[np.ndarray, ...]:
    """X, Y and sample weights."""
    Y = np.abs(sample((M, net.outputs), "float64", 2))
    return sample((M, 2), "float64", 1), Y / Y.sum(axis=1, keepdims=True), np.abs(sample(M, "f8"))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", ["numpy", "cupy"])
@pytest.mark.parametrize("part", [None, 64])
def test_the_gradient(cupy: StrictCupy, name: str, kind: str, part: int | None) -> None:
    """Comes back in the kind of array that X is, and so does the loss: the GPU has time for it."""
    net = NETS[name]()
    X, Y, weights = batch_of(net)
    wanted = net.value_and_grad(X, Y, None, weights)
    there = net.to("cuda")
    given = [cupy.asarray(x) if kind == "cupy" else x for x in (X, Y, weights)]
    value, gradients = there.value_and_grad(*given[:2], None, given[2], micro_batch=part)
    assert isinstance(gradients.flat, DeviceArray if kind == "cupy" else np.ndarray)
    assert isinstance(value, DeviceArray if kind == "cupy" else float)
    assert np.shape(value) == () and float(value) == wanted[0]
    assert_same_bits(to_numpy(gradients.flat), wanted[1].flat)
    value = there.train_step(*given[:2], None, 0.5, given[2])
    assert float(value) == net.train_step(X, Y, None, 0.5, weights)
    assert float(there.loss(*given[:2])) == net.loss(X, Y)
    assert_same_bits(to_numpy(there.parameters), net.parameters)
    assert_same_bits(to_numpy(there.predict(given[0])), net.predict(X))


@pytest.mark.parametrize("name", [name for name in NETS if name != "MLP"])
@pytest.mark.parametrize("kind", ["numpy", "cupy"])
def test_the_sweeps_of_a_graph(cupy: StrictCupy, name: str, kind: str) -> None:
    g = NETS[name]()
    X, Y, weights = batch_of(g)
    trace = g.forward(X)
    back = g.backward(trace, Y, None, weights)
    there = g.to("cuda")
    given = [cupy.asarray(x) if kind == "cupy" else x for x in (X, Y, weights)]
    trace_there = there.forward(given[0])
    back_there = there.backward(trace_there, given[1], None, given[2])
    pairs = (
        (trace_there.z.array, trace.z.array),
        (trace_there.a.array, trace.a.array),
        (back_there.delta.array, back.delta.array),
        (back_there.slope.array, back.slope.array),
        (back_there.gradients.flat, back.gradients.flat),
        (back_there.input_gradient, back.input_gradient),
    )
    for got, wanted in pairs:
        assert isinstance(got, DeviceArray if kind == "cupy" else np.ndarray)
        assert_same_bits(to_numpy(got), wanted)
    assert back_there.gradients["x1", "h"] == back.gradients["x1", "h"]
    assert_same_bits(to_numpy(trace_there.a["h"]), trace.a["h"])


def test_parameters_of_a_graph_are_set_and_kept(cupy: StrictCupy) -> None:
    g = two_paths().to("cuda")
    g["x1", "h"] = 0.375
    g.unit("k")
    g.edge("x1", "k", 1.0)
    g.edge("k", "y1", 2.0)
    assert isinstance(g.parameters, DeviceArray)
    assert (g["x1", "h"], g["h", "y1"], g["h"]) == (0.375, 0.75, 0.5)
    assert_same_bits(g.to("numpy").parameters, to_numpy(g.parameters))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", ["numpy", "cupy"])
def test_a_net_on_another_gpu(cupy: StrictCupy, name: str, kind: str) -> None:
    """It computes there, whichever is the current one; arrays of others are refused."""
    net = NETS[name]()
    there = net.to("cuda:1")
    assert there.backend == "cuda:1" and there.parameters.device.id == 1
    given, elsewhere = batch_of(net), [cupy.asarray(x) for x in batch_of(net)]
    with cupy.cuda.Device(1):
        placed = [cupy.asarray(x) if kind == "cupy" else x for x in given]
    for _ in range(3):
        found = there.value_and_grad(*placed[:2], None, placed[2])[1].flat
        assert_same_bits(to_numpy(found), net.value_and_grad(*given[:2], None, given[2])[1].flat)
        there.train_step(*placed[:2], learning_rate=0.25)
        net.train_step(*given[:2], learning_rate=0.25)
    there.fit(*placed[:2], epochs=1, progress=False)
    net.fit(*given[:2], epochs=1, progress=False)
    assert_same_bits(to_numpy(there.parameters), net.parameters)
    there.backward(there.forward(placed[0]), placed[1])
    assert float(there.loss(*placed[:2])) == net.loss(*given[:2])
    assert_same_bits(to_numpy(there.predict(placed[0], 64)), net.predict(given[0]))
    with pytest.raises(TypeError, match=r"X is on GPU 0, but .*'cuda:1' computes on GPU 1"):
        there.predict(elsewhere[0])


@pytest.mark.parametrize("name", NETS)
def test_a_step_does_not_wait(cupy: StrictCupy, name: str) -> None:
    """On the GPU's own arrays: whoever wants a number waits."""
    net = NETS[name]().to("cuda")
    X, Y, weights = (cupy.asarray(x) for x in batch_of(NETS[name]()))
    before = TAPE.waits
    for _ in range(3):
        net.train_step(X, Y, None, 0.5, weights)
        net.value_and_grad(X, Y)
        E = net.loss(X, Y)
        net.predict(X)
    assert TAPE.waits == before
    assert float(E) > 0
    assert TAPE.waits == before + 1


@pytest.mark.parametrize("kind", ["numpy", "cupy"])
@pytest.mark.parametrize("ensemble", [None, 2])
@pytest.mark.parametrize("widest", [5, 129])
def test_fit(cupy: StrictCupy, kind: str, ensemble: int | None, widest: int) -> None:
    """A history is of floats; a narrow net takes an epoch in one launch."""
    net = dp.MLP([2, widest, 3], "tanh", ensemble=ensemble, backend="reference")
    there = net.to("cuda")
    X, Y, w = (
        x.astype("f4") for x in (sample((70, 2), "f8"), sample((70, 3), "f8"), sample(70, "f8"))
    )
    given = [cupy.asarray(x) if kind == "cupy" else x for x in (X, Y, w)]
    options = {"epochs": 2, "batch_size": 16, "learning_rate": 0.25}
    wanted = net.fit(X, Y, sample_weight=w, validation=(X, Y), **options)
    got = there.fit(*given[:2], sample_weight=given[2], validation=given[:2], **options)
    for got_losses, losses in (
        (got.loss, wanted.loss),
        (got.validation_loss, wanted.validation_loss),
    ):
        assert type(got_losses[0]) is type(losses[0])
        assert np.array_equal(got_losses, losses)
    assert_same_bits(to_numpy(there.parameters), net.parameters)


@pytest.mark.parametrize("kind", ["numpy", "cupy"])
@pytest.mark.parametrize("ensemble", [None, 2])
def test_optimizers(cupy: StrictCupy, kind: str, ensemble: int | None) -> None:
    """What they remember is where the parameters are."""
    net = dp.MLP([2, 5, 3], "tanh", ensemble=ensemble, backend="reference")
    there, X, Y = net.to("cuda"), sample((20, 2), "float32"), sample((20, 3), "float32")
    given = [cupy.asarray(x) if kind == "cupy" else x for x in (X, Y)]
    rates = (0.1, [0.1, 0.2] if ensemble else 0.2)
    for adam in (dp.Adam(rates[0]), dp.Adam(rates[1]), dp.Adam(0.1, clip_norm=0.01)):
        wanted = net.fit(X, Y, epochs=2, batch_size=8, optimizer=adam)
        got = there.fit(*given, epochs=2, batch_size=8, optimizer=adam)
        assert np.array_equal(got.loss, wanted.loss)
    assert all(isinstance(x, DeviceArray) for x in there._state.arrays)
    assert_same_bits(to_numpy(there.parameters), net.parameters)


@pytest.mark.parametrize("kind", ["numpy", "cupy"])
@pytest.mark.parametrize("ensemble", [None, 2])
def test_the_best_weights(cupy: StrictCupy, kind: str, ensemble: int | None) -> None:
    """Samples are kept for validation, and the best weights, where the GPU has them."""
    net = dp.MLP([2, 5, 3], "tanh", ensemble=ensemble, backend="reference")
    there, X, Y = net.to("cuda"), sample((20, 2), "float32"), sample((20, 3), "float32")
    w = np.abs(sample(20, "float32", 3))
    given = [cupy.asarray(x) if kind == "cupy" else x for x in (X, Y, w)]
    options = {"epochs": 6, "batch_size": 4, "learning_rate": 3.0, "validation": 0.25}
    wanted = net.fit(X, Y, sample_weight=w, patience=2, **options)
    got = there.fit(*given[:2], sample_weight=given[2], patience=2, **options)
    assert np.array_equal(got.validation_loss, wanted.validation_loss)
    assert np.array_equal(got.best_epoch, wanted.best_epoch)
    assert np.min(got.best_epoch) < len(got.loss), "not a test: the last weights are the best"
    assert_same_bits(to_numpy(there.parameters), net.parameters)


def test_checkpoints(cupy: StrictCupy, tmp_path: Path) -> None:
    """Begun on the GPU, ended on it: what it remembers is there again."""
    X, Y = sample((20, 2), "float32"), sample((20, 3), "float32")
    options = {"batch_size": 8, "optimizer": dp.Adam(0.1), "validation": 0.25, "patience": 4}
    net = dp.MLP([2, 5, 3], "tanh", backend="reference")
    wanted = net.fit(X, Y, epochs=4, **options)
    for epochs in (2, 4):
        there = dp.MLP([2, 5, 3], "tanh", backend="cuda")
        got = there.fit(X, Y, epochs=epochs, checkpoint=tmp_path, resume=True, **options)
    assert np.array_equal(got.validation_loss, wanted.validation_loss)
    assert all(isinstance(x, DeviceArray) for x in there._state.arrays)
    assert_same_bits(to_numpy(there.parameters), net.parameters)
    for x, y in zip(there._state.arrays, net._state.arrays):
        assert_same_bits(to_numpy(x), y)


def test_labels(cupy: StrictCupy) -> None:
    g = softmaxes()
    X, _, _ = batch_of(g)
    labels = np.arange(M) % 3
    wanted = g.value_and_grad(X, labels)[1].flat
    got = g.to("cuda").value_and_grad(cupy.asarray(X), cupy.asarray(labels))[1].flat
    assert_same_bits(to_numpy(got), wanted)


def test_the_stand_in_is_strict(cupy: StrictCupy) -> None:
    """What CuPy refuses, it refuses: else these tests would show little."""
    x = cupy.asarray(np.arange(6.0).reshape(2, 3))
    for mixed in (
        lambda: x[np.array([0])],
        lambda: x.__setitem__(0, np.zeros(3)),
        lambda: x.take(np.array([0]), axis=1),
        lambda: np.asarray(x),
        lambda: np.ones(3) - x,
        lambda: x - np.ones(3),
    ):
        with pytest.raises(TypeError):
            mixed()
