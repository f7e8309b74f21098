"""Nets as pickles: the same bits after, in this process and in others."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from graphs import two_paths

X, Y = sample((5, 2), "float64", 1), sample((5, 2), "float64", 2)


def nets(backend: str, dtype: str = "float64") -> list[Any]:
    """A layered net and a graph whose numbers are also NaN, inf, -0.0 and a subnormal."""
    mlp = dp.MLP([2, 4, 2], ["gelu"], "tanh", dtype=dtype, backend=backend, seed=3)
    graph = two_paths(dtype, backend)
    tiny = np.finfo(dtype).smallest_subnormal
    for net in (mlp, graph):
        numbers = np.array([np.nan, np.inf, -0.0, tiny], dtype)
        net.parameters[:4] = net.kernels.arrays.asarray(numbers)
    return [mlp, graph]


def pickled(net: Any) -> Any:
    return pickle.loads(pickle.dumps(net))


WAYS = {"pickle": pickled, "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("way", WAYS)
def test_every_bit_stays_and_the_copy_is_apart(backend: str, dtype: str, way: str) -> None:
    for net in nets(backend, dtype):
        before = np.array(net.kernels.arrays.to_numpy(net.parameters))
        other = WAYS[way](net)
        assert type(other) is type(net)
        assert repr(other) == repr(net)
        assert other.kernels is net.kernels
        assert_same_bits(other.kernels.arrays.to_numpy(other.parameters), before)
        other.parameters[...] = 7
        assert_same_bits(net.kernels.arrays.to_numpy(net.parameters), before)


def test_the_gradient_stays(backend: str) -> None:
    for net in (dp.MLP([2, 4, 2], dtype="float64", backend=backend), two_paths(backend=backend)):
        value, gradients = net.value_and_grad(X, Y)
        again, other = pickled(net).value_and_grad(X, Y)
        assert value == again
        assert_same_bits(other.flat, gradients.flat)
        assert_same_bits(pickled(gradients).flat, gradients.flat)


@pytest.mark.parametrize("way", WAYS)
def test_a_graph_that_is_not_whole_yet(way: str) -> None:
    """Weights that are to be drawn are drawn alike."""
    g = dp.Graph(["x"], ["y"], seed=5, backend="numpy")
    g.unit("y")
    g.edge("x", "y")
    other = WAYS[way](g)
    g.unit("h")
    g.edge("x", "h")
    g.edge("h", "y")
    assert "1 units, 1 edges" in repr(other)
    other.unit("h")
    other.edge("x", "h")
    other.edge("h", "y")
    assert_same_bits(other.parameters, g.parameters)
    with pytest.raises(dp.GraphError, match="no unit for output 'y'"):
        WAYS[way](dp.Graph(["x"], ["y"])).predict(X)


def test_a_trace_goes_along() -> None:
    g = two_paths()
    trace = pickled(g.forward(X))
    gradients = g.backward(trace, Y).gradients
    assert_same_bits(pickled(gradients).flat, g.value_and_grad(X, Y)[1].flat)
    assert pickled(gradients)["x1", "h"] == gradients["x1", "h"]


def test_activations_and_losses_are_their_names() -> None:
    for table in (dp.ACTIVATIONS, dp.LOSSES):
        for x in table.values():
            assert pickled(x) is copy.deepcopy(x) is copy.copy(x) is x


def test_an_activation_that_is_not_defined() -> None:
    """Neither here nor, while it is, where the pickle is read."""
    own = dp.Activation("cube", lambda z: z * z * z, lambda z: 3 * z * z)
    impostor = dp.Activation("tanh", own.value, own.slope)
    for g in (own, impostor):
        net = dp.MLP([2, 2], output=g, backend="numpy")
        with pytest.raises(pickle.PicklingError, match=f"activation '{g.name}' is not in deltapr"):
            pickle.dumps(net)
        assert copy.deepcopy(net).activations == (g,)
    dp.activation("bent", "(sqrt(z*z + 1) - 1) / 2 + z")
    data = pickle.dumps(dp.MLP([2, 2], output="bent", backend="numpy"))
    assert pickle.loads(data).activations[0].name == "bent"
    del dp.ACTIVATIONS["bent"]
    with pytest.raises(pickle.UnpicklingError, match=r"activation\('bent', \.\.\.\) first"):
        pickle.loads(data)


def test_a_loss_that_is_not_defined() -> None:
    mse = dp.LOSSES["mse"]
    own = dp.Loss("mse", mse.factors, mse.residual, mse.scale, mse.scale)
    with pytest.raises(pickle.PicklingError, match="loss 'mse' is not in deltaprop's table"):
        pickle.dumps(own)


def gradient(net: Any) -> tuple[float, Any, Any]:
    """What another process does with a net."""
    value, gradients = net.value_and_grad(X, Y)
    net.train_step(X, Y)
    return value, gradients, net


def test_across_processes() -> None:
    """As evolution evaluates genomes in parallel; spawned, so that nothing is inherited."""
    context = multiprocessing.get_context("spawn")
    given = [two_paths(backend="numpy"), dp.MLP([2, 3, 2], dtype="float64", backend="numpy")]
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        results = list(pool.map(gradient, given))
    for net, (value, gradients, trained) in zip(given, results):
        wanted_value, wanted, wanted_net = gradient(net)
        assert value == wanted_value
        assert_same_bits(gradients.flat, wanted.flat)
        assert_same_bits(trained.parameters, wanted_net.parameters)
