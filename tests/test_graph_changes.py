"""A graph that is changed after it has computed: what stays, what goes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits
from graphs import two_paths

X = np.array([[1.0, 2.0], [-0.5, 0.25], [3.0, -1.0]])
Y = np.array([[0.5, 1.0], [0.0, -1.0], [0.25, 2.0]])


def numbers(g: dp.Graph) -> dict:
    """Every parameter by name."""
    return {key: g[key] for key in (*g._parameters.edges, *g._parameters.biased)}


def without(old: dict, *gone: object) -> dict:
    return {key: value for key, value in old.items() if key not in gone}


@pytest.mark.parametrize("computed", [True, False])
def test_an_edge_is_taken_back(backend: str, computed: bool) -> None:
    g = two_paths(backend=backend)
    if computed:
        g.train_step(X, Y)
    old = numbers(two_paths() if not computed else g.to())
    g.remove_edge("h", "y2")
    assert numbers(g) == without(old, ("h", "y2"))
    assert dp.gradcheck(g, X, Y)
    g.edge("h", "y2", 4.0)
    assert numbers(g) == old | {("h", "y2"): 4.0}


@pytest.mark.parametrize("computed", [True, False])
def test_a_unit_is_taken_back_with_its_edges(backend: str, computed: bool) -> None:
    g = two_paths(backend=backend)
    g.unit("k", "tanh", bias=0.25)
    for source, target in (("x1", "k"), ("h", "k"), ("k", "y1")):
        g.edge(source, target)
    if computed:
        g.train_step(X, Y)
        old = numbers(g)
    g.remove_unit("k")
    if computed:
        assert numbers(g) == without(old, ("x1", "k"), ("h", "k"), ("k", "y1"), "k")
    else:
        assert_same_bits(g.to("numpy").parameters, two_paths().parameters)
    assert dp.gradcheck(g, X, Y)


def test_a_unit_in_the_middle_renumbers_those_behind_it() -> None:
    g = two_paths()
    old = numbers(g)
    g.edge("x2", "y1", 1.0)
    g.remove_unit("h")
    left = without(old, ("x1", "h"), ("x2", "h"), ("h", "y1"), ("h", "y2"), "h")
    assert numbers(g) == left | {("x2", "y1"): 1.0}
    assert g.topology.names == ("x1", "x2", "y1", "y2")
    assert [g.name for g in g.topology.activations] == ["tanh", "identity"]
    np.testing.assert_allclose(g.predict(X)[:, 0], np.tanh(X[:, 1]))


def test_an_output_may_be_declared_anew() -> None:
    g = two_paths()
    g.remove_unit("y1")
    with pytest.raises(dp.GraphError, match="there is no unit for output 'y1'"):
        g.predict(X)
    g.unit("y1", "relu")
    g.edge("h", "y1", 0.5)
    assert g.topology.outputs.tolist() == [4, 3]
    assert dp.gradcheck(g, X, Y)


def test_after_a_cycle_the_graph_is_mended() -> None:
    g = two_paths()
    g.train_step(X, Y)
    old = numbers(g)
    g.edge("y2", "h")
    for _ in range(2):
        with pytest.raises(dp.GraphError, match="the graph has a cycle: h -> y2 -> h"):
            g.train_step(X, Y)
    g.remove_edge("y2", "h")
    assert numbers(g) == old


def test_what_cannot_be_removed_changes_nothing() -> None:
    g = two_paths()
    g.train_step(X, Y)
    old = numbers(g)
    for call, error, message in (
        (lambda: g.remove_edge("x1", "y1"), dp.GraphError, "no edge leads from 'x1' to 'y1'"),
        (lambda: g.remove_edge("h", "x1"), dp.GraphError, "no edge leads from 'h' to 'x1'"),
        (lambda: g.remove_edge("h", "y3"), dp.GraphError, r"unknown unit 'y3' \(did you mean 'y"),
        (lambda: g.remove_unit("x1"), dp.GraphError, "'x1' is an input"),
        (lambda: g.remove_unit("hh"), dp.GraphError, r"unknown unit 'hh' \(did you mean 'h'\?\)"),
        (lambda: g.remove_unit(["h"]), TypeError, r"named by a str or an int, got \['h'\]"),
    ):
        with pytest.raises(error, match=message):
            call()
        assert numbers(g) == old


def test_a_trace_of_another_graph() -> None:
    """Even of the same shape; that of a copy is as good as one's own."""
    g, other = two_paths(), two_paths()
    twin = dp.Graph(["x1", "x2"], ["y1", "y2"], dtype="float64", backend="reference")
    for name, activation, bias in (
        ("h", "tanh", 0.5),
        ("y1", "tanh", None),
        ("y2", "identity", -0.25),
    ):
        twin.unit(name, activation, bias=bias)
    for source, target in g._parameters.edges:
        twin.edge(source, target, g[source, target])
    own = g.backward(g.forward(X), Y)
    assert_same_bits(g.backward(other.forward(X), Y).gradients.flat, own.gradients.flat)
    for wrong in (twin.forward(X), dp.GraphTrace(twin.forward(X).z, g.forward(X).a)):
        with pytest.raises(ValueError, match="trace is of another graph"):
            g.backward(wrong, Y)
    trace = g.forward(X)
    g.edge("x2", "y1", 0.0)
    with pytest.raises(ValueError, match="or of this one before it was changed"):
        g.backward(trace, Y)


def test_names_that_only_look_like_a_unit() -> None:
    g = dp.Graph([1], [2], dtype="float64", backend="numpy")
    g.unit(2)
    g.edge(1, 2, 0.5)
    for key, message in (
        ((True, 2), "named by a str or an int, got True"),
        ((1.0, 2), r"named by a str or an int, got 1\.0"),
        (2.0, r"named by a str or an int, got 2\.0"),
        ([1, 2], r"an edge is named by a tuple \(source, target\), got \[1, 2\]"),
        ((1, 2, 3), r"a tuple \(source, target\), got \(1, 2, 3\)"),
        (([1], 2), r"named by a str or an int, got \[1\]"),
        ({}, "named by a str or an int, got {}"),
        (slice(None), "named by a str or an int, got slice"),
    ):
        with pytest.raises(TypeError, match=message):
            g[key]
        with pytest.raises(TypeError, match=message):
            g[key] = 0.25
    assert g[np.int64(1), np.int32(2)] == g[1, 2] == 0.5


def test_numbers_that_the_dtype_cannot_hold() -> None:
    g = two_paths("float32")
    for key in ("h", ("x1", "h")):
        with pytest.raises(ValueError, match=r"must be finite in float32, got 1e\+39"):
            g[key] = 1e39
    assert (g["h"], g["x1", "h"]) == (0.5, 0.5)
    g["h"] = np.finfo("float32").max
    g.edge("x2", "y1", -1e39)
    with pytest.raises(dp.GraphError, match=r"float32 cannot hold .* 'x2' -> 'y1', -1e\+39"):
        g.predict(X.astype("float32"))
    g.remove_edge("x2", "y1")
    assert g["h"] == np.finfo("float32").max


def test_a_hint_keeps_the_case_of_the_name() -> None:
    g = dp.Graph(["x"], ["HH1"])
    g.unit("HH1")
    for wrong in ("HH2", "hh1", "Hh12"):
        with pytest.raises(dp.GraphError, match=r"did you mean 'HH1'\?"):
            g.edge("x", wrong)


def test_units_of_any_number() -> None:
    """Their numbers name them and cost nothing."""
    far = 2**63 - 1
    g = dp.Graph.from_arrays(
        [3, 10**12, 3], [10**12, far, far], [0.5, 2.0, -1.0], inputs=[3], outputs=[far], bias=None
    )
    assert numbers(g) == {(3, 10**12): 0.5, (10**12, far): 2.0, (3, far): -1.0}
    assert g._parameters.biased == []
    sparse = dp.Graph.from_arrays(
        [90, 7], [7, 40], [1.0, 2.0], inputs=[90], outputs=[40], bias=np.arange(91.0)
    )
    assert numbers(sparse) == {(90, 7): 1.0, (7, 40): 2.0, 7: 7.0, 40: 40.0}
    for edge, outputs in ((2**63, [1]), (0, [2**63])):
        with pytest.raises(ValueError, match=r"from 0 to 2\^63 - 1"):
            dp.Graph.from_arrays(np.array([edge], np.uint64), [1], inputs=[0], outputs=outputs)
