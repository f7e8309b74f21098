"""deltaprop explain, as a person uses it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp
from commands import refused, well
from explained import assert_is_latex

X, Y = np.array([[0.5, -0.25]]), np.array([[0.2, 0.6, 0.1]])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in a folder of their own, on the backend that compiles nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DELTAPROP_BACKEND", "reference")
    return tmp_path


@pytest.fixture
def net() -> dp.MLP:
    net = dp.MLP([2, 3, 3], "tanh", seed=5)
    net.save("net.safetensors")
    return net


def test_a_newcomer_sees_two_paths_at_once() -> None:
    out = well("explain")
    assert "weights of 4 edges: x1 -> h, x2 -> h, h -> y1, h -> y2\nbiases of 3 units: h, y1" in out
    assert "dE/dw(x1 -> h): a sum over 2 paths from h to an output\nE is half_sse of 1" in out
    x, h = 0.05, 1 / (1 + math.exp(-(0.15 * 0.05 + 0.2 * 0.1 + 0.35)))
    total = 0.0
    for w, target in ((0.4, 0.01), (0.5, 0.99)):
        y = 1 / (1 + math.exp(-(w * h + 0.6)))
        product = (y - target) * y * (1 - y) * w * h * (1 - h) * x
        assert f" = {product:.6g}\n" in out
        total += product
    (printed,) = re.findall(r"^the gradient by backpropagation +(\S+)$", out, re.MULTILINE)
    assert math.isclose(float(printed), total, rel_tol=1e-13)


def test_options_for_the_built_in_graph() -> None:
    out = well("explain", "--weight", "h->y1", "--x", "0.3,0.4", "--y", "0,1", "--loss", "mse")
    assert out.startswith("dE/dw(h -> y1): one path, from y1 to an output\nE is mse")
    assert "weights of" not in out
    out = well("explain", "--x", "0.3,-0.4", "--x", "-1,2", "--y", "0,1", "--y", "1,0")
    assert "E is half_sse of 2 samples" in out
    assert "0.3 = " in out
    assert "-1 = " in out
    assert "delta(y2)" in well("explain", "--max-paths", "1")


def test_latex() -> None:
    out = well("explain", "--weight", "h", "--latex")
    assert_is_latex(out.rstrip("\n"))
    assert r"\frac{\partial E}{\partial b_{h}}" in out


@pytest.mark.parametrize("weight", ["0.W[1, 0]", "x1 -> h1.2"])
def test_a_net_of_ones_own(net: dp.MLP, weight: str) -> None:
    out = well("explain", "net.safetensors", "--weight", weight, "--x", "0.5,-0.25", "--y=.2,.6,.1")
    _, gradients = net.to(dtype="float64").value_and_grad(X, Y)
    assert f"the gradient by backpropagation  {gradients[0].W[1, 0]:.15g}\n" in out
    assert "E is half_mse" in out


def test_a_graph_of_ones_own_lists_its_weights() -> None:
    count = 30
    g = dp.Graph(count, ["y"], dtype="float64")
    g.unit("y", bias=None)
    for i in range(count):
        g.edge(f"x{i + 1}", "y")
    g.save("graph.safetensors")
    out = well("explain", "graph.safetensors", "--x", ",".join(["1"] * count), "--y", "0")
    assert "weights of 30 edges: x1 -> y, x2 -> y" in out
    assert "x20 -> y, ... 10 more\nbiases of 0 units\n" in out
    assert "dE/dw(x1 -> y): one path" in out


def test_a_label_for_a_classifier(net: dp.MLP) -> None:
    dp.MLP([2, 3], output="softmax", seed=5).save("classes.safetensors")
    given = "explain", "classes.safetensors", "--weight", "0.b[2]", "--x", "0.5,-0.25"
    assert well(*given, "--y", "2") == well(*given, "--y", "0,0,1")
    refused(*given, "--y", "3", words=("label 3",))


def test_mistakes(net: dp.MLP) -> None:
    own = ("explain", "net.safetensors")
    sample = ("--x", "0.5,-0.25", "--y", "0.2,0.6,0.1")
    for arguments, words in [
        (("explain", "--weight", "x3 -> h"), ["unknown unit 'x3'", "'x2'"]),
        (("explain", "--weight", "x1 -> y1"), ["'x1' to 'y1'", "'h'"]),
        (("explain", "--weight", "x1"), ["'x1' has no bias"]),
        (("explain", "--loss", "half_see"), ["'half_see'", "'half_sse'"]),
        (("explain", "--x", "0.5", "--y", "0,0"), ["X must have shape (m, 2)"]),
        (("explain", "--x", "0.5,1"), ["--x and --y"]),
        (("explain", "--x", "a,b"), ["--x", "0.05,0.1"]),
        (("explain", "--x", "1,2", "--x", "3"), ["--x", "as many numbers"]),
        (("explain", "--x", "1,2", "--x", "3,4", "--y", "0,0"), ["Y must have shape (2, 2)"]),
        (("explain", "--max-paths", "-1"), ["max_paths", "-1"]),
        (own, ["--x and --y"]),
        ((*own, *sample, "--weight", "0.W[9, 0]"), ["0.W[9, 0]", "(3, 2)"]),
        (("explain", "none.safetensors", *sample), ["none.safetensors"]),
    ]:
        refused(*arguments, words=words)
