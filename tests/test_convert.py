"""Graphs from arrays of edges, networkx graphs and layered nets, and back."""

from __future__ import annotations

import sys
from typing import Any

import hypothesis.strategies as st
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings

import deltaprop as dp
from conftest import assert_same_bits, sample

NAMES = ["identity", "tanh", "relu"]


@st.composite
def graphs(draw: Any) -> dp.Graph:
    """Graphs of one to eight units, each fed by one or more units before it."""
    n_in, units = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    mixed = draw(st.booleans())
    names: list[Any] = [i if mixed and i % 2 else f"u{i}" for i in range(n_in + units)]
    sources = [
        draw(st.sets(st.integers(0, n_in + j - 1), min_size=1, max_size=4)) for j in range(units)
    ]
    used = set().union(*sources)
    last = [names[i] for i in range(n_in, n_in + units) if i not in used]
    also = [names[i] for i in range(n_in, n_in + units) if i in used and draw(st.booleans())]
    outputs = draw(st.permutations(last + also[:1]))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    g = dp.Graph(names[:n_in], outputs, dtype=dtype, backend="numba", seed=draw(st.integers(0, 9)))
    for name in names[n_in:]:
        bias = draw(st.none() | st.floats(-2, 2))
        g.unit(name, draw(st.sampled_from(NAMES)), bias)
    for j, before in enumerate(sources):
        for i in sorted(before):
            g.edge(names[i], names[n_in + j], draw(st.none() | st.floats(-2, 2)))
    return g


def data(g: dp.Graph) -> tuple[np.ndarray, np.ndarray]:
    dtype = g.dtype.name
    return sample((5, g.inputs), dtype), sample((5, g.outputs), dtype, seed=1)


def assert_same_graph(got: dp.Graph, wanted: dp.Graph) -> None:
    """Units, edges, parameters and gradients, to the bit."""
    assert (got.dtype, got.inputs, got.outputs) == (wanted.dtype, wanted.inputs, wanted.outputs)
    a, b = got.topology, wanted.topology
    assert (a.names, a.activations) == (b.names, b.activations)
    assert a.named(a.outputs) == b.named(b.outputs)
    assert_same_bits(got.parameters, wanted.parameters, "parameters")
    X, Y = data(wanted)
    gradients = [g.value_and_grad(X, Y)[1] for g in (got, wanted)]
    assert gradients[0].edges == gradients[1].edges
    assert gradients[0].biased == gradients[1].biased
    assert_same_bits(gradients[0].flat, gradients[1].flat, "gradient")


# --------------------------------------------------------------------------------- networkx


@settings(deadline=None, max_examples=60)
@given(graphs())
def test_a_graph_comes_back_from_networkx_to_the_bit(g: dp.Graph) -> None:
    assert_same_graph(dp.Graph.from_networkx(g.to_networkx(), backend="numba"), g)


@settings(deadline=None, max_examples=20)
@given(graphs(), st.randoms(use_true_random=False))
def test_inputs_and_outputs_keep_their_columns_when_nodes_are_shuffled(
    g: dp.Graph, random: Any
) -> None:
    there = g.to_networkx()
    nodes = list(there.nodes(data=True))
    random.shuffle(nodes)
    other = nx.DiGraph(dtype=g.dtype.name)
    other.add_nodes_from(nodes)
    other.add_edges_from(there.edges(data=True))
    back = dp.Graph.from_networkx(other, backend="numba")
    got, wanted = back.blueprint(), g.blueprint()
    assert got.names[: got.inputs] == wanted.names[: wanted.inputs]
    assert got.outputs == wanted.outputs
    X, _ = data(g)
    np.testing.assert_allclose(back.predict(X), g.predict(X), rtol=1e-4, atol=1e-5)


def test_what_the_attributes_of_the_networkx_graph_are() -> None:
    g = dp.Graph(["a"], ["y"], dtype="float64")
    g.unit("h", "tanh", 0.25)
    g.unit("y", "identity", None)
    g.edge("a", "h", 0.1)
    g.edge("h", "y", -2.0)
    there = g.to_networkx()
    assert type(there) is nx.DiGraph
    assert dict(there.nodes(data=True)) == {
        "a": {"role": "input", "column": 0},
        "h": {"role": "hidden", "activation": "tanh", "bias": 0.25},
        "y": {"role": "output", "column": 0, "activation": "identity", "bias": None},
    }
    assert list(there.edges(data="weight")) == [("a", "h", 0.1), ("h", "y", -2.0)]


def test_relabelled_nodes_keep_their_roles() -> None:
    g = dp.Graph(2, ["y2", "y1"])
    for name in ("y1", "y2"):
        g.unit(name)
        g.edge("x1", name, 1.0 if name == "y1" else 2.0)
    g.edge("x2", "y1", 3.0)
    other = nx.relabel_nodes(g.to_networkx(), str.upper)
    back = dp.Graph.from_networkx(other)
    X = sample((3, 2), "float32")
    assert back.topology.named(back.topology.outputs) == ["Y2", "Y1"]
    assert_same_bits(back.predict(X), g.predict(X))


def test_an_activation_of_ones_own_goes_along() -> None:
    own = dp.Activation("cube", lambda z: z * z * z, lambda z: 3 * z * z)
    g = dp.Graph(1, ["y"])
    g.unit("y", own)
    g.edge("x1", "y", 1.5)
    there = g.to_networkx()
    assert there.nodes["y"]["activation"] is own
    assert dp.Graph.from_networkx(there).topology.activations == (own,)


def chain(**attributes: Any) -> nx.DiGraph:
    """x -> h -> y, and x -> y."""
    G = nx.DiGraph([("x", "h"), ("h", "y"), ("x", "y")])
    nx.set_node_attributes(G, attributes)
    return G


def test_without_attributes_there_are_defaults() -> None:
    g = dp.Graph.from_networkx(chain(), seed=3)
    assert g.dtype == np.float32
    assert [a.name for a in g.topology.activations] == ["logistic", "identity"]
    assert (g["h"], g["y"]) == (0.0, 0.0)
    other = dp.Graph.from_networkx(chain(), seed=4)
    assert np.all(g.parameters[:3] != other.parameters[:3])
    assert_same_bits(g.parameters, dp.Graph.from_networkx(chain(), seed=3).parameters)


def test_attributes_are_taken() -> None:
    G = chain(h={"activation": "tanh", "bias": 0.5}, y={"bias": None})
    G.edges["x", "h"]["weight"] = 0.75
    g = dp.Graph.from_networkx(G, dtype="float64", backend="numpy")
    assert (g.dtype, g.backend) == (np.float64, "numpy")
    assert [a.name for a in g.topology.activations] == ["tanh", "identity"]
    assert (g["x", "h"], g["h"]) == (0.75, 0.5)
    with pytest.raises(KeyError):
        g["y"]


def test_who_is_input_and_output() -> None:
    def ends(G: nx.DiGraph, **given: Any) -> tuple[list[Any], list[Any]]:
        graph = dp.Graph.from_networkx(G, **given).topology
        return list(graph.names[: graph.inputs]), graph.named(graph.outputs)

    assert ends(chain()) == (["x"], ["y"])
    assert ends(chain(h={"role": "output"}, y={"role": "output"})) == (["x"], ["h", "y"])
    assert ends(chain(h={"role": "output"}), outputs=["y"]) == (["x"], ["y"])
    assert ends(chain(), inputs=["x"], outputs=["y", "h"]) == (["x"], ["y", "h"])
    columns = chain(h={"role": "output", "column": 1}, y={"role": "output", "column": 0})
    assert ends(columns) == (["x"], ["y", "h"])
    two = nx.DiGraph([(2, 3), (1, 3)])
    assert ends(two) == ([2, 1], [3])
    assert ends(two, inputs=[1, 2]) == ([1, 2], [3])


def test_graphs_that_say_too_little_or_too_much_are_refused() -> None:
    def refused(error: type[Exception], words: str, G: Any, **given: Any) -> None:
        with pytest.raises(error, match=words):
            dp.Graph.from_networkx(G, **given)

    refused(TypeError, r"which way they lead.*DiGraph", nx.Graph([(0, 1)]))
    refused(TypeError, r"multigraph.*networkx\.DiGraph\(G\)", nx.MultiDiGraph([(0, 1)]))
    refused(TypeError, r"wanted a networkx\.DiGraph, got list", [(0, 1)])
    refused(TypeError, r"\(0, 1\).*networkx\.relabel_nodes", nx.DiGraph([((0, 1), 2)]))
    refused(TypeError, r"networkx\.relabel_nodes", nx.DiGraph([(1.5, 2)]))
    refused(ValueError, r"role of node 'h'.*'bias'", chain(h={"role": "bias"}))
    refused(
        ValueError, r"node 'h': unknown activation 'tan'.*'tanh'", chain(h={"activation": "tan"})
    )
    refused(ValueError, "bias of unit 'h' must be finite", chain(h={"bias": float("nan")}))
    refused(dp.GraphError, "no node for output 'z'", chain(), outputs=["z"])
    refused(TypeError, "must list the names", chain(), outputs="y")
    refused(ValueError, "more than once", chain(), outputs=["y", "y"])
    both = {"role": "output", "column": 0}
    refused(ValueError, "same number", chain(h=both, y=both))
    refused(ValueError, "at none", chain(h=both, y={"role": "output"}))
    refused(dp.GraphError, "no node is an input", nx.DiGraph([(0, 1), (1, 0)]))
    refused(dp.GraphError, "cycle: ", nx.DiGraph([(0, 1), (1, 2), (2, 1), (2, 3)]))
    refused(dp.GraphError, "leads into an input", chain(), inputs=["x", "h"])
    alone = chain()
    alone.add_node("z")
    refused(dp.GraphError, "no edge leads to or from 'z': .*inputs=", alone)
    for weight in (float("inf"), "heavy"):
        G = chain()
        G.edges["x", "h"]["weight"] = weight
        refused((ValueError, TypeError), "weight of edge 'x' -> 'h'", G)  # type: ignore[arg-type]


def test_without_networkx_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    g = dp.Graph.from_networkx(chain())
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match=r"pip install 'deltaprop\[graph\]'"):
        g.to_networkx()


# ---------------------------------------------------------------------------------- arrays


@settings(deadline=None, max_examples=40)
@given(graphs())
def test_a_graph_comes_back_from_arrays(g: dp.Graph) -> None:
    """Units by number; those without a bias get 0, which changes no output."""
    b = g.blueprint()
    n_in, number = b.inputs, {name: i for i, name in enumerate(b.names)}
    back = dp.Graph.from_arrays(
        b.source,
        b.target,
        b.weight.astype(g.dtype),
        inputs=n_in,
        outputs=[number[name] for name in b.outputs],
        activation={n_in + i: a for i, a in enumerate(b.activations)},
        bias=[0.0] * n_in + [x or 0.0 for x in b.biases],
        backend="numba",
    )
    assert back.dtype == g.dtype
    X, _ = data(g)
    tight = 1e-5 if g.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(back.predict(X), g.predict(X), rtol=tight, atol=tight)


@pytest.mark.parametrize("wrong", [["a"], [-1]])
def test_inputs_and_outputs_of_arrays_are_numbers_from_0(wrong: list[Any]) -> None:
    wanted = r"must be integers from 0 to 2\^63 - 1, got ('a'|-1)"
    with pytest.raises(ValueError, match=f"outputs {wanted}"):
        dp.Graph.from_arrays([0], [1], inputs=1, outputs=wrong)
    with pytest.raises(ValueError, match=f"inputs {wanted}"):
        dp.Graph.from_arrays([0], [1], inputs=wrong, outputs=[1])


# ----------------------------------------------------------------------------------- layers


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.sampled_from(NAMES),
    st.sampled_from(["identity", "softmax"]),
    st.booleans(),
    st.sampled_from(["float32", "float64"]),
)
def test_a_layered_net_as_a_graph_has_the_same_bits(
    sizes: list[int], activation: str, output: str, bias: bool, dtype: str
) -> None:
    net = dp.MLP(sizes, activation, output, bias=bias, dtype=dtype, seed=1, backend="numba")
    g = net.to_graph()
    X = sample((6, sizes[0]), dtype)
    Y = np.abs(sample((6, sizes[-1]), dtype, seed=1)) + np.asarray(0.1, dtype)
    Y /= Y.sum(axis=1, keepdims=True)
    assert_same_bits(g.predict(X), net.predict(X), "outputs")
    value, gradient = g.value_and_grad(X, Y)
    wanted, layers = net.value_and_grad(X, Y)
    assert value == wanted
    assert_same_bits(gradient.weights, np.concatenate([W.reshape(-1) for W, _ in layers]))
    if bias:
        assert_same_bits(gradient.biases, np.concatenate([b for _, b in layers]))
    there = dp.Graph.from_networkx(g.to_networkx(), backend="numba")
    assert_same_bits(there.value_and_grad(X, Y)[1].flat, gradient.flat)
