"""What an ensemble refuses, by name; a refused call changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits
from ensembles import SIZES, N, alone, batch, ensemble


def refused(error: type[Exception], words: tuple, call: Callable, *args: Any, **options: Any):
    with pytest.raises(error) as caught:
        call(*args, **options)
    for word in words:
        assert str(word) in str(caught.value)


def test_numbers_of_members() -> None:
    for make in (dp.MLP, dp.Ensemble):
        refused(ValueError, ("ensemble", "at least 1", "0"), make, SIZES, ensemble=0)
        refused(ValueError, ("ensemble", "-2"), make, SIZES, ensemble=-2)
        for bad in (2.0, "3", True, [3]):
            refused(TypeError, ("ensemble", type(bad).__name__), make, SIZES, ensemble=bad)
    refused(TypeError, ("ensemble", "NoneType"), dp.Ensemble, SIZES)
    own = type("Own", (dp.MLP,), {})
    assert type(own(SIZES)) is own
    refused(TypeError, ("Own", "Ensemble"), own, SIZES, ensemble=3)


def test_members_that_are_not_there() -> None:
    net = ensemble("numpy")
    refused(IndexError, ("0 to 2", "3"), net.member, 3)
    refused(ValueError, ("-1",), net.member, -1)
    refused(TypeError, ("float",), net.member, 1.0)


@pytest.mark.parametrize("method", ["loss", "value_and_grad", "train_step", "fit"])
def test_shapes(method: str) -> None:
    net = ensemble("numpy")
    before, call = net.parameters.copy(), getattr(net, method)
    (X, Y, w), (Xs, Ys, ws) = batch("float32", 9), batch("float32", 9, True)
    for bad, words in (
        (Xs[:2], ("X", "(3, m, 3)", "(2, 9, 3)")),
        (Xs[..., :2], ("X", "(3, m, 3)", "(3, 9, 2)")),
        (X[0], ("X", "(m, 3)", "(3,)")),
        (Xs[None], ("X", "(m, 3)", "(1, 3, 9, 3)")),
        (Xs[:, :0], ("X", "empty")),
    ):
        refused(ValueError, words, call, bad, Y)
    for bad, words in (
        (Ys[:2], ("Y", "(3, 9, 2)", "(2, 9, 2)")),
        (Ys[:, :8], ("Y", "(3, 9, 2)", "(3, 8, 2)")),
        (Y[:8], ("Y", "(9, 2)", "(8, 2)")),
    ):
        for inputs in (X, Xs):
            refused(ValueError, words, call, inputs, bad)
    for bad, words in ((ws[:2], ("sample_weight", "(3, 9)", "(2, 9)")), (w[:8], ("(9,)", "(8,)"))):
        refused(ValueError, words, call, X, Y, sample_weight=bad)
    for args, name in (([X.tolist(), Y], "X"), ([X, Y.tolist()], "Y"), ([X, None], "Y")):
        refused(TypeError, (name,), call, *args)
    refused(TypeError, ("sample_weight", "list"), call, X, Y, sample_weight=w.tolist())
    refused(TypeError, ("float64", "float32"), call, Xs.astype("float64"), Y)
    assert_same_bits(net.parameters, before)


def test_labels_that_cannot_be() -> None:
    net, each = ensemble("numpy", output="softmax"), batch("float32", 9, True)[0]
    shared, labels = each[0], np.zeros((N, 9), int)
    refused(ValueError, ("Y", "(3, 9)", "(2, 9)"), net.loss, each, labels[:2])
    refused(ValueError, ("Y", "(3, 9)", "(2, 9)"), net.loss, shared, labels[:2])
    refused(ValueError, ("label 2", "0 to 1"), net.loss, each, labels + 2)
    refused(ValueError, ("row 1, 4", "1.5"), net.loss, each, off_by_half(1, 4))


def off_by_half(e: int, i: int) -> np.ndarray:
    """Rows of probabilities, one of which is none."""
    Y = np.full((N, 9, 2), 0.5, "float32")
    Y[e, i, 0] = 1
    return Y


def test_learning_rates() -> None:
    net, (X, Y, _) = ensemble("numpy"), batch("float32", 9)
    before = net.parameters.copy()
    for call in (net.train_step, net.fit):
        for bad in ([0.1] * 2, np.ones(4), np.ones((N, 1)), np.array(0.1), []):
            words = "learning_rate", "(3,)", np.shape(bad)
            refused(ValueError, words, call, X, Y, learning_rate=bad)
        refused(ValueError, ("learning_rate[1]", "-1"), call, X, Y, learning_rate=[0.1, -1, 1])
        refused(TypeError, ("learning_rate[2]", "str"), call, X, Y, learning_rate=[0.1, 1, "1"])
        for bad in ("0.1", None, True):
            refused(TypeError, ("learning_rate", type(bad).__name__), call, X, Y, learning_rate=bad)
    assert_same_bits(net.parameters, before)


def test_nets_that_make_no_ensemble() -> None:
    nets = alone("numpy")
    for bad in ([], nets[0], None, iter(nets)):
        refused(ValueError, ("nets",), dp.Ensemble.of, bad)
    for bad in ("net", ensemble("numpy"), dp.Graph(["x"], ["y"])):
        refused(TypeError, ("nets[1]",), dp.Ensemble.of, [nets[0], bad])
    for change in (
        {"sizes": [3, 4, 2]}, {"dtype": "float64"}, {"backend": "reference"}, {"output": "tanh"},
        {"bias": False},
    ):  # fmt: skip
        options = {"sizes": SIZES, "activation": "tanh", "backend": "numpy"} | change
        refused(ValueError, ("nets[0]", "nets[1]"), dp.Ensemble.of, [nets[0], dp.MLP(**options)])


def test_what_needs_one_net_says_so() -> None:
    net, (X, Y, _) = ensemble("numpy"), batch("float32", 9)
    gradients = net.value_and_grad(X, Y)[1]
    calls = {
        "forward": lambda: net.forward(X),
        "backward": lambda: net.backward(net.member(0).forward(X), Y),
        "pull_back": lambda: net.pull_back(net.member(0).forward(X), Y),
        "to_graph": net.to_graph,
        "explain": lambda: net.explain("0.b[0]", X, Y),
        "gradcheck": lambda: dp.gradcheck(net, X, Y),
        "check_backprop": lambda: dp.check_backprop(gradients, net, X, Y),
    }
    for name, call in calls.items():
        refused(TypeError, (name, "ensemble of 3", ".member(e)"), call)
    refused(TypeError, (".member(e)",), dp.plot.network, net)
