"""Pictures of nets: what is drawn where, in which colour, with which words."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

import deltaprop as dp
from commands import refused
from conftest import assert_same_bits, sample
from deltaprop.cli_plot import small_graph
from test_layout import random_graph

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def no_figure_stays() -> Iterator[None]:
    yield
    pyplot.close("all")


def data(net: Any, m: int = 7) -> tuple[np.ndarray, np.ndarray]:
    dtype = net.dtype.name
    return sample((m, net.inputs), dtype), sample((m, net.outputs), dtype, seed=1)


def lines(ax: Any) -> LineCollection:
    (found,) = (c for c in ax.collections if isinstance(c, LineCollection))
    return found


def dots(ax: Any) -> PathCollection:
    (found,) = (c for c in ax.collections if isinstance(c, PathCollection))
    return found


def words(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def on_axes(net: Any, *given: Any, **options: Any) -> Any:
    """The picture, in a figure that pyplot does not know."""
    return dp.plot.network(net, *given, ax=Figure().add_subplot(), **options)


# --------------------------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("graph", [small_graph(), random_graph(60, 200)], ids=["small", "large"])
def test_every_edge_leads_from_its_source_to_its_target_in_the_colour_of_its_weight(
    graph: dp.Graph,
) -> None:
    ax = on_axes(graph)
    drawn, xy = lines(ax), dots(ax).get_offsets()
    number = graph.topology.number
    names, weights = graph._parameters.edges, graph._parameters.weights
    by_ends = {}
    for way, value in zip(drawn.get_segments(), drawn.get_array()):
        by_ends[tuple(np.round([*way[0], *way[-1]], 9))] = value
    assert len(by_ends) == len(drawn.get_segments()) == len(names)
    for (source, target), weight in zip(names, weights):
        ends = [*xy[number[source]], *xy[number[target]]]
        assert by_ends[tuple(np.round(ends, 9))] == weight
    assert np.all(np.diff(np.abs(drawn.get_array())) >= 0), "the strongest are on top"
    assert np.all(np.diff(drawn.get_linewidths()) >= 0)
    red, _, blue = drawn.to_rgba(np.array([-1.0, 1.0]) * drawn.norm.vmax)[:, :3].T
    assert (red < blue).tolist() == [True, False]
    assert drawn.norm.vmin == -drawn.norm.vmax


def test_units_stand_in_columns_by_level() -> None:
    graph = random_graph(60, 200)
    xy = dots(on_axes(graph)).get_offsets()
    np.testing.assert_array_equal(xy[:, 0], graph.topology.levels)
    assert len({(x, round(y, 6)) for x, y in xy}) == len(xy), "no two in one place"


def test_every_edge_is_within_the_axes() -> None:
    g = dp.Graph(1, ["u7"], backend="numpy")
    for i in range(8):
        g.unit(f"u{i}")
        g.edge("x1" if i == 0 else f"u{i - 1}", f"u{i}")
    for target in ("u2", "u4", "u5", "u6", "u7"):
        g.edge("x1", target)
    ax = on_axes(g)
    points = np.concatenate(lines(ax).get_segments())
    assert np.ptp(points[:, 1]) > 1.5
    for values, limits in zip(points.T, (ax.get_xlim(), ax.get_ylim())):
        assert limits[0] < values.min() <= values.max() < limits[1]


def test_gradients_are_drawn_and_deltas_stand_at_the_units() -> None:
    g = small_graph()
    X, Y = data(g)
    back = g.backward(g.forward(X), Y, "half_mse")
    _, gradients = g.value_and_grad(X, Y, "half_mse")
    pictures = [
        on_axes(g, back),
        on_axes(g, gradients),
        on_axes(g, X=X, Y=Y, loss="half_mse"),
    ]
    for ax in pictures:
        np.testing.assert_array_equal(
            np.sort(lines(ax).get_array()), np.sort(back.gradients.weights)
        )
        for name in ("h1", "h2", "h3", "y1", "y2"):
            text = f"b {g[name]:.2g}\nδ {back.delta[name].sum():.2g}"
            assert text in words(ax)
        for source, target in back.gradients.edges:
            assert f"{back.gradients[source, target]:.2g}" in words(ax)


def test_deltas_find_their_units_when_these_were_declared_in_another_order() -> None:
    g = dp.Graph(1, ["y"], dtype="float64", backend="numpy")
    for name in ("y", "h", "first"):
        g.unit(name, "identity", None)
    for source, target, weight in (("x1", "first", 1.0), ("first", "h", 5.0), ("h", "y", 2.0)):
        g.edge(source, target, weight)
    ax = on_axes(g, X=np.array([[1.0]]), Y=np.array([[9.0]]), loss="half_sse")
    at = {text.xy[0]: text.get_text() for text in ax.texts if "δ" in text.get_text()}
    assert at == {1: "δ 10", 2: "δ 2", 3: "δ 1"}


def test_a_unit_without_a_bias_has_its_delta_from_backward_alone() -> None:
    g = dp.Graph(1, ["y"], dtype="float64", backend="numpy")
    g.unit("y", "identity", None)
    g.edge("x1", "y", 2.0)
    X, Y = np.array([[1.0], [2.0]]), np.array([[0.5], [0.5]])
    assert "δ 2.5" in words(on_axes(g, g.backward(g.forward(X), Y)))
    assert not [text for text in words(on_axes(g, g.value_and_grad(X, Y)[1])) if "δ" in text]


@pytest.mark.parametrize("bias", [True, False])
def test_a_layered_net_is_drawn_as_its_graph(bias: bool) -> None:
    net = dp.MLP([3, 4, 2], "tanh", bias=bias, dtype="float64", backend="numpy", seed=5)
    X, Y = data(net)
    _, gradients = net.value_and_grad(X, Y)
    back = net.backward(net.forward(X), Y)
    wanted = np.concatenate([layer.W.reshape(-1) for layer in gradients])
    for given in (gradients, back):
        ax = on_axes(net, given)
        np.testing.assert_array_equal(np.sort(lines(ax).get_array()), np.sort(wanted))
    for unit, delta in enumerate(back.delta[1].sum(axis=0)):
        assert any(text.endswith(f"δ {delta:.2g}") for text in words(ax)), unit
    assert sorted(lines(on_axes(net)).get_array()) == sorted(net.to_graph()._parameters.weights)


def test_a_small_net_has_words_and_a_large_one_none() -> None:
    g = small_graph()
    shown = words(on_axes(g))
    for name in ("x1", "x2", "x3", "h1", "h2", "h3", "y1", "y2", "tanh", "logistic", "identity"):
        assert name in shown
    for weight in g._parameters.weights:
        assert f"{weight:.2g}" in shown
    assert "b -0.4" in shown
    assert words(on_axes(g, labels=False)) == ["x1", "x2", "x3", "y1", "y2"]
    assert words(on_axes(random_graph(480, 900))) == []
    assert len(words(on_axes(dp.MLP([3, 4, 5, 2], backend="numpy"), labels=True))) > 60


def test_outputs_have_a_dark_ring() -> None:
    g = random_graph(60, 200)
    ring = np.asarray(dots(on_axes(g)).get_linewidths())
    outputs = np.isin(np.arange(g.topology.units), g.topology.outputs)
    assert ring[outputs].min() > ring[~outputs].max()


def test_the_strongest_edges_remain_where_there_are_too_many() -> None:
    g = random_graph(60, 200)
    ax = on_axes(g, most_edges=50)
    strongest = np.sort(np.abs(g._parameters.weights))[-50:]
    np.testing.assert_array_equal(np.abs(lines(ax).get_array()), strongest)
    assert "the strongest 50 of 200 edges" in ax.get_xlabel()
    assert "strongest" not in on_axes(g).get_xlabel()


def test_zeros_and_numbers_that_are_none_can_be_drawn() -> None:
    g = small_graph()
    g.parameters[:] = 0
    ax = on_axes(g)
    ax.figure.canvas.draw()
    assert lines(ax).norm.vmax == 1
    _, gradients = g.value_and_grad(*data(g))
    gradients.flat[:] = [np.nan, np.inf, *range(len(gradients.flat) - 2)]
    ax = on_axes(g, gradients)
    ax.figure.canvas.draw()
    assert lines(ax).norm.vmax == 7
    assert np.all(np.isfinite(lines(ax).get_linewidths()))


def test_names_with_signs_of_mathematics_are_only_names() -> None:
    g = dp.Graph(["$x_{$"], ["a unit with a long name"], backend="numpy")
    g.unit("a unit with a long name")
    g.edge("$x_{$", "a unit with a long name")
    ax = on_axes(g)
    ax.figure.canvas.draw()
    assert {"$x_{$", "a unit wi…"} <= set(words(ax))


# ------------------------------------------------------------------------------- where it is drawn


def test_it_draws_in_the_axes_it_is_given_or_in_a_new_figure() -> None:
    ax = Figure().add_subplot()
    assert dp.plot.network(small_graph(), ax=ax) is ax
    assert pyplot.get_fignums() == []
    assert len(ax.figure.axes) == 2
    assert len(on_axes(small_graph(), colorbar=False).figure.axes) == 1
    first, second = dp.plot.network(small_graph()), dp.plot.network(small_graph())
    assert first.figure is not second.figure
    assert len(pyplot.get_fignums()) == 2


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_save_leaves_pyplot_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    dp.plot.save(path, small_graph())
    assert path.stat().st_size > 5000
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("net", [small_graph(), dp.MLP([3, 4, 2], dtype="float64")])
def test_the_net_stays_as_it_is(net: Any) -> None:
    X, Y = data(net)
    before, text = net.parameters.copy(), repr(net)
    on_axes(net, X=X, Y=Y)
    on_axes(net)
    assert_same_bits(net.parameters, before)
    assert repr(net) == text


def test_two_thousand_edges_take_about_a_second() -> None:
    """Three times what it may take on a busy machine: one artist an edge takes far longer."""
    g = random_graph(480, 2000)
    start = time.process_time()
    ax = on_axes(g)
    ax.figure.canvas.draw()
    assert time.process_time() - start < 5
    assert len(ax.collections) == 2


# --------------------------------------------------------------------------------------- refusals


def test_what_is_no_net_or_no_gradient_of_it_is_refused() -> None:
    g, net = small_graph(), dp.MLP([3, 4, 2], dtype="float64", backend="numpy")
    X, Y = data(g)
    _, layered = net.value_and_grad(X, Y)
    with pytest.raises(TypeError, match="Graph or an MLP, got int"):
        dp.plot.network(3)
    with pytest.raises(TypeError, match="of this net returned, got Parameters"):
        dp.plot.network(g, layered)
    with pytest.raises(TypeError, match="26 numbers, but the net has 15 parameters"):
        dp.plot.network(g, net.to_graph().value_and_grad(X, Y)[1])
    with pytest.raises(TypeError, match="not both"):
        dp.plot.network(g, layered, X=X, Y=Y)
    with pytest.raises(TypeError, match="both X and Y"):
        dp.plot.network(g, X=X)
    with pytest.raises(TypeError, match="got ndarray"):
        dp.plot.network(g, g.parameters)
    with pytest.raises(ValueError, match="most_edges must be at least 1"):
        dp.plot.network(g, most_edges=0)


def test_without_matplotlib_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.collections", None)
    with pytest.raises(ImportError, match=r"pip install 'deltaprop\[plot\]'"):
        dp.plot.network(small_graph())
    refused("plot", words=["pip install 'deltaprop[plot]'"])


def test_deltaprop_alone_imports_none_of_the_libraries_it_can_do_without() -> None:
    code = (
        "import sys, deltaprop, deltaprop.cli\n"
        "print([x for x in ('matplotlib', 'networkx', 'neat') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
