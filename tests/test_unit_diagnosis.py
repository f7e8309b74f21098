"""check_backprop on graphs: what is right, what nothing explains, and what it cannot read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import deltaprop as dp
from by_hand import positive
from conftest import sample
from graphs import random_graphs, two_paths
from units_by_hand import biased, edges, fork, gradients, leading_on, name, outputs

ALL_RIGHT = "every gradient is right, to within rounding"

# ----------------------------------------------------------------------------------- right


@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "gelu", "softplus", "identity"])
@pytest.mark.parametrize("loss", dp.LOSSES)
def test_a_right_gradient_is_right(activation, loss, dtype):
    g, batch = fork(activation, loss, dtype, ways=3)
    for w in (None, positive(7, dtype)):
        result = dp.check_backprop(gradients(g, *batch, w), g, *batch, w)
        assert result, str(result)
        assert result.summary == ALL_RIGHT
    if loss != "cross_entropy":
        g, batch = leading_on(loss, dtype)
        assert dp.check_backprop(gradients(g, *batch), g, *batch)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random_graphs(units=30))
@pytest.mark.filterwarnings("ignore:no output is reached")
def test_right_gradients_of_random_graphs_are_right(case):
    g, batch = case
    result = dp.check_backprop(g.value_and_grad(*batch)[1], g, *batch)
    assert result, str(result)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random_graphs(units=12))
@pytest.mark.filterwarnings("ignore:no output is reached")
def test_garbage_is_not_explained_in_random_graphs(case):
    g, batch = case
    garbage = sample(len(g.parameters), str(g.dtype), 1)
    assert_unexplained(dp.check_backprop(garbage, g, *batch))


def target(key: Any) -> str:
    """The unit that an edge leads to, or whose bias it is."""
    return key[1] if isinstance(key, tuple) else key


def assert_unexplained(result: Any) -> None:
    assert not result
    assert [v.mistake for v in result.verdicts.values() if v.mistake] == [], str(result)
    assert "no classic mistake explains" in result.summary


# -------------------------------------------------------------------------- what is explained not


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("loss", dp.LOSSES)
def test_garbage_is_not_explained(seed, loss, dtype):
    g, batch = fork("tanh", loss, dtype, ways=3, m=5)
    assert_unexplained(dp.check_backprop(sample(len(g.parameters), dtype, seed), g, *batch))
    right = g.value_and_grad(*batch)[1].flat
    assert_unexplained(dp.check_backprop(right * g.dtype.type(1.2345), g, *batch))


@pytest.mark.parametrize("key", [("x1", "k"), ("k", "h"), ("h", "y1"), "h", "y1"])
@pytest.mark.parametrize("relative", [1e-6, 0.1])
def test_a_small_error_is_not_explained(key, relative):
    g, batch = fork("tanh", "half_mse")
    mine = gradients(g, *batch)
    mine[key] = mine[key] * (1 + relative)
    result = dp.check_backprop(mine, g, *batch)
    assert [n for n, v in result.verdicts.items() if not v.right] == [name(key)]
    assert_unexplained(result)
    assert f"of {target(key)} only {name(key)} is wrong" in result.summary


@pytest.mark.parametrize("relative", [1e-9, 1e-3])
def test_a_forgotten_path_with_an_error_beside_it_is_not_explained(relative):
    g, batch = fork("tanh", "half_mse")
    mine = gradients(g, *batch, left_out=[("h", "y2")])
    assert_unexplained(
        dp.check_backprop({k: x * (1 + relative * (k != "y1")) for k, x in mine.items()}, g, *batch)
    )


def test_a_mistake_that_a_right_gradient_contradicts_is_not_offered():
    g, batch = fork("tanh", "half_mse")
    mine = gradients(g, *batch, left_out=[("h", "y2")])
    assert_unexplained(dp.check_backprop(mine | {"h": gradients(g, *batch)["h"]}, g, *batch))


def test_where_the_error_begins_is_said():
    g, batch = fork("tanh", "half_mse")
    mine = gradients(g, *batch)
    for key in mine:
        if target(key) in ("h", "k"):
            mine[key] = mine[key] + 0.1234
    result = dp.check_backprop(mine, g, *batch)
    assert_unexplained(result)
    assert result.summary.endswith(
        "every gradient of the units h leads to is right: look at delta of h, "
        "delta_h = (w(h->y1) delta_y1 + w(h->y2) delta_y2) * g'(z_h)"
    )
    assert "look at delta of k" not in result.summary
    worst = result.verdicts["k -> h"].worst
    assert worst == f"it is {mine['k', 'h']:.6g}, right is {mine['k', 'h'] - 0.1234:.6g}"
    assert f"not explained, {worst}" in str(result)


def test_at_an_output_the_forward_sweep_and_the_loss_are_to_look_at():
    g, batch = fork("tanh", "half_mse")
    right = gradients(g, *batch)
    mine = {k: x * (1.5 if target(k) == "y1" else 1) for k, x in right.items()}
    summary = dp.check_backprop(mine, g, *batch).summary
    assert "the error begins at y1: look at the forward sweep, the loss and delta_y1" in summary


def test_a_lone_number_that_agrees_by_chance_is_not_explained():
    """One number of float16 agrees with something out of thousands of things."""
    g, batch = fork("tanh", "half_mse")
    mine = {k: np.float16(x) for k, x in gradients(g, *batch).items()}
    assert dp.check_backprop(mine, g, *batch)
    mine["k", "h"] = mine["k", "h"] * np.float16(2)
    assert dp.check_backprop(mine, g, *batch).verdicts["k -> h"].mistake == ""
    exact = gradients(g, *batch)
    exact["k", "h"] = exact["k", "h"] * 2
    assert "doubled" in dp.check_backprop(exact, g, *batch).verdicts["k -> h"].mistake


# ---------------------------------------------------------------------------------- many units


def test_among_many_units_the_mistake_is_found_where_the_error_begins():
    g = dp.Graph(["x"], ["y"], dtype="float64", backend="reference", seed=3)
    g.unit("y", "tanh")
    for layer in range(12):
        for i in range(20):
            g.unit(f"h{layer}.{i}", "tanh", bias=0.1)
            before = [f"h{layer - 1}.{k}" for k in (i, (i + 1) % 20)] if layer else ["x"]
            for unit in before:
                g.edge(unit, f"h{layer}.{i}")
    for i in range(20):
        g.edge(f"h11.{i}", "y")
    batch = sample((4, 1), "float64", 1), sample((4, 1), "float64", 2), "half_mse"
    assert dp.check_backprop(g.value_and_grad(*batch)[1], g, *batch)
    mine = gradients(g, *batch, left_out=[("h5.7", "h6.7")])
    result = dp.check_backprop(mine, g, *batch)
    assert result.summary.startswith("delta of h5.7 leaves out the path through h6.7: ")
    assert all(verdict.right or verdict.mistake for verdict in result.verdicts.values())


# ------------------------------------------------------------------------------------- formats

G = two_paths()
BATCH = sample((5, 2), "float64", 1), sample((5, 2), "float64", 2), "half_mse"
RIGHT = gradients(G, *BATCH)

FORMATS = {
    "UnitParameters": lambda g: g,
    "by edge and unit": lambda g: {key: g[key] for key in RIGHT},
    "arrows": lambda g: {f"{k[0]} -> {k[1]}" if k in edges(G) else k: g[k] for k in RIGHT},
    "tight arrows": lambda g: {f"{k[0]}->{k[1]}" if k in edges(G) else k: g[k] for k in RIGHT},
    "names of verdicts": lambda g: {name(k): g[k] for k in RIGHT},
    "arrays of one": lambda g: {k: np.full((1, 1), g[k], g.flat.dtype) for k in RIGHT},
    "another order": lambda g: {k: g[k] for k in reversed(RIGHT)},
    "vector": lambda g: g.flat,
    "list": lambda g: g.flat.tolist(),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("backend_dtype", ["float32", "float64"])
def test_every_format_is_read(form, backend_dtype):
    g = two_paths(backend_dtype)
    batch = *(x.astype(backend_dtype) for x in BATCH[:2]), BATCH[2]
    _, mine = g.value_and_grad(*batch)
    assert dp.check_backprop(FORMATS[form](mine), g, *batch)
    mine["x2", "h"] *= 1.5
    result = dp.check_backprop(FORMATS[form](mine), g, *batch)
    assert [n for n, verdict in result.verdicts.items() if not verdict.right] == ["x2 -> h"]


@pytest.mark.parametrize("backend", ["reference", "numpy"])
def test_what_backward_returns_is_read(backend):
    g = two_paths("float32", backend)
    X, Y = (x.astype("float32") for x in BATCH[:2])
    back = g.backward(g.forward(X), Y, "half_mse")
    assert dp.check_backprop(back, g, X, Y, "half_mse")
    assert dp.check_backprop(back.gradients, g, X, Y, "half_mse")
    labels = dp.Graph(["x"], ["p", "q"], backend=backend)
    for unit in ("p", "q"):
        labels.unit(unit, "softmax")
        labels.edge("x", unit)
    X, y = sample((4, 1), "float32"), np.array([0, 1, 1, 0])
    assert dp.check_backprop(labels.value_and_grad(X, y)[1], labels, X, y)


def test_names_may_be_numbers_and_hold_spaces():
    g = dp.Graph([1, 2], ["out put"], dtype="float64", backend="reference")
    g.unit("out put", "tanh", bias=0.5)
    g.edge(1, "out put", 0.5)
    g.edge(2, "out put", -0.5)
    _, mine = g.value_and_grad(BATCH[0], BATCH[1][:, :1])
    named = {(1, "out put"): mine[1, "out put"], "2 -> out put": mine[2, "out put"]}
    result = dp.check_backprop(named | {"out put": mine["out put"]}, g, BATCH[0], BATCH[1][:, :1])
    assert list(result.verdicts) == ["1 -> out put", "2 -> out put", "bias of out put"]
    assert result


WITHOUT = {k: x for k, x in RIGHT.items() if k != ("h", "y2")}
REFUSED = [
    (WITHOUT, ValueError, "the gradients lack h -> y2"),
    ({}, ValueError, "the gradients lack x1 -> h, x2 -> h, .*bias of y2"),
    ({**RIGHT, "hh": 1.0}, ValueError, r"unknown unit 'hh' \(did you mean 'h'\?\)"),
    ({**RIGHT, ("x1", "y3"): 1.0}, ValueError, r"unknown unit 'y3' \(did you mean 'y\d'\?\)"),
    ({**RIGHT, ("x2", "y2"): 1.0}, ValueError, "no edge leads from 'x2' to 'y2'; to 'y2' lead"),
    ({**RIGHT, "x2 -> y2": 1.0}, ValueError, "no edge leads from 'x2' to 'y2'"),
    ({**RIGHT, "y1": 1.0}, ValueError, "unit 'y1' has no bias"),
    ({**RIGHT, "x1 -> h": 1.0}, ValueError, "the gradient of x1 -> h is given twice"),
    ({**RIGHT, 1.5: 1.0}, TypeError, "weight must be an edge"),
    ({**RIGHT, "h": [1.0, 2.0]}, ValueError, r"of bias of h is one number, got \(2,\)"),
    ({**RIGHT, "h": np.nan}, ValueError, r"bias of h.* is nan"),
    ({**RIGHT, "h": 1j}, TypeError, "bias of h must hold real numbers"),
    ({**RIGHT, "h": None}, TypeError, "bias of h must hold real numbers"),
    (np.zeros(6), ValueError, "has 6 numbers, but the net has 7"),
    (np.full(7, np.inf), ValueError, r"\[0\] is inf"),
    (np.zeros((7, 1)), TypeError, r"got an array of shape \(7, 1\)"),
    (None, TypeError, "got NoneType"),
    (fork("tanh", "mse")[0].value_and_grad(*BATCH)[1], ValueError, "those of another graph"),
]


@pytest.mark.parametrize(("mine", "error", "message"), REFUSED)
def test_what_cannot_be_understood_is_refused(mine, error, message):
    with pytest.raises(error, match=message):
        dp.check_backprop(mine, G, *BATCH)


def test_inputs_are_those_of_value_and_grad():
    with pytest.raises(TypeError, match=r"X must be an array of .*, got list"):
        dp.check_backprop(RIGHT, G, BATCH[0].tolist(), BATCH[1])
    with pytest.raises(ValueError, match=r"Y must have shape \(5, 2\)"):
        dp.check_backprop(RIGHT, G, BATCH[0], BATCH[1][:, :1])


def test_a_right_gradient_that_overflows_is_refused():
    g = dp.Graph(["x"], ["y"], dtype="float64", backend="reference")
    g.unit("y", "identity", bias=None)
    g.edge("x", "y", 1e300)
    with pytest.raises(ValueError, match="the right gradient of x -> y is not finite"):
        dp.check_backprop([1.0], g, np.full((2, 1), 1e100), np.zeros((2, 1)))


def test_nothing_given_is_written_to():
    before, mine = G.parameters.copy(), gradients(G, *BATCH, left_out=[("h", "y1")])
    copies = dict(mine)
    dp.check_backprop(mine, G, *BATCH)
    np.testing.assert_array_equal(G.parameters, before)
    assert mine == copies


# -------------------------------------------------------------------------------------- words


def test_the_result_reads_as_a_table_and_a_summary():
    mine = gradients(G, *BATCH, left_out=[("h", "y2")])
    result = dp.check_backprop(mine, G, *BATCH)
    assert repr(result) == str(result), "what a notebook shows"
    assert str(result).splitlines() == [
        "x1 -> h    WRONG  delta of h leaves out the path through y2",
        "x2 -> h    WRONG  delta of h leaves out the path through y2",
        "h -> y1    right",
        "x1 -> y2   right",
        "h -> y2    right",
        "bias of h  WRONG  delta of h leaves out the path through y2",
        "bias of y2 right",
        "delta of h leaves out the path through y2: "
        "delta_h = (w(h->y1) delta_y1 + w(h->y2) delta_y2) * g'(z_h)",
    ]


HINTS = [
    ("half_mse", {"no_slope": ["k"]}, "delta_k = w(k->h) delta_h * g'(z_k)"),
    ("half_mse", {"no_slope": ["y1"]}, "delta_y1 = dE/da_y1 * g'(z_y1)"),
    ("half_mse", {"no_slope": ["k", "h"]}, "delta_j = dE/da_j * g'(z_j)"),
    ("mse", {"factor": 7}, "mse has dE/da_k = 2/(m n_out) (a_k - y)"),
    ("cross_entropy", {"factor": 7}, "cross_entropy has delta_k = 1/m (a_k - y)"),
    ("half_mse", {"no_bias": True}, "z_j = sum of w(i->j) a_i + b_j"),
]


@pytest.mark.parametrize(("loss", "slip", "hint"), HINTS)
def test_the_hint_is_the_equation_of_that_unit(loss, slip, hint):
    g, batch = fork("logistic", loss)
    assert hint in dp.check_backprop(gradients(g, *batch, **slip), g, *batch).summary


def test_of_many_paths_a_few_are_written_out():
    g, batch = fork("tanh", "half_mse", ways=7)
    summary = dp.check_backprop(gradients(g, *batch, left_out=[("h", "y2")]), g, *batch).summary
    assert "+ w(h->y4) delta_y4 + 3 more) * g'(z_h)" in summary


def test_what_the_samples_cannot_tell_is_noted():
    g, batch = fork("tanh", "half_mse", m=1)
    assert dp.check_backprop(gradients(g, *batch), g, *batch).notes == (
        "there is one sample: a missing 1/m cannot be seen",
    )
    X = batch[0]
    (note,) = dp.check_backprop(
        np.zeros(len(g.parameters)), g, np.repeat(X, 2, 0), g.predict(np.repeat(X, 2, 0))
    ).notes
    assert note.startswith("x1 -> k, x2 -> k, ")
    assert note.endswith("are 0 to within rounding: most mistakes cannot be seen there")
    assert len(biased(g)) + len(edges(g)) == len(g.parameters) and len(outputs(g)) == 2
