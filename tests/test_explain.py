"""A gradient explained: all paths are there, their factors right, and their sum the gradient."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deltaprop as dp
from conftest import sample
from explained import check, ladder, product_lines, two_paths
from tasks import UNITWISE, targets, task


def products_by_hand() -> tuple[float, float]:
    """The two products for x1 -> h in `two_paths`, half_sse, in the derivation's symbols."""
    x1, x2, t1, t2 = 0.4, 0.9, 0.2, 0.6
    h = math.tanh(0.5 * x1 - 0.3 * x2 + 0.1)
    z2 = -0.7 * h
    y1, y2 = 1 / (1 + math.exp(-(1.2 * h - 0.2))), math.log1p(math.exp(z2))
    slope = 1 - h * h
    first = (y1 - t1) * (y1 * (1 - y1)) * 1.2 * slope * x1
    second = (y2 - t2) * (1 / (1 + math.exp(-z2))) * -0.7 * slope * x1
    return first, second


def is_close(got: float, wanted: float) -> bool:
    return math.isclose(got, wanted, rel_tol=1e-13)


# -------------------------------------------------------------------------------- two paths


def test_both_paths_and_their_sum() -> None:
    g, X, Y = two_paths()
    e = g.explain(("x1", "h"), X, Y, "half_sse")
    assert [path.units for path in e.paths] == [("x1", "h", "y1"), ("x1", "h", "y2")]
    wanted = products_by_hand()
    for path, x in zip(e.paths, wanted):
        assert is_close(path.product, x)
    assert is_close(e.total, sum(wanted))
    assert is_close(e.gradient, sum(wanted))
    assert [factor.symbol for factor in e.paths[1].factors] == [
        "dE/da(y2)",
        "g'(z(y2))",
        "w(h -> y2)",
        "g'(z(h))",
        "a(x1)",
    ]
    check(e)


def test_a_bias_has_no_last_factor() -> None:
    g, X, Y = two_paths()
    e = g.explain("h", X, Y, "half_sse")
    assert [path.units for path in e.paths] == [("h", "y1"), ("h", "y2")]
    for path, x in zip(e.paths, products_by_hand()):
        assert is_close(path.product * 0.4, x)
    check(e)


def test_the_numbers_printed_multiply_to_the_products_printed() -> None:
    g, X, Y = two_paths()
    text = str(g.explain(("x1", "h"), X, Y, "half_sse"))
    lines = product_lines(text)
    assert len(lines) == 2
    for (factors, printed), wanted in zip(lines, products_by_hand()):
        assert len(factors) == 5
        assert math.isclose(math.prod(factors), printed, rel_tol=1e-5)
        assert math.isclose(printed, wanted, rel_tol=1e-5)
    first, second, total = re.search(
        r"^the sum over the paths +(\S+) - (\S+) = (\S+)$", text, re.M
    ).groups()
    assert math.isclose(float(first) - float(second), float(total), rel_tol=1e-4)
    assert is_close(float(total), sum(products_by_hand()))
    (gradient,) = re.findall(r"^the gradient by backpropagation +(\S+)$", text, re.M)
    assert is_close(float(gradient), sum(products_by_hand()))
    assert re.search(r"^difference +(0: the same|\S+: equal to rounding)", text, re.M)


def test_symbols_stand_above_their_numbers() -> None:
    g, X, Y = two_paths()
    lines = str(g.explain(("x1", "h"), X, Y)).splitlines()
    symbols, numbers = next((one, two) for one, two in pairwise(lines) if "dE/da(y1)" in one)
    stars = [[i for i, c in enumerate(line) if c == "*"] for line in (symbols, numbers)]
    assert stars[0] == stars[1]
    assert len(stars[0]) == 4


def test_what_is_wrong_is_called_wrong() -> None:
    g, X, Y = two_paths()
    e = g.explain(("x1", "h"), X, Y)
    dropped = replace(e, total=e.paths[0].product)
    assert e and not dropped
    assert "MORE than rounding" in str(dropped)
    last_bits = replace(e, total=e.gradient + e.rounding / 2)
    assert last_bits
    assert "equal to rounding" in str(last_bits)


def test_an_output_that_leads_on_has_both_paths() -> None:
    g = dp.Graph(["x"], ["y1", "y2"], dtype="float64", backend="reference")
    g.unit("y1", "tanh", 0.3)
    g.unit("y2", "identity", 0.1)
    g.edge("x", "y1", 0.5)
    g.edge("y1", "y2", -2.0)
    e = g.explain("x -> y1", np.array([[0.8]]), np.array([[0.1, 0.2]]), "half_sse")
    assert [path.units for path in e.paths] == [("x", "y1"), ("x", "y1", "y2")]
    a1 = math.tanh(0.5 * 0.8 + 0.3)
    a2 = 0.1 - 2 * a1
    slope = 1 - a1 * a1
    assert is_close(e.paths[0].product, (a1 - 0.1) * slope * 0.8)
    assert is_close(e.paths[1].product, (a2 - 0.2) * -2.0 * slope * 0.8)
    check(e)
    grouped = g.explain("x -> y1", np.array([[0.8]]), np.array([[0.1, 0.2]]), "half_sse", None, 1)
    assert "dE/da(y1) * g'(z(y1)) + g'(z(y1)) * [w(y1 -> y2) * delta(y2)]" in str(grouped)
    check(grouped)


@pytest.mark.parametrize("output, loss", [("softmax", None), ("logistic", "binary_cross_entropy")])
def test_a_slope_that_has_cancelled_is_no_factor(output: str, loss: str | None) -> None:
    g = dp.Graph(["x"], ["y1", "y2"], dtype="float64", backend="reference")
    for name in ("y1", "y2"):
        g.unit(name, output)
        g.edge("x", name)
    X, Y = np.array([[0.8], [0.4]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    e = g.explain("x -> y2", X, Y, loss)
    (path,) = e.paths
    assert [factor.symbol for factor in path.factors] == ["dE/dz(y2)", "a(x)"]
    assert np.allclose(path.factors[0].values, (g.predict(X) - Y)[:, 1] / 2, rtol=1e-14)
    assert "the slope has cancelled" in str(e)
    check(e)
    if output == "logistic":
        text = str(g.explain("x -> y2", X, Y, "mse"))
        assert "dE/da(y2) * g'(z(y2)) * a(x)" in text
        assert "the slope has cancelled" not in text


def test_a_layered_net_has_a_path_through_each_choice_of_units() -> None:
    net, (X, Y, loss) = task((2, 3, 4, 3), "tanh", "half_mse", 3)
    e = net.explain("x2 -> h1.3", X, Y, loss)
    between = [[f"h2.{i}" for i in range(1, 5)], [f"y{i}" for i in range(1, 4)]]
    assert [path.units for path in e.paths] == [
        ("x2", "h1.3", *units) for units in product(*between)
    ]
    check(e)
    check(net.explain("0.b[2]", X, Y, loss))


# ------------------------------------------------------------------------------ any graph


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dp.Graph, tuple[Any, ...]]:
    """A graph of up to 12 units with a batch for it: (X, Y, loss, sample_weight)."""
    loss = draw(st.sampled_from(list(dp.LOSSES)))
    link = dp.LOSSES[loss].link
    inputs = [f"x{i}" for i in range(draw(st.integers(1, 3)))]
    names = [f"u{i}" for i in range(draw(st.integers(1, 12 - len(inputs))))]
    before = {
        name: draw(st.sets(st.sampled_from([*inputs, *names[:i]]), min_size=1))
        for i, name in enumerate(names)
    }
    leading = set().union(*before.values())
    outputs = [name for name in names if name not in leading]
    if link != "softmax":
        outputs += draw(st.lists(st.sampled_from(names), unique=True))
    outputs = draw(st.permutations(sorted(set(outputs))))
    seed = draw(st.integers(0, 2**20))
    g = dp.Graph(inputs, outputs, dtype="float64", backend="reference", seed=seed)
    for name in names:
        own = draw(st.sampled_from(UNITWISE))
        bias = draw(st.none() | st.floats(-1, 1))
        g.unit(name, link if link and name in outputs else own, bias)
    for name, sources in before.items():
        for source in draw(st.permutations(sorted(sources))):
            g.edge(source, name)
    m = draw(st.integers(1, 5))
    X = sample((m, len(inputs)), "float64", seed + 1)
    weights = sample(m, "float64", seed + 2) if draw(st.booleans()) else None
    return g, (X, targets(loss, m, len(outputs), "float64", seed + 3), loss, weights)


@given(graphs(), st.integers(0, 10**6), st.sampled_from([0, 3, 10**6]))
@settings(max_examples=150, deadline=None)
def test_the_sum_over_the_paths_is_the_gradient(
    graph: tuple[dp.Graph, tuple[Any, ...]], which: int, max_paths: int
) -> None:
    g, batch = graph
    _, gradients = g.value_and_grad(*batch)
    weights = [*gradients.edges, *gradients.biased]
    weight = weights[which % len(weights)]
    e = g.explain(weight, *batch, max_paths=max_paths)
    assert e.gradient == gradients[weight]
    assert bool(e.paths) == (e.count <= max_paths)
    assert bool(e.deltas) == (e.count > max_paths)
    check(e)


@given(graphs())
@settings(max_examples=15, deadline=None)
def test_paths_are_the_paths_of_the_graph(graph: tuple[dp.Graph, tuple[Any, ...]]) -> None:
    g, batch = graph
    edges = g.value_and_grad(*batch)[1].edges
    outputs = {g.topology.names[i] for i in g.topology.outputs}

    def to_an_output(path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        found = [path] if path[-1] in outputs else []
        onward = [target for source, target in edges if source == path[-1]]
        return found + [longer for unit in onward for longer in to_an_output((*path, unit))]

    for edge in edges:
        e = g.explain(edge, *batch, max_paths=10**6)
        assert sorted(path.units for path in e.paths) == sorted(to_an_output(edge))


# ----------------------------------------------------------------------------- many paths


def test_too_many_paths_are_counted_and_written_unit_by_unit() -> None:
    net, X, Y = ladder(21)
    e = net.explain("x1 -> h1.1", X, Y)
    assert e.count == 2**20
    assert e.paths == ()
    assert len(e.deltas) == 1 + 2 * 20 + 1
    text = str(e)
    assert "a sum over about 2^20 paths" in text
    assert "... and 30 more units" in text
    assert text.count("delta(h1.1) = ") == 1
    check(e)


def test_hundreds_of_layers() -> None:
    net, X, Y = ladder(400)
    e = net.explain("x1 -> h1.1", X, Y)
    assert e.count == 2**399
    assert "about 2^399 paths" in str(e)
    check(e)
    net, X, Y = ladder(400, width=1)
    e = net.explain("x1 -> h1.1", X, Y)
    (path,) = e.paths
    assert len(path.factors) == 2 + 2 * 400 + 1
    assert "(767 more)" in str(e)
    assert len(str(e).splitlines()) < 75
    check(e)


def test_the_limit_is_on_paths() -> None:
    net, X, Y = ladder(3)
    assert net.explain("x1 -> h1.1", X, Y).count == 4
    assert len(net.explain("x1 -> h1.1", X, Y, max_paths=4).paths) == 4
    assert net.explain("x1 -> h1.1", X, Y, max_paths=3).paths == ()


def test_each_delta_is_that_of_the_backward_sweep() -> None:
    net, (X, Y, loss) = task((3, 4, 3, 2), "tanh", "half_mse", 5)
    e = net.explain("0.W[1, 2]", X, Y, loss, max_paths=0)
    g = net.to_graph()
    back = g.backward(g.forward(X), Y, loss)
    assert [delta.unit for delta in e.deltas] == ["h1.2", "h2.1", "h2.2", "h2.3", "y1", "y2"]
    for delta in e.deltas:
        assert np.allclose(delta.values, back.delta[delta.unit], rtol=1e-13, atol=0)


def test_a_sum_of_many_terms_is_abridged() -> None:
    net, (X, Y, loss) = task((2, 3, 20), "tanh", "half_mse", 1)
    e = net.explain("x1 -> h1.3", X, Y, loss)
    (symbols, numbers) = re.findall(
        r"delta\(h1\.3\) = (.*?\])\n +(= .*?\] = \S+)$", str(e), re.S | re.M
    )[0]
    assert "(17 more)" in symbols
    slope, *inner, result = (float(x) for x in re.findall(r"-?\d[\d.e-]*", numbers))
    w_delta = [inner[i] * inner[i + 1] for i in (0, 2, 4)]
    assert len(inner) == 7
    assert math.isclose(slope * (sum(w_delta) + inner[6]), result, rel_tol=1e-4)
    check(e)
