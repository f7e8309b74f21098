"""Graphs of units: the equations by hand, how they are built, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from graphs import two_paths

X = np.array([[1.0, 2.0], [-0.5, 0.25], [3.0, -1.0]])
Y = np.array([[0.5, 1.0], [0.0, -1.0], [0.25, 2.0]])


def near(got: object, wanted: object) -> None:
    np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-15)


# ------------------------------------------------------------------------- the equations


def test_every_quantity_of_the_two_path_graph(backend: str) -> None:
    """Forward, delta summed over both paths, and every derivative, as worked on paper."""
    g = two_paths(backend=backend)
    x1, x2, y1, y2 = *X.T, *Y.T
    z_h = 0.5 * x1 - 1.5 * x2 + 0.5
    a_h = 1 / (1 + np.exp(-z_h))
    z_1 = 0.75 * a_h
    z_2 = -2.0 * a_h + 0.125 * x1 - 0.25
    a_1 = np.tanh(z_1)
    d_1 = (a_1 - y1) / 3 * (1 - a_1**2)
    d_2 = (z_2 - y2) / 3
    d_h = (0.75 * d_1 - 2.0 * d_2) * a_h * (1 - a_h)

    trace = g.forward(X)
    near(trace.a["x2"], x2)
    for name, z, a in (("h", z_h, a_h), ("y1", z_1, a_1), ("y2", z_2, z_2)):
        near(trace.z[name], z)
        near(trace.a[name], a)
    back = g.backward(trace, Y)
    for name, delta, slope in (
        ("h", d_h, a_h * (1 - a_h)),
        ("y1", d_1, 1 - a_1**2),
        ("y2", d_2, np.ones(3)),
    ):
        near(back.delta[name], delta)
        near(back.slope[name], slope)
    wanted = {
        ("x1", "h"): sum(d_h * x1),
        ("x2", "h"): sum(d_h * x2),
        ("h", "y1"): sum(d_1 * a_h),
        ("h", "y2"): sum(d_2 * a_h),
        ("x1", "y2"): sum(d_2 * x1),
        "h": sum(d_h),
        "y2": sum(d_2),
    }
    error, gradients = g.value_and_grad(X, Y)
    near(error, sum((a_1 - y1) ** 2 + (z_2 - y2) ** 2) / 6)
    assert set(gradients.edges) | set(gradients.biased) == set(wanted)
    for key, value in wanted.items():
        near(gradients[key], value)
        near(back.gradients[key], value)
    near(back.input_gradient, np.stack([0.5 * d_h + 0.125 * d_2, -1.5 * d_h], axis=1))
    near(g.predict(X), np.stack([a_1, z_2], axis=1))
    near(g.loss(X, Y), error)


def test_an_output_that_leads_on(backend: str) -> None:
    """Has its own error and that of the unit behind it: delta = own + w delta' g'."""
    g = dp.Graph(["x"], ["p", "q"], dtype="float64", backend=backend)
    g.unit("p", "tanh", bias=None)
    g.unit("q", "identity", bias=None)
    g.edge("x", "p", 0.5)
    g.edge("p", "q", -3.0)
    x, t = np.array([[0.8]]), np.array([[0.1, -2.0]])
    p = np.tanh(0.4)
    q = -3 * p
    d_q = q + 2.0
    d_p = (p - 0.1) * (1 - p**2) + -3 * d_q * (1 - p**2)
    back = g.backward(g.forward(x), t, "half_sse")
    near(back.delta["q"], [d_q])
    near(back.delta["p"], [d_p])
    near(back.gradients["x", "p"], d_p * 0.8)


def test_outputs_of_several_levels_share_a_softmax(backend: str) -> None:
    g = dp.Graph(["x"], ["a", "b"], dtype="float64", backend=backend)
    g.unit("h", "identity", bias=None)
    g.unit("b", "softmax", bias=None)
    g.unit("a", "softmax", bias=None)
    g.edge("x", "b", 2.0)
    g.edge("x", "h", 1.0)
    g.edge("h", "a", 1.0)
    p = np.exp([0.5, 1.0]) / np.exp([0.5, 1.0]).sum()
    near(g.predict(np.array([[0.5]])), [p])
    trace = g.forward(np.array([[0.5]]))
    near([trace.a["a"][0], trace.a["b"][0], trace.z["b"][0]], [*p, 1.0])
    back = g.backward(trace, np.array([0]))
    near([back.delta["a"][0], back.delta["b"][0]], p - [1, 0])


def test_a_deep_graph(backend: str) -> None:
    """A chain of 400 units: no recursion, and the product of 401 weights."""
    n = 400
    g = dp.Graph.from_arrays(
        np.arange(n),
        np.arange(1, n + 1),
        np.full(n, 1.0 + 2.0**-10),
        inputs=1,
        outputs=[n],
        activation="identity",
        bias=None,
        backend=backend,
    )
    near(g.predict(np.array([[1.0]])), [[(1 + 2.0**-10) ** n]])


# ------------------------------------------------------------------------------- building


def test_parameters_by_name(backend: str) -> None:
    g = two_paths(backend=backend)
    assert (g["x2", "h"], g["h"], g["y2"]) == (-1.5, 0.5, -0.25)
    g["x2", "h"] = 0.0625
    g["h"] = 3
    assert (g["x2", "h"], g["h"]) == (0.0625, 3.0)
    assert sorted(np.asarray(g.kernels.arrays.to_numpy(g.parameters))) == sorted(
        [0.5, 0.0625, 0.75, -2.0, 0.125, 3.0, -0.25]
    )


def test_units_may_be_added_later(backend: str) -> None:
    """What was learned stays; the new edge is there."""
    g = two_paths(backend=backend)
    g.train_step(X, Y, learning_rate=0.5)
    learned = {key: g[key] for key in [("x1", "h"), ("h", "y1"), "h", "y2"]}
    g.unit("k", "tanh")
    g.edge("x2", "k", 0.5)
    g.edge("k", "y2", 0.25)
    assert {key: g[key] for key in learned} == learned
    assert (g["k", "y2"], g["k"]) == (0.25, 0.0)
    assert dp.gradcheck(g, X, Y)


def test_the_order_of_declaration_of_edges_changes_no_bit(exact: str) -> None:
    other = dp.Graph(["x1", "x2"], ["y1", "y2"], dtype="float32", backend=exact)
    for name, g, bias in (("h", "logistic", 0.5), ("y1", "tanh", None), ("y2", "identity", -0.25)):
        other.unit(name, g, bias=bias)
    edges = two_paths("float32", "reference")._parameters
    for (source, target), w in reversed(list(zip(edges.edges, edges.weights))):
        other.edge(source, target, w)
    x, y = X.astype("float32"), Y.astype("float32")
    wanted = two_paths("float32", exact).value_and_grad(x, y)[1].flat
    assert_same_bits(other.value_and_grad(x, y)[1].flat, wanted)


def test_drawn_weights() -> None:
    """Uniform within Glorot's limit for the fans of both ends; the same for a seed."""

    def drawn(seed: int) -> dp.Graph:
        g = dp.Graph(3, ["y"], seed=seed)
        for j in range(50):
            g.unit(j, "tanh")
            for i in (1, 2, 3):
                g.edge(f"x{i}", j)
        g.unit("y", "identity")
        for j in range(50):
            g.edge(j, "y")
        return g

    g = drawn(1)
    w = {edge: g[edge] for edge in g._parameters.edges}
    first = [abs(v) for (source, _), v in w.items() if source in ("x1", "x2", "x3")]
    last = [abs(v) for (_, target), v in w.items() if target == "y"]
    for values, fans in ((first, 53), (last, 51)):
        limit = np.sqrt(6 / fans)
        assert 0.9 * limit < max(values) <= limit
    assert_same_bits(drawn(1).parameters, g.parameters)
    assert not np.array_equal(drawn(2).parameters, g.parameters)


def test_from_arrays() -> None:
    g = dp.Graph.from_arrays(
        [0, 1, 2, 1, 5],
        [2, 2, 5, 5, 7],
        [0.5, -1.0, 2.0, 0.25, 1.0],
        inputs=2,
        outputs=[7, 5],
        activation={2: "tanh"},
        bias=np.arange(8) / 8,
        dtype="float64",
    )
    assert g._parameters.biased == [2, 5, 7]
    assert [g[2], g[5], g[7]] == [2 / 8, 5 / 8, 7 / 8]
    a = np.tanh(0.5 * 0.3 - 0.7 + 0.25)
    five = 2 * a + 0.25 * 0.7 + 5 / 8
    near(g.predict(np.array([[0.3, 0.7]])), [[five + 7 / 8, five]])


def test_copies_are_apart(backend: str) -> None:
    g = two_paths(backend=backend)
    other = g.to("numpy", "float32")
    assert (other.backend, other.dtype, g.dtype) == ("numpy", np.float32, np.float64)
    other["h"] = 9
    other.unit("more")
    assert g["h"] == 0.5
    with pytest.raises(KeyError):
        g["more"]


def test_training_reaches_the_function(backend: str) -> None:
    """XOR with a skip connection."""
    x = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = np.array([[0.0], [1], [1], [0]])
    g = dp.Graph(["x1", "x2"], ["y"], dtype="float64", backend=backend, seed=3)
    g.unit("h", "tanh")
    g.unit("y", "logistic")
    for source, target in (("x1", "h"), ("x2", "h"), ("h", "y"), ("x1", "y"), ("x2", "y")):
        g.edge(source, target)
    history = g.fit(x, y, "binary_cross_entropy", epochs=600, batch_size=4, learning_rate=1.0)
    assert history.loss[-1] < 0.05
    assert_same_bits(np.rint(g.predict(x)), y)


# -------------------------------------------------------------------------------- refusals


def graph(*edges: str, outputs: str = "y", units: str = "") -> dp.Graph:
    """Units named by letters, edges such as "xh"; x is the input."""
    g = dp.Graph(["x"], list(outputs))
    for name in dict.fromkeys("".join(edges) + outputs + units):
        if name != "x":
            g.unit(name)
    for source, target in edges:
        g.edge(source, target, 1.0)
    return g


@pytest.mark.parametrize(
    ("edges", "options", "message"),
    [
        (["xa", "ab", "bc", "ca", "cy"], {}, "the graph has a cycle: a -> b -> c -> a"),
        (["xy", "yy"], {}, "the graph has a cycle: y -> y"),
        (["xy"], {"units": "h"}, "no input reaches unit 'h'"),
        (["xy", "hy", "kh"], {}, "no input reaches unit 'h', 'k'"),
        (["xy"], {"outputs": "yz"}, "no path leads from an input to output 'z'"),
    ],
)
def test_a_graph_without_a_sweep(edges: list[str], options: dict, message: str) -> None:
    g = graph(*edges, **options)
    with pytest.raises(dp.GraphError, match=f"^{message}$"):
        g.predict(np.ones((1, 1), np.float32))


def test_units_that_lead_nowhere(backend: str) -> None:
    """Are told of, and have a gradient of 0."""
    g = graph("xh", "hk", "xy", "xd")
    x = np.ones((3, 1), np.float32)
    with pytest.warns(UserWarning, match="no output is reached from unit 'h', 'k', 'd': .* is 0"):
        g.predict(x)
    g = g.to(backend)
    _, gradients = g.value_and_grad(x, x)
    for key in (("x", "h"), ("h", "k"), ("x", "d"), "h", "k", "d"):
        assert gradients[key] == 0
    assert gradients["x", "y"] != 0


def test_a_long_cycle_is_shortened() -> None:
    n = 1000
    with pytest.raises(
        dp.GraphError, match=r"^the graph has a cycle: \d+ -> .* 989 more \.\.\. -> "
    ):
        dp.Graph.from_arrays(
            [0, *range(1, n + 1), n], [1, *range(2, n + 1), 1, n + 1], inputs=1, outputs=[n + 1]
        )


def test_edges_that_cannot_be() -> None:
    g = graph("xh", "hy")
    for ends, message in (
        (("x", "h"), "an edge is there twice: 'x' -> 'h'"),
        (("h", "x"), "an edge leads into an input: 'h' -> 'x'"),
        (("h", "hh"), r"unknown unit 'hh' \(did you mean 'h'\?\)"),
        (("nobody", "y"), "unknown unit 'nobody'"),
    ):
        with pytest.raises(dp.GraphError, match=message):
            g.edge(*ends, 1.0)
    assert len(g._parameters.edges) == 2
    with pytest.raises(dp.GraphError, match="an edge is there twice: 'x' -> 'h'"):
        g.edge("x", "h")  # now that the graph has been put in order


def test_units_that_cannot_be() -> None:
    g = graph("xh", "hy")
    for name, message in (("h", "a unit named 'h' already"), ("x", "an input named 'x' already")):
        with pytest.raises(dp.GraphError, match=message):
            g.unit(name)
    with pytest.raises(TypeError, match=r"named by a str or an int, got 1\.5"):
        g.unit(1.5)
    with pytest.raises(TypeError, match="named by a str or an int, got True"):
        g.unit(True)
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        g.unit("k", "tan")
    with pytest.raises(ValueError, match="bias of unit 'k' must be finite, got nan"):
        g.unit("k", bias=float("nan"))
    with pytest.raises(TypeError, match="weight of edge 'x' -> 'y' must be a number, got '1'"):
        g.edge("x", "y", "1")
    assert dp.crosscheck(g, np.ones((2, 1), "f"), np.ones((2, 1), "f"), backends="numba")


def test_inputs_and_outputs_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="inputs names 'a' more than once"):
        dp.Graph(["a", "a"], ["y"])
    with pytest.raises(TypeError, match="outputs must list the names of units, got 'y'"):
        dp.Graph(["a"], "y")
    with pytest.raises(ValueError, match="outputs must name at least one unit"):
        dp.Graph(["a"], [])
    with pytest.raises(dp.GraphError, match="an input cannot be an output as well: 'x'"):
        graph("xy", outputs="yx").predict(np.ones((1, 1), "f"))
    g = dp.Graph(["x"], ["y", "z"])
    g.unit("y")
    g.edge("x", "y")
    with pytest.raises(dp.GraphError, match="there is no unit for output 'z'"):
        g.predict(np.ones((1, 1), "f"))


def test_softmax_is_for_all_outputs() -> None:
    for edges, softmax, message in (
        (["xy", "xz"], "y", "'softmax' is for all outputs or none; 'z' have another"),
        (["xh", "hy", "xz"], "h", "'softmax' is for outputs; got it for 'h'"),
        (["xy", "yz"], "yz", "edges lead on from 'y', whose activation 'softmax'"),
    ):
        g = dp.Graph(["x"], ["y", "z"])
        for name in dict.fromkeys("".join(edges)):
            if name != "x":
                g.unit(name, "softmax" if name in softmax else "tanh")
        for source, target in edges:
            g.edge(source, target)
        with pytest.raises(dp.GraphError, match=message):
            g.predict(np.ones((1, 1), "f"))


def test_a_loss_that_does_not_go_with_an_output() -> None:
    with pytest.raises(ValueError, match="goes with output='logistic', but this net has"):
        two_paths().loss(X, Y, "binary_cross_entropy")


def test_arrays_that_cannot_be() -> None:
    given = {"inputs": 1, "outputs": [1]}
    for source, target, options, error, message in (
        ([0.0], [1], {}, TypeError, "source must be a list of integers"),
        ([0], [1, 2], {}, ValueError, "one length, got 1 and 2"),
        ([-1], [1], {}, ValueError, r"source must be from 0 to 2\^63 - 1, got -1"),
        ([0, 0], [1, 1], {}, dp.GraphError, "an edge is there twice: 0 -> 1"),
        ([0, 1], [1, 0], {}, dp.GraphError, "an edge leads into an input: 1 -> 0"),
        ([0], [1], {"weight": [1.0, 2.0]}, ValueError, r"weight must have shape \(1,\)"),
        ([0], [1], {"weight": [np.nan]}, ValueError, "weight must be finite"),
        ([0], [1], {"bias": [1.0]}, ValueError, "bias must be one number, or one for each unit"),
        ([0], [1], {"activation": {5: "tanh"}}, ValueError, r"units that are not there: \[5\]"),
    ):
        with pytest.raises(error, match=message):
            dp.Graph.from_arrays(source, target, **{**given, **options})


def test_names_that_are_not_there() -> None:
    g = two_paths()
    trace = g.forward(X)
    for key, message in (
        (("x1", "y1"), "no edge leads from 'x1' to 'y1'"),
        ("y1", "unit 'y1' has no bias"),
        (("x1", "yy1"), "unknown unit 'yy1' .did you mean 'y1'"),
        ("x1", "unit 'x1' has no bias"),
    ):
        with pytest.raises(KeyError, match=message):
            g[key]
    with pytest.raises(KeyError, match="'x1' is an input"):
        trace.z["x1"]
    assert list(trace.a) == ["x1", "x2", "h", "y1", "y2"] or set(trace.a) == set(["x1", "x2"])
    with pytest.raises(TypeError, match="trace must be what forward returned, got dict"):
        g.backward({}, Y)
    with pytest.raises(ValueError, match=r"X must have shape \(m, 2\), got \(3, 3\)"):
        g.predict(sample((3, 3), "float64"))
