"""check_backprop on what is right, what nothing explains, and what it cannot read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import by_hand
import deltaprop as dp
from by_hand import SIZES, named, positive, scaled
from conftest import sample
from tasks import LOSSES, UNITWISE, dtype_in_turn, task

# --------------------------------------------------------------------------------- right


@pytest.mark.parametrize("activation", UNITWISE)
@pytest.mark.parametrize("loss", dp.LOSSES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_right_gradient_is_right(activation, loss, bias):
    dtype = dtype_in_turn(UNITWISE.index(activation), LOSSES.index(loss), bias)
    for count, sizes in SIZES.items():
        net, batch = task(sizes, activation, loss, 7, bias=bias, dtype=dtype, seed=count)
        for w in (None, positive(7, dtype)):
            result = dp.check_backprop(by_hand.gradients(net, *batch, w), net, *batch, w)
            assert result, str(result)
            assert result.summary == "every gradient is right, to within rounding"


@pytest.mark.parametrize("learner", ["float16", "float32"])
def test_a_gradient_of_a_coarse_dtype_is_right_to_its_rounding(learner):
    net, (X, Y, loss) = task((3, 4, 2), "tanh", "half_mse", 7)
    coarse = dp.MLP((3, 4, 2), "tanh", "tanh", dtype="float32", backend="numpy")
    coarse.parameters[...] = net.parameters
    pairs = by_hand.gradients(coarse, X.astype("float32"), Y.astype("float32"), loss)
    rounded = [(W.astype(learner), b.astype(learner)) for W, b in pairs]
    assert dp.check_backprop(rounded, net, X, Y, loss)
    as_float64 = [(W.astype("float64") * (1 + 1e-9), b) for W, b in pairs]
    assert not dp.check_backprop(
        [x for p in as_float64 for x in (p[0], p[1].astype(float))], net, X, Y, loss
    )


FORMATS = {
    "pairs": lambda g: [(W, b) for W, b in g],
    "Parameters": lambda g: g,
    "Gradient": lambda g: list(g),
    "flat list": lambda g: [x for pair in g for x in pair],
    "dict": lambda g: dict(g.named()),
    "vector": lambda g: g.flat,
    "list of numbers": lambda g: g.flat.tolist(),
    "nested lists": lambda g: [[W.tolist(), b.tolist()] for W, b in g],
    "flat nested lists": lambda g: [x.tolist() for pair in g for x in pair],
    "columns": lambda g: [(W, b[:, None]) for W, b in g],
    "rows": lambda g: [(W, b[None]) for W, b in g],
    "objects": lambda g: [SimpleNamespace(W=W, b=b) for W, b in g],
    "Fortran order": lambda g: [(np.asfortranarray(W), b) for W, b in g],
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("count", SIZES)
def test_every_format_is_read(form, count, dtype):
    net, batch = task(SIZES[count], "tanh", "half_mse", 5, dtype=dtype)
    _, gradients = net.value_and_grad(*batch)
    assert dp.check_backprop(FORMATS[form](gradients), net, *batch)
    gradients[0].W[1, 2] *= 1.5
    result = dp.check_backprop(FORMATS[form](gradients), net, *batch)
    assert [name for name, verdict in result.verdicts.items() if not verdict.right] == ["0.W"]
    assert "[1, 2]" in str(result)


@pytest.mark.parametrize("count", SIZES)
def test_nets_without_bias_have_no_db(count):
    net, batch = task(SIZES[count], "tanh", "half_mse", 5, bias=False)
    _, g = net.value_and_grad(*batch)
    dWs = [W for W, _ in g]
    forms = (g, dWs, [W.tolist() for W in dWs], [(W, None) for W in dWs], [(W,) for W in dWs])
    for form in (*forms, g.flat, dict(g.named())):
        assert dp.check_backprop(form, net, *batch)


# --------------------------------------------------------------------- what explains nothing


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("loss", dp.LOSSES)
def test_garbage_is_not_explained(seed, loss):
    dtype = dtype_in_turn(seed // 4)  # both for each of the sizes
    net, batch = task(SIZES[1 + seed % 4], "logistic", loss, 4, dtype=dtype)
    garbage = [
        tuple(map(np.array, (sample(W.shape, dtype, seed), sample(b.shape, dtype, seed))))
        for W, b in by_hand.gradients(net, *batch)
    ]
    result = dp.check_backprop(garbage, net, *batch)
    assert not any(verdict.right or verdict.mistake for verdict in result.verdicts.values())
    top = len(net.layers) - 1
    assert f"the topmost wrong layer is {top}" in result.summary


def of_another_batch(net: dp.MLP, batch: Any) -> by_hand.Pairs:
    X, Y, loss = batch
    return by_hand.gradients(net, X[::-1] * 1.5, Y, loss)


def of_another_net(net: dp.MLP, batch: Any) -> by_hand.Pairs:
    other = net.to("numpy")
    other.parameters[...] *= 1.1
    return by_hand.gradients(other, *batch)


def of_an_odd_factor(net: dp.MLP, batch: Any) -> by_hand.Pairs:
    return by_hand.gradients(net, *batch, factor=1.2345)


@pytest.mark.parametrize("wrong", [of_another_batch, of_another_net, of_an_odd_factor])
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("loss", dp.LOSSES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_mistake_that_is_not_in_the_table_is_not_explained(wrong, count, loss, bias):
    dtype = dtype_in_turn(count, LOSSES.index(loss), bias)
    net, batch = task(SIZES[count], "tanh", loss, 5, bias=bias, dtype=dtype)
    result = dp.check_backprop(wrong(net, batch), net, *batch)
    assert not any(verdict.right or verdict.mistake for verdict in result.verdicts.values())
    assert "no classic mistake explains" in result.summary


@pytest.mark.parametrize("name", ["0.W", "1.W", "1.b", "2.W"])
@pytest.mark.parametrize("seed", range(5))
def test_a_small_error_is_not_explained(name, seed):
    net, batch = task(SIZES[3], "logistic", "half_mse", 4)
    pairs = named(by_hand.gradients(net, *batch))
    noise = 1 + 1e-6 * sample(pairs[name].shape, "float64", seed)
    result = dp.check_backprop(pairs | {name: pairs[name] * noise}, net, *batch)
    wrong = {key: v for key, v in result.verdicts.items() if not v.right}
    assert list(wrong) == [name]
    assert wrong[name].mistake == ""
    assert f"no classic mistake explains {name}; the topmost wrong layer is {name[0]}" in (
        result.summary
    )


def test_the_worst_element_and_the_layer_to_look_at():
    net, batch = task(SIZES[3], "logistic", "half_mse", 4)
    pairs = named(by_hand.gradients(net, *batch))
    pairs["1.W"][2, 3] += 1
    result = dp.check_backprop(pairs, net, *batch)
    assert "at [2, 3]" in result.verdicts["1.W"].worst
    assert "every gradient above it is right" in result.summary
    assert "dE/dW^2 = delta^2^T a^1, for dE/db^2 is right" in result.summary


def test_an_odd_factor_does_not_pass_for_updated_weights():
    """With a single weight on the way down, any wrong factor would be some learning rate."""
    net, batch = task((3, 1, 1), "tanh", "half_mse", 7)
    (W, b), top = by_hand.gradients(net, *batch)
    result = dp.check_backprop([(W * 1.2345, b * 1.2345), top], net, *batch)
    assert result.verdicts["0.W"].mistake == ""


# ------------------------------------------------------------------------ honest ambiguity


def test_two_mistakes_of_the_same_numbers_are_both_named():
    net, batch = task((3, 4, 3), "tanh", "half_mse", 2)
    result = dp.check_backprop(scaled(by_hand.gradients(net, *batch), 2), net, *batch)
    for text in ("1/m is missing", "doubled"):
        assert text in result.summary
        assert all(text in verdict.mistake for verdict in result.verdicts.values())


def test_with_one_sample_a_missing_mean_cannot_be_seen_and_it_says_so():
    net, batch = task((3, 4, 3), "tanh", "half_mse", 1)
    result = dp.check_backprop(by_hand.gradients(net, *batch), net, *batch)
    assert result
    assert result.notes == ("there is one sample: a missing 1/m cannot be seen",)
    assert "note: there is one sample" in str(result)


def test_a_gradient_of_zeros_is_right_but_tells_little():
    net, (X, _, _) = task((3, 4, 2), "tanh", "half_mse", 5)
    result = dp.check_backprop(net.value_and_grad(X, net.predict(X))[1], net, X, net.predict(X))
    assert result
    assert [note.split()[0] for note in result.notes] == ["0.W", "0.b", "1.W", "1.b"]


# ---------------------------------------------------------------------------------- words


def test_the_result_reads_as_a_table_and_a_summary():
    net, batch = task(SIZES[2], "logistic", "half_mse", 7)
    result = dp.check_backprop(by_hand.gradients(net, *batch, no_slope=[0]), net, *batch)
    assert repr(result) == str(result), "what a notebook shows"
    assert str(result).splitlines() == [
        "0.W    WRONG  layer 0: delta lacks g'(z)",
        "0.b    WRONG  layer 0: delta lacks g'(z)",
        "1.W    right",
        "1.b    right",
        "layer 0: delta lacks g'(z): delta^1 = (delta^2 W^2) * g'(z^1)",
    ]
    assert [verdict.right for verdict in result.verdicts.values()] == [False, False, True, True]


HINTS = [
    ("half_mse", {"no_slope": [1]}, "delta^2 = dE/da^2 * g'(z^2)"),
    ("half_mse", {"no_slope": [0, 1]}, "delta^l = dE/da^l * g'(z^l)"),
    ("half_sse", {"factor": 2}, "half_sse has dE/da^L = 1 (a^L - y)"),
    ("mse", {"factor": 7}, "mse has dE/da^L = 2/(m n_out) (a^L - y)"),
    ("cross_entropy", {"factor": 7}, "cross_entropy has delta^L = 1/m (a^L - y)"),
    ("binary_cross_entropy", {"factor": -1}, "delta^L = 1/m (a^L - y), the target subtracted"),
    ("cross_entropy", {"link_slope": True}, "delta^2 = 1/m (a^2 - y), without g'"),
]


@pytest.mark.parametrize(("loss", "slip", "hint"), HINTS)
def test_the_hint_is_the_equation_of_that_layer(loss, slip, hint):
    net, batch = task((3, 4, 5), "logistic", loss, 7)
    result = dp.check_backprop(by_hand.gradients(net, *batch, **slip), net, *batch)
    assert hint in result.summary


# ----------------------------------------------------------------------- what is not read

NET, BATCH = task((3, 4, 2), "tanh", "half_mse", 5)
RIGHT = by_hand.gradients(NET, *BATCH)
(W0, B0), (W1, B1) = RIGHT


def with_nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[1, 2] = np.nan
    return x


REFUSED = [
    (RIGHT[:1], ValueError, "of 1 layers, but the net has 2"),
    ([W0, B0, W1], ValueError, "3 arrays, but the net has 4 parameters: 0.W, 0.b, 1.W, 1.b"),
    ([(W0, None), (W1, B1)], ValueError, "layer 0 has 2 parameters, 0.W, 0.b, but 1 gradients"),
    ([(W0, B0, B0), (W1, B1)], ValueError, "layer 0 has 2 parameters, 0.W, 0.b, but 3 gradients"),
    ({"0.W": W0, "0.b": B0, "1.W": W1}, ValueError, "lack '1.b'; the net has 0.W, 0.b, 1.W, 1.b"),
    ({**named(RIGHT), "2.W": W0}, ValueError, "have '2.W'; the net has"),
    (np.zeros(25), ValueError, "has 25 numbers, but the net has 26"),
    ([0.0] * 27, ValueError, "has 27 numbers, but the net has 26"),
    ([W0[:2], B0, W1, B1], ValueError, r"0.W has shape \(2, 3\); right is \(4, 3\)"),
    ([W0, B0, W1, np.zeros(3)], ValueError, r"1.b has shape \(3,\); right is \(2,\)"),
    ([with_nan(W0), B0, W1, B1], ValueError, r"0.W\[1, 2\] is nan"),
    ([W0, B0, W1, np.full(2, np.inf)], ValueError, r"1.b\[0\] is inf"),
    ([W0 * 1j, B0, W1, B1], TypeError, "0.W must hold real numbers, got .* complex128"),
    ([[[1.0, 2.0], [3.0]], B0, W1, B1], ValueError, "0.W is no array: its rows differ in length"),
    ([None, B0, W1, B1], TypeError, "0.W must hold real numbers"),
    (None, TypeError, "must be Parameters, a dict, a list .* got NoneType"),
    ("0.W", TypeError, "got str"),
    (W0, TypeError, r"got an array of shape \(4, 3\)"),
    ([], ValueError, "has 0 numbers, but the net has 26"),
]


@pytest.mark.parametrize(("mine", "error", "message"), REFUSED)
def test_what_cannot_be_understood_is_refused(mine, error, message):
    with pytest.raises(error, match=message):
        dp.check_backprop(mine, NET, *BATCH)


def test_a_net_without_bias_takes_no_db():
    net, batch = task((3, 4, 2), "tanh", "half_mse", 5, bias=False)
    with pytest.raises(ValueError, match=r"layer 0 has 1 parameters, 0.W, but 2 gradients"):
        dp.check_backprop(RIGHT, net, *batch)
    with pytest.raises(ValueError, match=r"have '0.b', '1.b'; the net has 0.W, 1.W"):
        dp.check_backprop(named(RIGHT), net, *batch)


def test_inputs_are_those_of_value_and_grad(backend):
    net, X, labels = NET.to(backend), *BATCH[:2]
    with pytest.raises(TypeError, match=r"X must be an array of .*, got list"):
        dp.check_backprop(RIGHT, net, X.tolist(), labels)
    with pytest.raises(ValueError, match=r"Y must have shape \(5, 2\)"):
        dp.check_backprop(RIGHT, net, X, X)
    assert dp.check_backprop(RIGHT, net, *BATCH)
    classes = dp.MLP((3, 4, 2), "tanh", "softmax", dtype="float32", backend=backend)
    X32, labels = X.astype("float32"), np.array([0, 1, 1, 0, 1])
    assert dp.check_backprop(classes.value_and_grad(X32, labels)[1], classes, X32, labels)


def test_nothing_given_is_written_to():
    net, batch = task((3, 4, 2), "tanh", "half_mse", 5)
    before, pairs = net.parameters.copy(), by_hand.gradients(net, *batch, eta=0.5)
    copies = [(W.copy(), b.copy()) for W, b in pairs]
    dp.check_backprop(pairs, net, *batch)
    np.testing.assert_array_equal(net.parameters, before)
    for mine, copy in zip(named(pairs).values(), named(copies).values()):
        np.testing.assert_array_equal(mine, copy)


def test_a_right_gradient_that_overflows_is_refused():
    linear = dp.MLP((3, 4, 2), "identity", dtype="float64", backend="numpy")
    linear.parameters[...] = 1e200
    with pytest.raises(ValueError, match=r"the right gradient of 0\.W is not finite"):
        dp.check_backprop(RIGHT, linear, *BATCH)
