"""Where units and edges are drawn: columns, gaps, labels."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import deltaprop as dp
from deltaprop.plot import layout
from deltaprop.plot.layout import places, routes, spots


def random_graph(units: int, edges: int, seed: int = 0, inputs: int = 20) -> dp.Graph:
    """Units that are fed by units before them; those that lead nowhere are outputs."""
    random = np.random.default_rng(seed)
    ends = {(int(random.integers(0, j)), j) for j in range(inputs, inputs + units)}
    while len(ends) < edges:
        j = int(random.integers(inputs, inputs + units))
        ends.add((int(random.integers(0, j)), j))
    source, target = np.array(sorted(ends)).T
    last = np.setdiff1d(np.arange(inputs, inputs + units), source)
    return dp.Graph.from_arrays(
        source, target, inputs=inputs, outputs=last, dtype="float64", backend="numpy"
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 30), st.integers(0, 40), st.integers(0, 99), st.booleans())
def test_no_edge_runs_through_a_unit(units: int, more: int, seed: int, share: bool) -> None:
    graph = random_graph(units, min(units + more, 2 * units), seed, inputs=3).topology
    xy = places(graph)
    room = (0.2, 0.3)
    ways = routes(xy, graph.source, graph.target, room, 4, share)
    for e, way in enumerate(ways):
        inside = way[4:-4:4]
        np.testing.assert_allclose(way[[0, -1]], xy[[graph.source[e], graph.target[e]]])
        np.testing.assert_array_equal(inside[:, 0], np.rint(inside[:, 0]))
        for x, y in inside:
            beside = y - xy[xy[:, 0] == x, 1]
            assert np.all((beside > room[0] - 1e-9) | (beside < -room[1] + 1e-9))
        for first in range(0, len(way) - 1, 4):
            steps = np.diff(way[first : first + 5, 1])
            assert np.all(steps >= -1e-9) or np.all(steps <= 1e-9), "no turn between columns"


def test_edges_that_share_a_gap_have_a_place_each() -> None:
    g = dp.Graph(4, ["y"], backend="numpy")
    g.unit("h")
    g.unit("y")
    for name in ("x1", "x2", "x3", "x4"):
        g.edge(name, "h")
        g.edge(name, "y")
    g.edge("h", "y")
    shape = g.topology
    ways = routes(places(shape), shape.source, shape.target, (0.3, 0.3), 4, share=True)
    passing = sorted(way[4, 1] for way in ways if len(way) == 9)
    assert len(passing) == 4
    assert np.diff(passing).min() > 0.15


def test_units_are_sorted_so_that_fewer_edges_cross() -> None:
    """A ladder that is declared in disorder can be drawn without a crossing."""
    g = dp.Graph(6, [f"y{i}" for i in range(6)], backend="numpy")
    order = [3, 0, 5, 1, 4, 2]
    for layer in "hy":
        for i in order:
            g.unit(f"{layer}{i}")
    for i in range(6):
        g.edge(f"x{i + 1}", f"h{i}")
        g.edge(f"h{i}", f"y{i}")
    shape = g.topology
    y = places(shape)[:, 1]
    np.testing.assert_allclose(y[shape.source], y[shape.target])


def test_more_sweeps_never_make_edges_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go back and forth, and the best of them is kept."""
    for seed in range(20):
        shape = random_graph(25, 40, seed, inputs=4).topology
        lengths = []
        for sweeps in range(13):
            monkeypatch.setattr(layout, "SWEEPS", sweeps)
            y = places(shape)[:, 1]
            lengths.append(np.abs(y[shape.source] - y[shape.target]).sum())
        assert np.all(np.diff(lengths) <= 1e-9)
        assert lengths[-1] < 0.95 * lengths[0]


def test_units_that_tie_stay_as_they_were_declared() -> None:
    shape = dp.MLP([4, 6, 3], backend="numpy").to_graph().topology
    xy = places(shape)
    for level in range(3):
        assert np.all(np.diff(xy[xy[:, 0] == level, 1]) < 0)


def test_labels_keep_off_each_other_and_off_units() -> None:
    across = [np.array([[0.0, 0.0], [4.0, 2.0]]), np.array([[0.0, 2.0], [4.0, 0.0]])]
    sizes = np.full((2, 2), 0.4)
    taken = np.array([[1.8, 0.8, 2.2, 1.2]])
    ways = [
        np.column_stack([np.interp(np.linspace(0, 1, 20), [0, 1], x) for x in way.T])
        for way in across
    ]
    found = spots(ways, sizes, taken, np.ones(2))
    apart = np.abs(found[0] - found[1])
    assert np.any(apart > 0.4)
    assert np.all(np.any(np.abs(found - [2, 1]) >= 0.4, axis=1))


def test_edges_past_a_row_of_units_go_on_both_sides_of_it() -> None:
    g = dp.Graph(1, ["u4"], backend="numpy")
    for i in range(5):
        g.unit(f"u{i}")
        g.edge("x1" if i == 0 else f"u{i - 1}", f"u{i}")
    for source, target in (("x1", "u3"), ("u0", "u4"), ("x1", "u4"), ("u1", "u4")):
        g.edge(source, target)
    shape = g.topology
    ways = routes(places(shape), shape.source, shape.target, (0.3, 0.4), 4, share=True)
    at_3 = [way[way[:, 0] == 3, 1][0] for way in ways if way[0, 0] < 3 < way[-1, 0]]
    assert len(at_3) == 4
    assert sum(y > 0.3 for y in at_3) == 2
    assert sum(y < -0.4 for y in at_3) == 2
    assert np.diff(sorted(at_3)).min() > 0.15
