"""Explanations for tests: small nets to explain, and what holds for each explanation."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

import deltaprop as dp
from deltaprop.explain import Explanation


def two_paths(**options: Any) -> tuple[dp.Graph, np.ndarray, np.ndarray]:
    """x1, x2 -> h -> y1, y2: h feeds two outputs."""
    g = dp.Graph(["x1", "x2"], ["y1", "y2"], dtype="float64", backend="reference", **options)
    g.unit("h", "tanh", bias=0.1)
    g.unit("y1", "logistic", bias=-0.2)
    g.unit("y2", "softplus", bias=None)
    g.edge("x1", "h", 0.5)
    g.edge("x2", "h", -0.3)
    g.edge("h", "y1", 1.2)
    g.edge("h", "y2", -0.7)
    return g, np.array([[0.4, 0.9]]), np.array([[0.2, 0.6]])


def ladder(layers: int, width: int = 2) -> tuple[dp.MLP, np.ndarray, np.ndarray]:
    net = dp.MLP([1, *[width] * layers, 1], "tanh", dtype="float64", backend="reference", seed=3)
    return net, np.array([[0.7], [0.2]]), np.array([[0.3], [0.1]])


def check(e: Explanation) -> None:
    """What holds for each explanation: the total is the gradient, to a rounding that is small."""
    assert e, str(e)
    size = sum(float(np.sum(np.abs(path.products))) for path in e.paths)
    if e.paths:
        assert len(e.paths) == e.count
        assert len({path.units for path in e.paths}) == e.count
        assert math.isclose(e.total, sum(p.product for p in e.paths), abs_tol=e.rounding)
        assert e.rounding <= 1e-12 * size + 1e-300
    assert all(len(line) <= 100 for line in str(e).splitlines())
    assert_is_latex(e.latex())


def assert_is_latex(text: str) -> None:
    """One environment, its braces and brackets in pairs, an alignment in each line."""
    depth = 0
    for c in re.sub(r"\\[{}]", "", text):
        depth += (c == "{") - (c == "}")
        assert depth >= 0
    assert depth == 0
    assert text.count(r"\left[") == text.count(r"\right]")
    begin, *lines, end = text.split("\n")
    assert (begin, end) == (r"\begin{aligned}", r"\end{aligned}")
    assert all(line.endswith(r" \\") for line in lines[:-1])
    assert not lines[-1].endswith("\\")
    assert all(line.count("&") - line.count(r"\&") == 1 for line in lines)


def product_lines(text: str) -> list[tuple[list[float], float]]:
    """The lines 'number * number * ... = product' of a text, those on one line."""
    lines = re.findall(r"^ +(?:sample \d+ +)?([-\d][-+.e\d* ]*) = +(\S+)$", text, re.M)
    return [([float(x) for x in left.split("*")], float(right)) for left, right in lines]
