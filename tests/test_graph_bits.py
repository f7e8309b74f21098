"""Graphs return the same bits on every exact backend, and those of a layered net."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import deltaprop as dp
from conftest import EXACT, assert_same_bits, sample
from graphs import random_graphs
from kernels.helpers import ordered_dot
from tasks import UNITWISE, task

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@quick
@given(random_graphs())
def test_any_graph_has_the_same_bits_everywhere(drawn) -> None:
    """And keeps the error bound on the numpy backend."""
    g, batch = drawn
    assert (result := dp.crosscheck(g, *batch, backends=[*EXACT, "numpy"])), result


@quick
@given(random_graphs(dtypes=("float64",)))
def test_any_graph_has_the_gradient_of_central_differences(drawn) -> None:
    g, batch = drawn
    assert (result := dp.gradcheck(g, *batch)), result


@quick
@given(random_graphs(units=20))
def test_a_trace_holds_what_the_gradient_is_made_of(drawn) -> None:
    """dE/dw = sum of delta a for every edge, dE/db = sum of delta, to rounding."""
    g, (X, Y, loss, weights) = drawn
    trace = g.forward(X)
    back = g.backward(trace, Y, loss, weights)
    _, gradients = g.value_and_grad(X, Y, loss, weights)
    assert_same_bits(back.gradients.flat, gradients.flat)
    tolerance = 40 * np.finfo(g.dtype).eps
    for source, target in gradients.edges:
        terms = back.delta[target].astype(float) * trace.a[source]
        assert abs(gradients[source, target] - terms.sum()) <= tolerance * np.abs(terms).sum()
    for name in gradients.biased:
        terms = back.delta[name].astype(float)
        assert abs(gradients[name] - terms.sum()) <= tolerance * np.abs(terms).sum()


def flat_as_graph(layers) -> np.ndarray:
    """Weights of all layers, then biases: the order of a graph."""
    weights = [layer.W.reshape(-1) for layer in layers]
    return np.concatenate([*weights, *(layer.b for layer in layers if layer.b is not None)])


def assert_same_as_layers(net: dp.MLP, batch) -> None:
    X, Y, loss = batch
    g = net.to_graph()
    error, gradients = net.value_and_grad(X, Y, loss)
    graph_error, graph_gradients = g.value_and_grad(X, Y, loss)
    assert graph_error.hex() == error.hex()
    assert_same_bits(graph_gradients.flat, flat_as_graph(gradients), "gradients")
    assert_same_bits(g.predict(X), net.predict(X), "outputs")
    trace, graph_trace = net.forward(X), g.forward(X)
    back = net.backward(trace, Y, loss, input_gradient=True)
    graph_back = g.backward(graph_trace, Y, loss)
    assert_same_bits(graph_back.input_gradient, back.input_gradient, "dE/dX")
    for l, n in enumerate(net.sizes[1:], start=1):
        for i in range(n):
            name = f"y{i + 1}" if l == len(net.sizes) - 1 else f"h{l}.{i + 1}"
            assert_same_bits(graph_trace.z[name], trace.z[l][:, i], f"z of {name}")
            assert_same_bits(graph_trace.a[name], trace.a[l][:, i], f"a of {name}")
            assert_same_bits(graph_back.delta[name], back.delta[l][:, i], f"delta of {name}")
    net.train_step(X, Y, loss, 0.5)
    g.train_step(X, Y, loss, 0.5)
    stepped = flat_as_graph(net.to("reference").layers)
    assert_same_bits(g.to("reference").parameters, stepped, "after a step")


@pytest.mark.parametrize("specified", ["reference", *EXACT])
@pytest.mark.parametrize("loss", dp.LOSSES)
def test_a_layered_net_and_its_graph(specified, loss, dtype) -> None:
    net, batch = task((3, 5, 7, 4), ("tanh", "gelu"), loss, 70, output="logistic", dtype=dtype)
    assert_same_as_layers(net.to(specified), batch)


@pytest.mark.parametrize("name", UNITWISE)
def test_every_activation_of_a_layered_net(exact, name) -> None:
    net, batch = task((3, 9, 4, 2), name, "half_mse", 5, dtype="float32")
    assert_same_as_layers(net.to(exact), batch)


@pytest.mark.parametrize("sizes", [(1, 1), (300, 3), (2, 600, 2), (5, 1, 520)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layered_net_wider_than_a_leaf(exact, sizes, bias) -> None:
    net, batch = task(sizes, "logistic", "half_mse", 130, bias=bias, dtype="float32")
    assert_same_as_layers(net.to(exact), batch)


@pytest.mark.parametrize("specified", ["reference", *EXACT])
def test_sums_run_in_the_order_of_declaration(specified, dtype) -> None:
    """Of the units at the other ends, which is not that of evaluation: far is behind near."""
    differ = 0
    for seed in range(20):
        w = sample(6, dtype, seed)
        g = dp.Graph(["x"], ["y"], dtype=dtype, backend=specified)
        for name in ("far", "near", "h", "y"):
            g.unit(name, "identity", bias=None)
        edges = ["x h", "h near", "near far", "h far", "far y", "near y"]
        for edge, value in zip(edges, w):
            g.edge(*edge.split(), float(value))
        trace = g.forward(sample((1, 1), dtype, seed + 100))
        back = g.backward(trace, np.zeros((1, 1), dtype), "half_sse")
        _, h_near, _, h_far, far_y, near_y = w
        a, delta = trace.a, back.delta
        incoming = [np.array([far_y, near_y]), np.array([a["far"][0], a["near"][0]])]
        outgoing = [np.array([h_far, h_near]), np.array([delta["far"][0], delta["near"][0]])]
        assert_same_bits(trace.z["y"][0], ordered_dot(*incoming, 256), "z of y")
        assert_same_bits(delta["h"][0], ordered_dot(*outgoing, 256), "delta of h")
        for x, v in (incoming, outgoing):
            differ += ordered_dot(x, v, 256) != ordered_dot(x[::-1], v[::-1], 256)
    assert differ > 5  # the order is seen


def test_parts_of_a_batch(exact, dtype) -> None:
    net, batch = task((3, 5, 2), "tanh", "half_mse", 333, dtype=dtype)
    g = net.to_graph().to(exact)
    error, whole = g.value_and_grad(*batch)
    for part in (64, 128, 192):
        part_error, gradients = g.value_and_grad(*batch, micro_batch=part)
        assert part_error.hex() == error.hex()
        assert_same_bits(gradients.flat, whole.flat)


def test_a_cpu_takes_a_large_batch_in_parts(exact, monkeypatch) -> None:
    """As many samples as a cache holds: the bits are those of the whole batch."""
    net, batch = task((3, 5, 2), "tanh", "half_mse", 333, dtype="float32")
    g = net.to_graph()
    monkeypatch.setattr("deltaprop.graph.NUMBERS_IN_CACHE", 1 << 20)
    error, whole = g.to("reference").value_and_grad(*batch)
    for least, numbers in ((64, 1), (64, 10 * 128), (128, 10 * 100)):
        monkeypatch.setattr("deltaprop.graph.LEAST_PART", least)
        monkeypatch.setattr("deltaprop.graph.NUMBERS_IN_CACHE", numbers)
        part_error, gradients = g.to(exact).value_and_grad(*batch)
        assert part_error.hex() == error.hex()
        assert_same_bits(gradients.flat, whole.flat)


def sparse(units: int, edges: int, backend: str, dtype: str = "float32") -> dp.Graph:
    """Ten levels, every unit with as many edges from the level before."""
    random = np.random.default_rng(0)
    width, fan = units // 10, edges // units
    target = np.repeat(np.arange(width, units + width), fan)
    choice = np.argsort(random.random((units, 2 * fan)), axis=1)[:, :fan]
    shift = random.integers(0, width, (units, 1))
    source = (choice + shift) % width + (target.reshape(units, fan) // width - 1) * width
    # Every unit leads somewhere: to the one above it.
    source[:, 0] = target.reshape(units, fan)[:, 0] - width
    source = np.where((source == source[:, :1]) & (np.arange(fan) > 0), source[:, :1], source)
    pairs = np.unique(np.stack([source.reshape(-1), target], axis=1), axis=0)
    return dp.Graph.from_arrays(
        *pairs.T,
        inputs=width,
        outputs=range(units, units + width),
        activation="tanh",
        dtype=dtype,
        backend=backend,
    )


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_memory_is_that_of_units_times_batch_and_edges(backend) -> None:
    """Never of edges times batch, nor of units squared."""
    m, units, edges = 64, 20_000, 200_000
    g = sparse(units, edges, backend)
    X, Y = sample((m, units // 10), "float32"), sample((m, units // 10), "float32", 1)
    g.value_and_grad(X, Y)  # compiles
    tracemalloc.start()
    g.value_and_grad(X, Y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Beyond that, the numpy backend's 2^20 products, three times.
    allowed = 4 * (3.5 * (units + units // 10) * m + 3 * edges) + (12 << 20) * (backend == "numpy")
    assert peak <= allowed < 4 * edges * m + (12 << 20) * (backend == "numpy")
