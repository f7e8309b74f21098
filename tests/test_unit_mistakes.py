"""check_backprop on graphs of units names the mistake that was made, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import deltaprop as dp
from by_hand import IN_A, positive
from conftest import sample
from graphs import two_paths
from tasks import targets
from units_by_hand import Gradients, edges, fork, gradients, leading_on, name, outputs

SQUARED = ("half_sse", "half_mse", "mse")
SMOOTH = ("logistic", "tanh", "elu", "softplus", "gelu", "silu")


def changes(mine: Gradients, right: Gradients) -> dict[str, float]:
    """How far each gradient is from the right one, relative to it."""
    off = {name(key): abs(x - right[key]) for key, x in mine.items()}
    return {name(key): float(off[name(key)] / abs(x)) if x else 0.0 for key, x in right.items()}


def changed(mine: Gradients, right: Gradients) -> set[str]:
    """The parameters whose gradients are not the same, far beyond rounding."""
    return {parameter for parameter, off in changes(mine, right).items() if off > 1e-9}


def assert_named(text: str, mine: Gradients, g: dp.Graph, batch: Any, w: Any = None) -> None:
    """Where a gradient is wrong, the text is said; elsewhere it is right.

    In float32 that is left open where a mistake changes little.
    """
    right = gradients(g, *batch, w)
    wrong, off = changed(mine, right), changes(mine, right)
    result = dp.check_backprop(mine, g, *batch, w)
    for parameter, verdict in result.verdicts.items():
        if g.dtype == np.float32 and 0 < off[parameter] < 1e-2:
            continue
        assert verdict.right == (parameter not in wrong), f"{parameter}\n{result}"
        assert (verdict.error <= 1) == verdict.right
        assert (text in verdict.mistake) == (parameter in wrong), f"{text}\n{result}"
    assert text in result.summary
    assert not result


# --------------------------------------------------------------------------- a path forgotten


@pytest.mark.parametrize("loss", SQUARED)
@pytest.mark.parametrize("forgotten", ["y1", "y2"])
def test_one_of_two_paths_is_forgotten(forgotten, loss, dtype):
    g = two_paths(dtype)
    batch = sample((6, 2), dtype, 1), sample((6, 2), dtype, 2), loss
    mine = gradients(g, *batch, left_out=[("h", forgotten)])
    text = f"delta of h leaves out the path through {forgotten}"
    assert_named(text, mine, g, batch)
    equation = "delta_h = (w(h->y1) delta_y1 + w(h->y2) delta_y2) * g'(z_h)"
    assert dp.check_backprop(mine, g, *batch).summary == f"{text}: {equation}"


@pytest.mark.parametrize("loss", dp.LOSSES)
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("ways", [2, 3, 5])
def test_one_of_several_paths_is_forgotten_or_followed_alone(loss, activation, ways):
    g, batch = fork(activation, loss, ways=ways)
    for y in outputs(g):
        others = [("h", other) for other in outputs(g) if other != y]
        mine = gradients(g, *batch, left_out=[("h", y)])
        assert_named(f"delta of h leaves out the path through {y}", mine, g, batch)
        alone = f"counts only the path through {y}"
        text = alone if ways > 2 else f"leaves out the path through {others[0][1]}"
        assert_named(f"delta of h {text}", gradients(g, *batch, left_out=others), g, batch)


@pytest.mark.parametrize("loss", [name for name in dp.LOSSES if name != "cross_entropy"])
def test_an_output_that_leads_on(loss, dtype):
    g, batch = leading_on(loss, dtype)
    text = "delta of y1 leaves out its own error"
    assert_named(text, gradients(g, *batch, no_own=["y1"]), g, batch)
    mine = gradients(g, *batch, left_out=[("y1", "y2")])
    assert_named("delta of y1 leaves out the path through y2", mine, g, batch)
    linked = dp.LOSSES[loss].link
    equation = "delta_y1 = (dE/da_y1 + w(y1->y2) delta_y2) * g'(z_y1)"
    if linked:
        equation = "delta_y1 = dE/dz_y1 + w(y1->y2) delta_y2 * g'(z_y1)"
    assert equation in dp.check_backprop(mine, g, *batch).summary


def test_an_output_that_leads_on_twice_may_count_only_its_own_error():
    g, (X, Y, loss) = leading_on("half_mse")
    g.unit("l", "tanh", 0.5)
    g.edge("y1", "l", 1.5)
    g.edge("l", "y2", -0.5)
    batch = X, Y, loss
    mine = gradients(g, *batch, left_out=[("y1", "y2"), ("y1", "l")])
    assert_named("delta of y1 counts only its own error", mine, g, batch)
    mine = gradients(g, *batch, left_out=[("y1", "y2")], no_own=["y1"])
    assert_named("delta of y1 counts only the path through l", mine, g, batch)


def crossed(ends: int = 2) -> Any:
    """Three hidden units that all lead to all outputs, declared in this order."""
    g = dp.Graph(["x"], [f"y{i}" for i in range(ends)], dtype="float64", backend="reference")
    for i in range(ends):
        g.unit(f"y{i}", "tanh", bias=0.25)
    for h in ("h1", "h2", "h3"):
        g.unit(h, "logistic", bias=0.5)
        g.edge("x", h)
        for y in outputs_of(ends):
            g.edge(h, y)
    return g, (sample((5, 1), "float64", 7), sample((5, ends), "float64", 8), "half_mse")


def outputs_of(ends: int) -> list[str]:
    return [f"y{i}" for i in range(ends)]


def test_all_units_forget_the_same_path():
    g, batch = crossed(3)
    hs = ("h1", "h2", "h3")
    mine = gradients(g, *batch, left_out=[(h, "y1") for h in hs])
    assert_named("every delta leaves out the path through y1", mine, g, batch)
    mine = gradients(g, *batch, left_out=[(h, y) for h in hs for y in ("y0", "y2")])
    assert_named("every delta counts only the path through y1", mine, g, batch)


def test_a_sum_over_paths_that_is_overwritten():
    g, batch = crossed(3)
    g.edge("h1", "h2", 0.75)
    last = [(h, y) for h in ("h1", "h2", "h3") for y in ("y0", "y1")]
    mine = gradients(g, *batch, left_out=[*last, ("h1", "y2")])
    assert_named("every delta keeps only the last of its paths", mine, g, batch)
    first = [(h, y) for h in ("h1", "h2", "h3") for y in ("y1", "y2")]
    mine = gradients(g, *batch, left_out=[*first, ("h1", "h2")])
    assert_named("every delta keeps only the first of its paths", mine, g, batch)
    assert_named("every delta counts only the path through y0", mine, g, batch)


# ------------------------------------------------------------------------- the mistakes of layers


@pytest.mark.parametrize("activation", ["logistic", "elu", "softplus", "gelu"])
@pytest.mark.parametrize("loss", ["half_sse", "mse", "binary_cross_entropy"])
def test_a_slope_missing_or_wrong_in_one_unit(activation, loss, dtype):
    g, batch = fork(activation, loss, dtype)
    last = [] if dp.LOSSES[loss].link else ["y1", "y2"]
    for unit in ("k", "h", *last):
        for slip, text in (
            ("no_slope", "delta lacks g'(z)"),
            ("slope_at_a", "g' is taken at a in place of z"),
            ("a_for_slope", "delta has the factor a in place of g'(z)"),
        ):
            if slip == "slope_at_a" or activation != "softplus" or unit not in ("y1", "y2"):
                mine = gradients(g, *batch, **{slip: [unit]})
                assert_named(f"unit {unit}: {text}", mine, g, batch)
        if activation in IN_A and not (activation == "elu" and dtype == "float32"):
            mine = gradients(g, *batch, formula_at_z=[unit])
            text = f"unit {unit}: the formula of g' in a is applied to z"
            if changed(mine, gradients(g, *batch)):
                assert_named(text, mine, g, batch)


@pytest.mark.parametrize("slip", ["no_slope", "slope_at_a"])
@pytest.mark.parametrize("activation", SMOOTH)
def test_a_slope_missing_or_wrong_in_many_units(activation, slip):
    g, batch = fork(activation, "half_mse")
    for units, whose in (
        (("k", "h"), "every hidden unit: "),
        (("y1", "y2"), "every output: "),
        (("k", "h", "y1", "y2"), "every unit: "),
    ):
        assert_named(whose, gradients(g, *batch, **{slip: units}), g, batch)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_a_slope_that_cross_entropy_cancels(loss, dtype):
    g, batch = fork("tanh", loss, dtype, ways=3)
    text = "delta is multiplied by a (1 - a), though cross-entropy cancels the slope"
    mine = gradients(g, *batch, link_slope=outputs(g))
    assert_named(f"every output: {text}", mine, g, batch)
    mine = gradients(g, *batch, link_slope=["y2"])
    assert_named(f"unit y2: {text}", mine, g, batch)
    scale = "delta_y2 = 1/m (a_y2 - y), without g'"
    assert scale in dp.check_backprop(mine, g, *batch).summary
    if loss == "cross_entropy":
        assert_named("softmax's Jacobian", gradients(g, *batch, link_jacobian=True), g, batch)


@pytest.mark.parametrize("loss", dp.LOSSES)
def test_what_is_left_out_of_all(loss, dtype):
    g, batch = fork("tanh", loss, dtype)
    w = positive(7, dtype)
    mine = gradients(g, *batch, w, no_sample_weights=True)
    assert_named("the sample weights are left out", mine, g, batch, w)
    mine = gradients(g, *batch, w, no_bias=True)
    assert_named("the forward sweep leaves out the biases", mine, g, batch, w)


def test_errors_that_come_back_without_weights():
    g, batch = fork("tanh", "half_mse")
    text = "the errors come back without the weights"
    assert_named(f"unit h: {text}", gradients(g, *batch, no_weight=["h"]), g, batch)
    assert_named(text, gradients(g, *batch, no_weight=["h", "k"]), g, batch)


def test_z_in_place_of_a_and_what_was_never_computed():
    g, batch = fork("tanh", "half_mse")
    right = gradients(g, *batch)
    text = "formed with z of the source in place of a"
    assert_named(text, gradients(g, *batch, z_for_a=True), g, batch)
    assert_named("left at 0", right | {"h": np.float64(0), "k": np.float64(0)}, g, batch)
    mine = right | {("x1", "y1"): np.float64(0)}
    assert_named("left at 0", mine, g, batch)
    assert "in place of a" not in dp.check_backprop(mine, g, *batch).summary


def test_of_the_places_of_a_mistake_the_fewest_are_named():
    g = dp.Graph(["x"], ["y"], dtype="float64", backend="reference")
    for unit, kind, before in (("k", "identity", "x"), ("h", "tanh", "k"), ("y", "tanh", "h")):
        g.unit(unit, kind, 0.5)
        g.edge(before, unit, 0.75)
    batch = sample((5, 1), "float64", 1), sample((5, 1), "float64", 2), "half_mse"
    mine = gradients(g, *batch, no_slope=["h"])
    assert_named("unit h: delta lacks g'(z)", mine, g, batch)
    assert "every hidden unit" not in dp.check_backprop(mine, g, *batch).summary


FACTORS = {
    "m times too large: 1/m is missing": lambda m, n, w: m,
    "divided by m once too often": lambda m, n, w: 1 / m,
    "doubled: a 2 too many, or a 1/2 is missing": lambda m, n, w: 2,
    "halved: a 1/2 too many, or a 2 is missing": lambda m, n, w: 1 / 2,
    "n_out times too large: 1/n_out is missing": lambda m, n, w: n,
    "divided by n_out once too often": lambda m, n, w: 1 / n,
    "of the wrong sign": lambda m, n, w: -1,
    "divided by the sum of the weights in place of m": lambda m, n, w: m / w.sum(),
}


@pytest.mark.parametrize("text", FACTORS)
@pytest.mark.parametrize("loss", dp.LOSSES)
def test_a_wrong_factor(text, loss, dtype):
    g, batch = fork("tanh", loss, dtype, ways=5)
    w = positive(7, dtype)
    c = g.dtype.type(FACTORS[text](7, 5, w.astype(float)))
    mine = {key: c * x for key, x in gradients(g, *batch, w).items()}
    result = dp.check_backprop(mine, g, *batch, w)
    assert {verdict.mistake for verdict in result.verdicts.values()} == {text}
    assert result.summary.startswith(f"every gradient: {text}: ")


def test_a_factor_beside_a_forgotten_path():
    g, batch = fork("tanh", "half_mse")
    mine = gradients(g, *batch, left_out=[("h", "y2")], factor=-7)
    result = dp.check_backprop(mine, g, *batch)
    assert "delta of h leaves out the path through y2" in result.summary
    assert "every gradient: m times too large: 1/m is missing" in result.summary
    assert "every gradient: of the wrong sign" in result.summary
    assert "path" in result.verdicts["x1 -> k"].mistake
    assert "path" not in result.verdicts["h -> y1"].mistake


def test_of_two_mistakes_of_the_sweep_the_upper_one_is_named():
    g, batch = fork("tanh", "half_mse")
    mine = gradients(g, *batch, left_out=[("h", "y2")], slope_at_a=["k"])
    result = dp.check_backprop(mine, g, *batch)
    assert result.summary.startswith("delta of h leaves out the path through y2: ")
    assert "; x1 -> k, x2 -> k, bias of k: not explained yet; mend that first" in result.summary
    assert result.verdicts["x1 -> k"].mistake == ""


def test_mistakes_of_the_same_numbers_are_all_named():
    g, batch = fork("tanh", "half_mse", m=2)
    mine = {key: 2 * x for key, x in gradients(g, *batch).items()}
    result = dp.check_backprop(mine, g, *batch)
    for text in ("1/m is missing", "doubled", "1/n_out is missing"):
        assert text in result.summary
        assert all(text in verdict.mistake for verdict in result.verdicts.values())


# --------------------------------------------------------------------------------- hypothesis


@st.composite
def small_graphs(draw: Any) -> Any:
    """A graph without cycles whose last unit, and every unit that leads nowhere, is an output."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(2, 8))
    loss = draw(st.sampled_from([x for x in dp.LOSSES if x != "cross_entropy"]))
    pairs = [(i, j) for j in range(2, 2 + n) for i in range(j)]
    kept = [(i, j) for i, j in pairs if random.random() < 0.5 or i == j - 1]
    leading = {i for i, _ in kept}
    last = [j for j in range(2, 2 + n) if j not in leading or random.random() < 0.2]
    names = ["x1", "x2", *(f"u{j}" for j in range(n))]
    g = dp.Graph(names[:2], [names[j] for j in last], dtype="float64", backend="reference")
    for j in random.permutation(np.arange(2, 2 + n)):
        kind = dp.LOSSES[loss].link if j in last else None
        g.unit(
            names[j],
            kind or str(random.choice(SMOOTH)),
            bias=None if random.random() < 0.3 else float(random.standard_normal()),
        )
    for i, j in kept:
        g.edge(names[i], names[j], float(random.uniform(0.3, 1.5) * random.choice([-1, 1])))
    m = draw(st.integers(2, 6))
    seed = int(random.integers(1000))
    batch = sample((m, 2), "float64", seed), targets(loss, m, len(last), "float64", seed + 1), loss
    return g, batch


# What it is called, and the slip of a unit.
AT_A_UNIT = [
    ("unit {}: delta lacks g'(z)", "no_slope"),
    ("unit {}: g' is taken at a in place of z", "slope_at_a"),
    ("unit {}: delta has the factor a in place of g'(z)", "a_for_slope"),
    ("unit {}: the errors come back without the weights", "no_weight"),
]


@settings(max_examples=60, deadline=None)
@given(small_graphs(), st.sampled_from(AT_A_UNIT), st.data())
def test_a_random_mistake_of_a_unit_is_named(case, mistake, data):
    g, batch = case
    text, slip = mistake
    leading = sorted({i for i, _ in edges(g) if i.startswith("u")})
    unit = data.draw(st.sampled_from(leading), "unit")
    mine = gradients(g, *batch, **{slip: [unit]})
    assert_named_somewhere(text.format(unit), mine, g, batch)


@settings(max_examples=60, deadline=None)
@given(small_graphs(), st.data())
def test_a_path_forgotten_in_a_random_graph_is_named(case, data):
    g, batch = case
    ways = [(i, j) for i, j in edges(g) if i.startswith("u")]
    several = [e for e in ways if sum(i == e[0] for i, _ in ways) + (e[0] in outputs(g)) > 1]
    assume(several)
    unit, end = data.draw(st.sampled_from(several), "edge")
    mine = gradients(g, *batch, left_out=[(unit, end)])
    assert_named_somewhere(f"delta of {unit} leaves out the path through {end}", mine, g, batch)


def assert_named_somewhere(text: str, mine: Gradients, g: dp.Graph, batch: Any) -> None:
    """As `assert_named`, for what may be too small to be seen in some gradients."""
    right = gradients(g, *batch)
    size = {name(key): abs(x - right[key]) for key, x in mine.items()}
    assume(all(d == 0 or d > 1e-6 for d in size.values()) and any(size.values()))
    result = dp.check_backprop(mine, g, *batch)
    for parameter, verdict in result.verdicts.items():
        assert verdict.right == (size[parameter] == 0), str(result)
        assert verdict.right or text in verdict.mistake, str(result)
    assert text in result.summary
