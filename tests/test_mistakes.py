"""check_backprop names the mistake that was made, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import by_hand
import deltaprop as dp
from by_hand import SIZES, named, positive, scaled
from tasks import UNITWISE, dtype_in_turn, task

Pairs = by_hand.Pairs


def changed(pairs: Pairs, right: Pairs) -> list[str]:
    """The parameters whose gradients are not the same, far beyond rounding."""
    mine, wanted = named(pairs), named(right)
    return [
        name
        for name, x in mine.items()
        if x.shape != wanted[name].shape
        or not np.allclose(x, wanted[name], rtol=1e-9, atol=1e-9 * np.abs(x).max())
    ]


def assert_named(text: str, pairs: Pairs, net: dp.MLP, batch: Any, w: Any = None) -> None:
    """Where a gradient is wrong, the text is said; elsewhere it is right."""
    wrong = changed(pairs, by_hand.gradients(net, *batch, w))
    result = dp.check_backprop(pairs, net, *batch, w)
    assert bool(result) == (not wrong)
    for name, verdict in result.verdicts.items():
        assert verdict.right == (name not in wrong), f"{name}\n{result}"
        assert (verdict.error <= 1) == verdict.right
        assert (text in verdict.mistake) == (name in wrong), f"{text}\n{result}"
    if wrong:
        assert text in result.summary


# --------------------------------------------------------------------- mistakes of the sweep


@pytest.mark.parametrize("activation", UNITWISE)
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_missing_slope(activation, count, bias):
    dtype = dtype_in_turn(UNITWISE.index(activation), count, bias)
    net, batch = task(SIZES[count], activation, "mse", 7, bias=bias, dtype=dtype)
    for l in range(count):
        assert_named(
            f"layer {l}: delta lacks g'(z)",
            by_hand.gradients(net, *batch, no_slope=[l]),
            net,
            batch,
        )
    assert_named(
        "delta lacks g'(z)", by_hand.gradients(net, *batch, no_slope=range(count)), net, batch
    )


@pytest.mark.parametrize("activation", UNITWISE)
def test_a_missing_slope_of_all_hidden_layers(activation):
    net, batch = task(SIZES[4], activation, "half_sse", 7)
    pairs = by_hand.gradients(net, *batch, no_slope=[0, 1, 2])
    assert_named("delta lacks g'(z)", pairs, net, batch)


@pytest.mark.parametrize("activation", UNITWISE)
@pytest.mark.parametrize("loss", ["half_mse", "cross_entropy"])
def test_a_slope_at_the_wrong_place(activation, loss):
    net, batch = task(SIZES[3], activation, loss, 7)
    for at in ([0], [1], [0, 1]):
        pairs = by_hand.gradients(net, *batch, slope_at_a=at)
        assert_named("g' is taken at a in place of z", pairs, net, batch)
        pairs = by_hand.gradients(net, *batch, a_for_slope=at)
        if activation not in ("softplus", "gelu", "silu"):
            assert_named("delta has the factor a in place of g'(z)", pairs, net, batch)


@pytest.mark.parametrize("activation", by_hand.IN_A)
def test_the_slope_of_a_at_z(activation):
    net, batch = task(SIZES[3], activation, "half_mse", 7)
    for at in ([0], [1], [2], [0, 1], [0, 1, 2]):
        pairs = by_hand.gradients(net, *batch, formula_at_z=at)
        assert_named("the formula of g' in a is applied to z", pairs, net, batch)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("count", SIZES)
def test_a_slope_that_cross_entropy_cancels(loss, count):
    net, batch = task((*SIZES[count][:-1], 3), "tanh", loss, 7)
    assert_named(
        f"layer {count - 1}: delta is multiplied by a (1 - a), though cross-entropy cancels",
        by_hand.gradients(net, *batch, link_slope=True),
        net,
        batch,
    )
    if loss == "cross_entropy":
        pairs = by_hand.gradients(net, *batch, link_jacobian=True)
        assert_named("softmax's Jacobian", pairs, net, batch)


def test_with_two_classes_the_two_slopes_of_softmax_are_told_apart():
    net, batch = task((3, 4, 2), "tanh", "cross_entropy", 7)
    pairs = by_hand.gradients(net, *batch, link_jacobian=True)
    result = dp.check_backprop(pairs, net, *batch)
    assert "softmax's Jacobian" in result.summary


@pytest.mark.parametrize("activation", UNITWISE)
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_weights_already_updated(activation, count, bias):
    dtype = dtype_in_turn(UNITWISE.index(activation), count, bias)
    net, batch = task(SIZES[count], activation, "half_mse", 7, bias=bias, dtype=dtype)
    for eta in (0.125, 2.0):
        pairs = by_hand.gradients(net, *batch, eta=eta)
        result = dp.check_backprop(pairs, net, *batch)
        assert "W already updated" in result.summary, str(result)
        found = float(result.summary.split("eta = ")[1].split(":")[0])
        assert found == pytest.approx(eta, rel=1e-2 if dtype == "float32" else 1e-5)
        if dtype == "float64":
            assert_named("W already updated", pairs, net, batch)


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("activation", UNITWISE)
def test_a_wrong_way_down_a_square_matrix(activation, count):
    net, batch = task(SIZES[count], activation, "half_mse", 7)
    text = "layer 0: the error comes down through W^T in place of W"
    assert_named(text, by_hand.gradients(net, *batch, W_transposed=[0]), net, batch)
    text = "layer 0: the error comes down without W"
    assert_named(text, by_hand.gradients(net, *batch, no_W=[0]), net, batch)


@pytest.mark.parametrize("loss", dp.LOSSES)
def test_what_the_output_leaves_out(loss):
    net, batch = task(SIZES[3], "tanh", loss, 7)
    w = positive(7, "float64")
    pairs = by_hand.gradients(net, *batch, w, no_weights=True)
    assert_named("the sample weights are left out", pairs, net, batch, w)
    pairs = by_hand.gradients(net, *batch, w, no_bias=True)
    assert_named("leaves out the biases", pairs, net, batch, w)


# ----------------------------------------------------------- mistakes of one gradient, factors


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
    net, batch = task((3, 4, 5), "tanh", loss, 7, dtype=dtype)
    w = positive(7, dtype)
    c = FACTORS[text](7, 5, w.astype(float))
    pairs = by_hand.gradients(net, *batch, w)
    result = dp.check_backprop(scaled(pairs, c), net, *batch, w)
    assert {verdict.mistake for verdict in result.verdicts.values()} == {text}
    assert result.summary.startswith(f"every gradient: {text}")


@pytest.mark.parametrize(
    ("mine", "asked"),
    [
        (mine, asked)
        for mine in ("half_sse", "half_mse", "mse")
        for asked in ("half_sse", "half_mse", "mse")
        if mine != asked
    ],
)
def test_the_gradient_of_another_squared_error_is_explained(mine, asked):
    net, (X, Y, _) = task((3, 4, 5), "tanh", mine, 7)
    pairs = by_hand.gradients(net, X, Y, mine)
    result = dp.check_backprop(pairs, net, X, Y, asked)
    assert not result
    assert all(verdict.mistake for verdict in result.verdicts.values())


def test_a_factor_of_db_alone():
    net, batch = task(SIZES[3], "tanh", "half_mse", 7)
    pairs = [(W, b / 7) for W, b in by_hand.gradients(net, *batch)]
    assert_named("divided by m once too often", pairs, net, batch)
    assert "0.b, 1.b, 2.b" in dp.check_backprop(pairs, net, *batch).summary


@pytest.mark.parametrize("sizes", [(3, 4, 2), (4, 4, 4), (1, 4, 1)])
def test_a_transposed_dW(sizes):
    net, batch = task(sizes, "tanh", "half_mse", 7)
    pairs = [(W.T, b) for W, b in by_hand.gradients(net, *batch)]
    assert_named("transposed", pairs, net, batch)


def bias_mistake(kind: str, net: dp.MLP, batch: Any) -> Pairs:
    """db of the output layer, made anew from its delta: with inputs of ones dW is delta^T 1."""
    X, Y, loss = batch
    m = len(X)
    found = []
    right = by_hand.gradients(net, X, Y, loss)
    for l, (W, _) in enumerate(right):
        rows = [by_hand.gradients(net, X[i : i + 1], Y[i : i + 1], loss) for i in range(m)]
        delta = np.stack([row[l][1] for row in rows]) / m
        form = {
            "summed over the units, not the samples": delta.sum(axis=1),
            "not summed over the samples": delta,
            "summed over samples and units": delta.sum(),
        }[kind]
        found.append((W, form))
    return found


@pytest.mark.parametrize("m", [4, 7])
@pytest.mark.parametrize(
    "kind",
    [
        "summed over the units, not the samples",
        "not summed over the samples",
        "summed over samples and units",
    ],
)
def test_a_db_of_the_wrong_sum(kind, m):
    net, batch = task((3, 4, 4), "tanh", "half_mse", m)
    pairs = bias_mistake(kind, net, batch)
    assert_named(kind, pairs, net, batch)
    if kind == "not summed over the samples":
        assert_named(kind, [(W, b.T) for W, b in pairs], net, batch)


def test_z_in_place_of_a():
    net, batch = task(SIZES[3], "tanh", "half_mse", 7)
    pairs = by_hand.gradients(net, *batch, z_for_a=[0, 1, 2])
    assert_named("formed with z^(l-1) in place of a^(l-1)", pairs, net, batch)


def test_a_gradient_never_computed():
    net, batch = task(SIZES[3], "tanh", "half_mse", 7)
    pairs = [(W, 0 * b) for W, b in by_hand.gradients(net, *batch)]
    assert_named("left at 0", pairs, net, batch)
    pairs = [(0 * W, b) for W, b in by_hand.gradients(net, *batch)]
    assert_named("left at 0", pairs, net, batch)


# ----------------------------------------------------------------------------- combinations


SWEEPS = {
    "layer 1: delta lacks g'(z)": {"no_slope": [1]},
    "W already updated, W - eta dE/dW with eta = 0.5": {"eta": 0.5},
    "leaves out the biases": {"no_bias": True},
    "layer 0: the error comes down through W^T in place of W": {"W_transposed": [0]},
}
FURTHER = {"1/m is missing": {"factor": 7}, "of the wrong sign": {"factor": -1}, "transposed": {}}


@pytest.mark.parametrize("text", SWEEPS)
@pytest.mark.parametrize("further", FURTHER)
def test_a_mistake_of_the_sweep_with_one_more(text, further):
    net, batch = task(SIZES[3], "tanh", "half_mse", 7)
    pairs = by_hand.gradients(net, *batch, **SWEEPS[text], **FURTHER[further])
    if further == "transposed":
        pairs = [(W.T, b) for W, b in pairs]
    result = dp.check_backprop(pairs, net, *batch)
    assert text in result.summary
    assert further in result.summary
    for name, verdict in result.verdicts.items():
        wrong_sweep = name[0] == "0" or (name[0] == "1" and "W^T" not in text)
        if wrong_sweep or "biases" in text:
            assert text in verdict.mistake
        assert (further in verdict.mistake) == (further != "transposed" or name[2] == "W")


def test_a_mistake_beside_an_unknown_one_is_named_and_the_rest_left_open():
    net, batch = task(SIZES[3], "tanh", "half_mse", 7)
    pairs = by_hand.gradients(net, *batch, no_slope=[2])
    pairs[0] = (pairs[0][0] + 0.1, pairs[0][1])
    result = dp.check_backprop(pairs, net, *batch)
    assert "layer 2: delta lacks g'(z)" in result.summary
    assert "0.W: not explained yet" in result.summary
    assert result.verdicts["0.W"].mistake == ""


@pytest.mark.parametrize(
    "lower", [{"eta": 0.5}, {"W_transposed": [0]}, {"slope_at_a": [0]}, {"no_W": [0]}]
)
def test_of_two_mistakes_of_the_sweep_the_upper_one_is_named(lower):
    net, batch = task(SIZES[3], "tanh", "half_mse", 7)
    upper = 2 if "eta" in lower else 1
    result = dp.check_backprop(
        by_hand.gradients(net, *batch, no_slope=[upper], **lower), net, *batch
    )
    assert result.summary.startswith(f"layer {upper}: delta lacks g'(z)")
    open_ones = "0.W, 0.b, 1.W, 1.b" if upper == 2 else "0.W, 0.b"
    assert f"; {open_ones}: not explained yet; mend that first" in result.summary
    assert result.verdicts["0.W"].mistake == result.verdicts["0.b"].mistake == ""


# ------------------------------------------------------------------------------ hypothesis

# What it is called, the slip, its value for a layer l, m samples and n outputs.
MISTAKES = [
    ("delta lacks g'(z)", "no_slope", lambda l, m, n: [l]),
    ("g' is taken at a in place of z", "slope_at_a", lambda l, m, n: [l]),
    ("delta has the factor a in place of g'(z)", "a_for_slope", lambda l, m, n: [l]),
    ("formed with z^(l-1) in place of a^(l-1)", "z_for_a", lambda l, m, n: [l]),
    ("1/m is missing", "factor", lambda l, m, n: m),
    ("divided by m once too often", "factor", lambda l, m, n: 1 / m),
    ("1/n_out is missing", "factor", lambda l, m, n: n),
    ("doubled", "factor", lambda l, m, n: 2),
    ("halved", "factor", lambda l, m, n: 0.5),
    ("of the wrong sign", "factor", lambda l, m, n: -1),
    ("W already updated", "eta", lambda l, m, n: 0.25),
    ("leaves out the biases", "no_bias", lambda l, m, n: True),
]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_random_mistake_in_a_random_net_is_named(data):
    draw = data.draw
    sizes = tuple(draw(st.lists(st.integers(1, 5), min_size=2, max_size=5), "sizes"))
    loss = draw(st.sampled_from([name for name in dp.LOSSES if name != "cross_entropy"]), "loss")
    activation = draw(st.sampled_from(["logistic", "tanh", "elu", "softplus", "gelu"]), "g")
    m, bias, seed = (draw(x) for x in (st.integers(2, 6), st.booleans(), st.integers(0, 1000)))
    text, slip, value = draw(st.sampled_from(MISTAKES), "mistake")
    assume(slip != "eta" or (len(sizes) > 2 and sizes[-2] > 1))  # one unit may not tell an eta
    with_slope = len(sizes) - 1 - (dp.LOSSES[loss].link is not None)
    assume("slope" not in slip or with_slope > 0)
    l = draw(st.integers(0, with_slope - 1 if "slope" in slip else len(sizes) - 2), "layer")
    net, batch = task(sizes, activation, loss, m, bias=bias, seed=seed)
    pairs = by_hand.gradients(net, *batch, **{slip: value(l, m, sizes[-1])})
    assert_named(text, pairs, net, batch)
