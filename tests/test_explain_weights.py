"""Which weight is explained: by every name it goes by, for a batch, on any backend."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import sample
from explained import check, product_lines, two_paths
from tasks import task


def test_weights_of_an_mlp_go_by_both_names() -> None:
    net, (X, Y, loss) = task((3, 4, 2), "tanh", "half_mse", 4)
    _, gradients = net.value_and_grad(X, Y, loss)
    for l, (W, b) in enumerate(gradients):
        for (j, i), wanted in np.ndenumerate(W):
            e = net.explain(f"{l}.W[{j}, {i}]", X, Y, loss)
            unit = (f"h1.{j + 1}", f"y{j + 1}")[l]
            assert e.weight == ((f"x{i + 1}", f"h1.{i + 1}")[l], unit)
            assert e.gradient == wanted
            assert net.explain(e.weight, X, Y, loss).gradient == wanted
        for j, wanted in enumerate(b):
            assert net.explain(f"{l}.b[{j}]", X, Y, loss).gradient == wanted


def test_edges_as_text_and_units_with_numbers() -> None:
    g = dp.Graph.from_arrays(
        [0, 1, 2], [2, 2, 3], inputs=2, outputs=[3], dtype="float64", backend="reference"
    )
    X, Y = np.array([[0.4, 0.9]]), np.array([[0.2]])
    assert g.explain("1 -> 2", X, Y).weight == (1, 2)
    assert g.explain("1->2", X, Y).gradient == g.explain((1, 2), X, Y).gradient
    assert g.explain("3", X, Y).weight == g.explain(3, X, Y).weight == 3
    odd = dp.Graph(["a -> b"], ["y"], dtype="float64", backend="reference")
    odd.unit("y")
    odd.unit("b -> c")
    odd.edge("a -> b", "b -> c")
    odd.edge("b -> c", "y")
    X = np.array([[0.4]])
    assert odd.explain("b -> c", X, Y).weight == "b -> c"
    assert odd.explain(("a -> b", "b -> c"), X, Y).count == 1


def test_a_batch_shows_a_few_samples_and_sums_over_all() -> None:
    g, _, _ = two_paths()
    X, Y, w = sample((5, 2), "float64"), sample((5, 2), "float64", 1), np.array([1.0, 2, 0, 1, 3])
    e = g.explain(("x1", "h"), X, Y, "half_mse", w)
    check(e)
    text = str(e)
    assert "E is half_mse of 5 samples, each with its weight" in text
    lines = product_lines(text)
    assert len(lines) == 6
    for (factors, product), wanted in zip(lines, [x for p in e.paths for x in p.products[:3]]):
        assert math.isclose(math.prod(factors), product, rel_tol=1e-5)
        assert math.isclose(product, wanted, rel_tol=1e-5)
    sums = re.findall(r"2 more samples; sum over all samples = (\S+)$", text, re.M)
    assert [float(x) for x in sums] == [float(f"{p.product:.6g}") for p in e.paths]
    assert "    1 more sample; sum" in str(g.explain(("x1", "h"), X[:4], Y[:4]))
    assert "more sample" not in str(g.explain(("x1", "h"), X[:3], Y[:3]))
    alone = [g.explain(("x1", "h"), X[i : i + 1], Y[i : i + 1]).gradient for i in range(5)]
    assert math.isclose(e.gradient, float(np.dot(alone, w)) / 5, rel_tol=1e-12)


def test_a_float32_net_is_explained_in_float64() -> None:
    net, (X, Y, loss) = task((3, 4, 2), "tanh", "half_mse", 4, dtype="float32")
    e = net.explain("0.W[1, 0]", X, Y, loss)
    _, wide = net.to(dtype="float64").value_and_grad(X, Y, loss)
    assert e.gradient == wide[0].W[1, 0]
    assert net.dtype == "float32"


def test_on_every_backend(backend: str) -> None:
    net, (X, Y, loss) = task((3, 4, 2), "tanh", "half_mse", 70)
    check(net.to(backend).explain("0.W[1, 0]", X, Y, loss))


def test_numbers_that_are_not_finite() -> None:
    g, X, Y = two_paths()
    e = g.explain("x1 -> h", X, Y * np.nan)
    assert not e
    assert "the numbers are not finite" in str(e)


@pytest.mark.parametrize(
    "weight, words",
    [
        (("x3", "h"), ["'x3'", "did you mean 'x2'"]),
        ("hh", ["'hh'", "'h'"]),
        (("x1", "y1"), ["'x1' to 'y1'", "to 'y1' lead 'h'"]),
        ("h -> x1", ["'h' to 'x1'", "'x1' is an input"]),
        ("y2", ["'y2' has no bias"]),
        ("x1", ["'x1' has no bias"]),
        ("0.W[0, 0]", ["0.W[0, 0]"]),
    ],
)
def test_a_weight_that_is_not_there(weight: Any, words: list[str]) -> None:
    g, X, Y = two_paths()
    with pytest.raises(ValueError) as caught:
        g.explain(weight, X, Y)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "weight, words",
    [
        ("2.W[0, 0]", ["2.W[0, 0]", "0.W, 1.W"]),
        ("0.W[4, 0]", ["0.W[4, 0]", "(4, 3)"]),
        ("0.W[0]", ["0.W[0]", "(4, 3)"]),
        ("0.b[0]", ["0.b[0]", "0.W, 1.W"]),
        ("y1", ["'y1' has no bias"]),
    ],
)
def test_a_weight_that_an_mlp_has_not(weight: str, words: list[str]) -> None:
    net, (X, Y, loss) = task((3, 4, 2), "tanh", "half_mse", 1, bias=False)
    with pytest.raises(ValueError) as caught:
        net.explain(weight, X, Y, loss)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("weight", [None, 0.5, ("x1", "h", "y1"), ["x1", "h"], ("x1", None)])
def test_what_names_no_weight(weight: Any) -> None:
    g, X, Y = two_paths()
    with pytest.raises(TypeError, match="weight must be an edge"):
        g.explain(weight, X, Y)


def test_bad_options() -> None:
    g, X, Y = two_paths()
    with pytest.raises(ValueError, match="max_paths must be at least 0"):
        g.explain("h", X, Y, max_paths=-1)
    with pytest.raises(ValueError, match="half_sse"):
        g.explain("h", X, Y, "half_see")
    with pytest.raises(ValueError, match="X must have shape"):
        g.explain("h", X[:, :1], Y)
