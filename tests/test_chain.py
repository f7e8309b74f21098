"""A chain of layers, whole or layer by layer: the bits of a net, and only what is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.chain import SMALL, Chain

SIZES, M = (4, 6, 5, 3), 70


def task(backend, hidden="gelu", output="tanh", dtype="float32"):
    net = dp.MLP(SIZES, hidden, output, dtype=dtype, backend=backend, seed=1)
    X, u = sample((M, 4), dtype, 1), sample((M, 3), dtype, 2)
    parameters = [x for W, b, _ in net.layers for x in (W, b)]
    return net, Chain(net.activations, backend), X, u, parameters


@pytest.mark.parametrize("output", ["tanh", "silu", "softmax"])
def test_layer_by_layer(exact, dtype, output):
    net, chain, X, u, parameters = task(exact, output=output, dtype=dtype)
    back = net.pull_back(net.forward(X), u)
    assert_same_bits(chain.outputs(X, parameters), net.predict(X))
    trace = chain.trace(X, parameters)
    assert_same_bits(trace[0], net.predict(X))
    dX, *found = chain.pull_back(u, X, parameters, trace, [True] * 7)
    assert_same_bits(dX, back.input_gradient)
    for got, (_, wanted) in zip(found, back.gradients.named(), strict=True):
        assert_same_bits(got, wanted)


@pytest.mark.parametrize("output", ["tanh", "silu"])
def test_in_one_call(exact, dtype, output):
    net, chain, X, u, _ = task(exact, output=output, dtype=dtype)
    whole = chain.whole(SIZES, True, dtype)
    assert whole is not None
    assert_same_bits(whole.outputs(X, net.parameters), net.predict(X))
    back = net.pull_back(net.forward(X), u)
    assert_same_bits(whole.pull_back(u, X, net.parameters), back.gradients.flat)


def test_large_nets_and_some_backends_have_no_such_call():
    assert Chain((dp.ACTIVATIONS["tanh"],), "numpy").whole((4, 3), True, "float32") is None
    side = int(np.sqrt(SMALL))
    for n, is_whole in ((side, True), (side + 1, False)):
        whole = Chain((dp.ACTIVATIONS["tanh"],), "numba").whole((n, n), False, "float32")
        assert (whole is not None) == is_whole


@pytest.mark.parametrize("lowest", [1, 2])
def test_only_what_is_wanted_is_computed(lowest, monkeypatch):
    """The way down ends at the lowest layer of which something is wanted."""
    net, chain, X, u, parameters = task("reference")
    wanted = [False] * (1 + 2 * lowest) + [True] * (6 - 2 * lowest)
    wanted[-2] = False
    trace, k, deltas = chain.trace(X, parameters), chain.kernels, []

    def counted(*given):
        deltas.append(1)
        return k.hidden_delta(*given)

    use(monkeypatch, replace(k, hidden_delta=counted))
    dX, *found = chain.pull_back(u, X, parameters, trace, wanted)
    back = net.pull_back(net.forward(X), u)
    for got, (_, g), is_wanted in zip(found, back.gradients.named(), wanted[1:], strict=True):
        assert (got is None) != is_wanted
        if is_wanted:
            assert_same_bits(got, g)
    assert dX is None
    assert len(deltas) == 2 - lowest


def use(monkeypatch, k):
    monkeypatch.setattr("deltaprop.chain.load", lambda name: k)
