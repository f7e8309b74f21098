"""A derivation as LaTeX: in full for a small graph, and well-formed for any."""

from __future__ import annotations

import re

import numpy as np
import pytest

import deltaprop as dp
from explained import assert_is_latex, ladder, two_paths
from tasks import task


def rendered(text: str) -> None:
    r"""Each line as matplotlib sets it; it has no environments, nor \& and \#."""
    mathtext = pytest.importorskip("matplotlib.mathtext")
    parser = mathtext.MathTextParser("path")
    for line in text.split("\n")[1:-1]:
        aligned = re.sub(r"\\?&|\\#", "", line.removesuffix(r" \\"))
        parser.parse(f"${aligned}$")


def test_latex_in_full() -> None:
    g, X, Y = two_paths()
    assert g.explain(("x1", "h"), X, Y, "half_sse").latex().split("\n") == [
        r"\begin{aligned}",
        r"\frac{\partial E}{\partial w_{h,x_{1}}} &= \frac{\partial E}{\partial a_{y_{1}}} "
        r"\, g'(z_{y_{1}}) \, w_{y_{1},h} \, g'(z_{h}) \, a_{x_{1}} \\",
        r"&\quad + \frac{\partial E}{\partial a_{y_{2}}} "
        r"\, g'(z_{y_{2}}) \, w_{y_{2},h} \, g'(z_{h}) \, a_{x_{1}} \\",
        r"&= 0.259089 \cdot 0.248326 \cdot 1.2 \cdot 0.999101 \cdot 0.4 \\",
        r"&\quad + 0.0827054 \cdot 0.494752 \cdot (-0.7) \cdot 0.999101 \cdot 0.4 \\",
        r"&= 0.0308548 + (-0.0114469) \\",
        r"&= 0.0194078",
        r"\end{aligned}",
    ]


def test_latex_renders() -> None:
    g, X, Y = two_paths()
    net, (many, of_many, loss) = task((3, 4, 3, 20), "tanh", "cross_entropy", 5)
    deep, x, y = ladder(30, width=1)
    for e in (
        g.explain(("x1", "h"), X, Y),
        g.explain("h", X * 1e-9, Y),
        net.explain("0.W[0, 0]", many, of_many, loss),
        net.explain("0.W[0, 0]", many[:1], of_many[:1], loss),
        net.explain("1.b[0]", many, of_many, loss, max_paths=20),
        deep.explain("x1 -> h1.1", x[:1], y[:1]),
    ):
        assert_is_latex(e.latex())
        rendered(e.latex())
        assert e._repr_latex_() == f"$\\displaystyle {e.latex()}$"


@pytest.mark.parametrize("name", ["hidden unit", "a_b", "{x}", "5%", "$", "\\q", "a&b#c^d~e", "δ"])
def test_latex_of_odd_names(name: str) -> None:
    g = dp.Graph(["x"], [name], dtype="float64", backend="reference")
    g.unit(name)
    g.edge("x", name)
    e = g.explain(("x", name), np.array([[0.5]]), np.array([[0.5]]))
    assert_is_latex(e.latex())
    rendered(e.latex())
    assert f"x -> {name}\n" in str(e)


def test_latex_of_numbered_units() -> None:
    g = dp.Graph.from_arrays([0], [12], inputs=[0], outputs=[12], backend="reference")
    e = g.explain((0, 12), np.array([[0.5]]), np.array([[0.5]]))
    assert (
        r"\frac{\partial E}{\partial w_{12,0}} &= \frac{\partial E}{\partial a_{12}}" in e.latex()
    )
    rendered(e.latex())
