"""whole_sweep: forward, loss, backward and gradients of a narrow net in one launch."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.backends import cuda as table
from deltaprop.backends import narrow
from deltaprop.backends.grids import ceil_div
from deltaprop.backends.narrow import Memory, NarrowSweeps, is_narrow, run_of
from deltaprop.contract import Form, Steps
from deltaprop.devices.host import ORDERS
from deltaprop.equations import Batch
from deltaprop.optimizers import DESCENT
from kernels.helpers import device_at, hostile, on_every_device
from kernels.helpers import run as kernel

# Layers of less than a chunk, of a tile, of more; slopes of a and of z; every loss.
NETS = (
    ((3, 5, 2), "logistic", "identity", "half_mse"),
    ((1, 1), "logistic", "tanh", "mse"),
    ((3, 64, 64, 1), "tanh", "identity", "half_sse"),
    ((17, 33, 70, 10), "relu", "softmax", "cross_entropy"),
    ((4, 128, 5), "gelu", "logistic", "binary_cross_entropy"),
    ((66, 9, 65), "silu", "silu", "half_mse"),
)
SOME = (NETS[0], NETS[3])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many leaves a block takes."""
    return lambda run: monkeypatch.setattr(narrow, "run_of", lambda *_: run)


class Swept:
    """The sweeps of a net's form on a device, for NumPy arrays."""

    def __init__(self, net: dp.MLP, where: str, **host: Any) -> None:
        form = Form(net.sizes, net.activations, net.bias, net.dtype)
        self.device = device_at(where, **host)
        found = table.kernels(self.device, where).sweeps(form)
        assert isinstance(found, NarrowSweeps)
        self.sweeps, self.w = found, self.device.asarray(np.array(net.parameters))

    def __call__(self, sweep: str, X: np.ndarray, batch: Batch | None = None, *rest: Any) -> Any:
        """What a sweep returns, for the net's parameters."""
        given = [self.device.asarray(X)]
        if batch:
            weights = None if batch.weights is None else self.device.asarray(batch.weights)
            given.append(replace(batch, Y=self.device.asarray(batch.Y), weights=weights))
        got = getattr(self.sweeps, sweep)(self.w, *given, *rest)
        numpy = self.device.to_numpy
        if isinstance(got, list):
            return np.concatenate([numpy(x) for x in got])
        return tuple(map(numpy, got)) if isinstance(got, tuple) else numpy(got)

    @property
    def parameters(self) -> np.ndarray:
        return self.device.to_numpy(self.w)


def batch_of(net: dp.MLP, m: int, loss: str, weighted: bool, numbers: Any = sample) -> tuple:
    """X, the loss and the batch, as a net hands them to its backend."""
    X, Y = numbers((m, net.inputs), net.dtype.name, seed=1), np.abs(sample((m, net.outputs), "f"))
    Y = Y / Y.sum(axis=1, keepdims=True) if loss == "cross_entropy" else Y.clip(0, 1)
    w = np.abs(sample((m,), net.dtype.name, seed=3)) if weighted else None
    return net._given(X, Y.astype(net.dtype), loss, w)


def assert_as_reference(net: dp.MLP, given: tuple, where: str, **host: Any) -> None:
    """All four sweeps, against the equations layer by layer."""
    X, loss, batch = given
    swept, what = Swept(net, where, **host), f"{net.sizes}, {len(X)} samples, {where}, {host}"
    error, gradient = net._sweep(X, batch, loss)
    assert_same_bits(swept("outputs", X), net._predict(X), f"outputs of {what}")
    assert_same_bits(swept("error", X, batch, loss), error.reshape(1), what)
    got = swept("gradient", X, batch, loss)
    assert_same_bits(got[0], error.reshape(1), f"error of {what}")
    assert_same_bits(got[1], gradient, f"gradient of {what}")
    assert_same_bits(swept("step", X, batch, loss, 0.1), error.reshape(1), what)
    net._descend(gradient, 0.1)
    assert_same_bits(swept.parameters, net.parameters, f"step of {what}")


@on_every_device
@pytest.mark.parametrize("net", NETS, ids=[str(net[0]) for net in NETS])
@pytest.mark.parametrize("bias", [True, False])
def test_every_net(where, dtype, net, bias, runs):
    """A sample, leaves that are whole or not; one a block, some, or all, eight or eleven."""
    sizes, activation, output, loss = net
    cases = ((1, 1), (5, 2), (64, 1), (65, 1), (200, 2), (512, 8), (450, 4), (700, 16))
    for (m, run), order in zip(cases, itertools.cycle(ORDERS)):
        runs(run)
        mlp = dp.MLP(sizes, activation, output, bias=bias, dtype=dtype, backend="reference")
        mlp.parameters[...] = sample(mlp.parameters.shape, dtype, seed=2)
        given = batch_of(mlp, m, loss, weighted=bias)
        assert_as_reference(mlp, given, where, order=order)


@on_every_device
@pytest.mark.parametrize("family", ["everything", "rare", "vanishing", "zeros", "overflow"])
@pytest.mark.parametrize("net", SOME, ids=[str(net[0]) for net in SOME])
def test_special_numbers(where, dtype, family, net):
    sizes, activation, output, loss = net
    mlp = dp.MLP(sizes, activation, output, dtype=dtype, backend="reference")
    mlp.parameters[...] = hostile(family, mlp.parameters.shape, dtype, seed=5)
    with np.errstate(all="ignore"):
        given = batch_of(mlp, 70, loss, True, lambda *args, seed: hostile("zeros", *args, seed))
        assert_as_reference(mlp, given, where)


@on_every_device
@pytest.mark.parametrize("size", [1, 16, 64, 70, 150, 1000])
def test_steps(where, dtype, size, runs, monkeypatch):
    """Many steps in few launches are those steps one by one, whichever way threads run."""
    runs(16)
    monkeypatch.setattr(narrow, "STEPS", 60)
    m, nets = 150, dp.MLP((3, 9, 2), dtype=dtype, ensemble=2, backend="reference")
    X, Y = sample((2, m, 3), dtype, 1), sample((m, 2), dtype, 2)
    X, loss, batch = nets._given(X, Y, "half_mse", np.abs(sample((2, m), dtype, 3)))
    for rate, rows in (
        (0.25, np.arange(m)),
        ([0.25, 0.5], np.random.default_rng(0).permutation(m)),
    ):
        start = nets.to()
        wanted = start._steps(X, batch, loss, Steps(rate, size, rows))
        for way in ORDERS:
            swept = Swept(nets, where, order=way)
            order = swept.device.asarray(rows)
            errors = swept("steps", X, batch, loss, Steps(rate, size, order))
            got = nets._losses_of([errors], batch, loss, size)
            assert_same_bits(np.array(got), np.array(wanted))
            assert_same_bits(swept.parameters, start.parameters, f"{size} a step, {rate}, {way}")


@on_every_device
def test_steps_that_are_more_than_a_block(where, runs):
    """Are not taken in one launch."""
    runs(1)
    net = dp.MLP((3, 9, 2), backend="reference")
    X, loss, batch = batch_of(net, 200, "half_mse", False)
    swept = Swept(net, where)
    assert swept.sweeps.steps(swept.w, X, batch, loss, Steps(0.1, 65, np.arange(200))) is None


@on_every_device
@pytest.mark.parametrize("m", [70, 200])
@pytest.mark.parametrize("run", [1, 4])
@pytest.mark.parametrize("rate", [0.1, [0.1, 0.2, 0.3]])
def test_ensembles(where, dtype, m, run, rate, runs):
    """Members with inputs of their own or not; each as that net alone, in one launch."""
    runs(run)
    nets = dp.MLP((3, 9, 2), dtype=dtype, ensemble=3, backend="reference")
    for shared in (True, False):
        lead = () if shared else (3,)
        X, Y = sample((*lead, m, 3), dtype, 1), sample((*lead, m, 2), dtype, 2)
        X, loss, batch = nets._given(X, Y, "half_mse", None)
        errors, gradients = nets._sweep(X, batch, loss)
        swept = Swept(nets, where)
        got = swept("gradient", X, batch, loss)
        assert_same_bits(got[0], errors)
        assert_same_bits(got[1], gradients)
        assert_same_bits(swept("outputs", X), nets._predict(X))
        swept("step", X, batch, loss, rate)
        stepped = swept.parameters
        eta = np.broadcast_to(np.array(rate), 3)
        for e in range(3):
            step = gradients[e], (), DESCENT, (float(eta[e]),)
            wanted = kernel("reference", "update", nets.parameters[e], *step)
            assert_same_bits(stepped[e], wanted, f"member {e}, rate {eta[e]}")


def form_of(sizes: tuple[int, ...], hidden: list[str], dtype: str = "float32") -> Form:
    activations = (*(dp.ACTIVATIONS[g] for g in hidden), dp.ACTIVATIONS["identity"])
    return Form(sizes, activations, True, np.dtype(dtype))


def test_which_nets_are_narrow():
    """Up to 128 units, hidden activations alike, and room for the activations of 64 samples."""
    memory = 227 << 10
    for sizes in ((3, 128, 1), (128, 128, 128), (2, 64, 64, 64, 64, 64, 64, 1), (5, 3)):
        assert is_narrow(form_of(sizes, ["tanh"] * (len(sizes) - 2)), memory), sizes
    assert not is_narrow(form_of((3, 129, 1), ["tanh"]), memory)
    assert not is_narrow(form_of((129, 3, 1), ["tanh"]), memory)
    assert not is_narrow(form_of((3, 5, 5, 1), ["tanh", "relu"]), memory)
    deep = (64,) * 40
    assert not is_narrow(form_of(deep, ["tanh"] * 38), memory)
    assert is_narrow(form_of(deep[:11], ["tanh"] * 9), memory)
    assert not is_narrow(form_of(deep[:11], ["tanh"] * 9), 64 << 10)


def test_memory_is_what_a_block_asks_for():
    """Rows of 64 samples and a chunk: 3 + 1, 5 + 3, 2 + 2 units, and z of the outputs."""
    memory = Memory(form_of((3, 5, 2), ["tanh"]))
    assert memory.a == [0, 4, 12] and memory.z == [-1, -1, 16]
    assert memory.bytes == 20 * 68 * 4
    assert Memory(form_of((3, 5, 2), ["gelu"])).z == [-1, 16, 24]


@on_every_device
def test_a_wide_net_goes_layer_by_layer(where):
    assert dp.MLP((3, 129, 2), backend=where)._sweeps is None
    assert dp.MLP((3, 128, 2), backend=where)._sweeps is not None


@pytest.mark.parametrize("places", [1, 7, 132, 264])
def test_a_block_takes_a_power_of_two_of_leaves(places):
    """All blocks end at about the same time; a large batch has not many more than run at once."""
    for leaves in (1, 2, 3, 64, 100, 1000, 1024, 16_384):
        for members in (1, 3, 256):
            run = run_of(leaves, members, places)
            blocks = ceil_div(leaves, run) * members
            assert run.bit_count() == 1 and run < 2 * leaves
            assert ceil_div(blocks, places) * run <= 2 * max(1, leaves * members / places)
            assert members > 1 or blocks <= max(1024, 4 * places)
