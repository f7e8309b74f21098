"""fit: what it does to the net, in which order, and what it reports."""

from __future__ import annotations

import sys
from inspect import signature
from typing import get_type_hints

import numpy as np
import pytest

import deltaprop as dp
from conftest import EXACT, assert_same_bits, sample
from deltaprop.check import to_numpy
from deltaprop.data import digits
from deltaprop.training import FitOptions, fit

SIZES, M = [3, 4, 2], 30
X, Y = sample((M, 3), "float32", 1), sample((M, 2), "float32", 2)
WEIGHTS = np.abs(sample(M, "float32", 3))


def new_net(backend: str = "numpy", **options) -> dp.MLP:
    return dp.MLP(SIZES, backend=backend, **options)


def by_hand(net: dp.MLP, orders, batch_size: int, weights=None, rate: float = 0.1) -> list[float]:
    """fit, step by step; the epochs' losses."""
    losses = []
    for order in orders:
        total = 0.0
        for start in range(0, M, batch_size):
            rows = order[start : start + batch_size]
            w = None if weights is None else weights[rows]
            total += len(rows) * net.train_step(X[rows], Y[rows], None, rate, w)
        losses.append(total / M)
    return losses


@pytest.mark.parametrize("batch_size", [1, 7, 10, M, 1000])
def test_an_epoch_takes_every_sample_in_order(backend: str, batch_size: int) -> None:
    net, hand = new_net(backend), new_net(backend)
    history = net.fit(X, Y, epochs=2, batch_size=batch_size, seed=None)
    assert history.loss == by_hand(hand, [np.arange(M)] * 2, batch_size)
    assert_same_bits(to_numpy(net.parameters), to_numpy(hand.parameters))


def test_a_seed_shuffles_each_epoch_anew(backend: str) -> None:
    random = np.random.Generator(np.random.PCG64(5))
    orders = [random.permutation(M) for _ in range(3)]
    net, hand = new_net(backend), new_net(backend)
    history = net.fit(X, Y, epochs=3, batch_size=7, seed=5, sample_weight=WEIGHTS)
    assert history.loss == by_hand(hand, orders, 7, WEIGHTS)
    assert_same_bits(to_numpy(net.parameters), to_numpy(hand.parameters))
    other = new_net(backend)
    other.fit(X, Y, epochs=3, batch_size=7, seed=6, sample_weight=WEIGHTS)
    assert dp.digest(other.parameters) != dp.digest(net.parameters)


def test_a_history_has_an_entry_for_each_epoch(backend: str) -> None:
    net = new_net(backend)
    validation = X[:11], Y[:11]
    history = net.fit(X, Y, epochs=4, validation=validation, learning_rate=0.2)
    assert isinstance(history, dp.History)
    assert len(history.loss) == len(history.validation_loss) == len(history.seconds) == 4
    assert history.validation_loss[-1] == net.loss(*validation)
    assert history.loss == sorted(history.loss, reverse=True)
    assert history.loss[-1] < history.loss[0]
    assert all(s >= 0 for s in history.seconds)
    assert net.fit(X, Y, epochs=1).validation_loss == []


def test_targets_may_be_labels(dtype: str) -> None:
    labels = np.arange(M) % 2
    nets = [new_net(output="softmax", dtype=dtype) for _ in range(2)]
    inputs = X.astype(dtype)
    histories = [
        net.fit(inputs, targets, epochs=2, validation=(inputs, targets))
        for net, targets in zip(nets, (labels, np.eye(2, dtype=dtype)[labels]))
    ]
    assert histories[0].loss == histories[1].loss
    assert histories[0].validation_loss == histories[1].validation_loss
    assert_same_bits(nets[0].parameters, nets[1].parameters)


@pytest.mark.parametrize("loss", ["half_sse", "mse"])
def test_the_loss_may_be_named(loss: str) -> None:
    net, hand = new_net(), new_net()
    net.fit(X, Y, loss, epochs=1, batch_size=M, seed=None, learning_rate=0.01)
    hand.train_step(X, Y, loss, 0.01)
    assert_same_bits(net.parameters, hand.parameters)


def test_inputs_may_be_of_any_strides_and_lossless_dtype(backend: str) -> None:
    net, plain = new_net(backend), new_net(backend)
    whole = np.round(X * 10).astype(np.int8)
    net.fit(np.asfortranarray(whole), Y[::-1].copy()[::-1], epochs=1)
    plain.fit(whole.astype(np.float32), Y, epochs=1)
    assert_same_bits(to_numpy(net.parameters), to_numpy(plain.parameters))


def test_training_that_diverges_goes_on() -> None:
    net = new_net()
    history = net.fit(1000 * X, Y, epochs=40, learning_rate=100.0)
    assert len(history.loss) == 40
    assert not np.isfinite(history.loss[-1])


# -------------------------------------------------------------------------------- progress


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_progress(
    capsys: pytest.CaptureFixture, monkeypatch, progress: bool | None, terminal: bool, shown: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    new_net().fit(X, Y, epochs=2, validation=(X, Y), progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("epoch" in err) == shown
    if shown:
        assert "loss=" in err
        assert "validation=" in err


def test_a_bar_that_is_not_shown_is_not_made(monkeypatch) -> None:
    """Its lock is shared by forks, and may be that of a process which was killed."""
    monkeypatch.setattr("tqdm.tqdm", lambda *_, **__: pytest.fail("a bar was made"))
    for progress in (None, False):
        new_net().fit(X, Y, epochs=2, progress=progress)


# ------------------------------------------------------------------------------ bad arguments

BAD = [
    ({"epochs": 0}, ValueError, "epochs"),
    ({"epochs": 2.0}, TypeError, "epochs"),
    ({"batch_size": 0}, ValueError, "batch_size"),
    ({"batch_size": True}, TypeError, "batch_size"),
    ({"batch_size": "32"}, TypeError, "batch_size"),
    ({"learning_rate": -0.1}, ValueError, "learning_rate"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 1.5}, TypeError, "seed"),
    ({"loss": "half_mes"}, ValueError, "half_mse"),
    ({"loss": "cross_entropy"}, ValueError, "softmax"),
    ({"sample_weight": WEIGHTS[:-1]}, ValueError, "sample_weight"),
    ({"validation": X}, TypeError, "validation"),
    ({"validation": (X, Y, WEIGHTS)}, TypeError, "validation"),
    ({"validation": (X[:, :2], Y)}, ValueError, "X must have shape"),
    ({"validation": (X, Y[:-1])}, ValueError, "Y must have shape"),
]


@pytest.mark.parametrize(("options", "error", "word"), BAD, ids=lambda x: str(x)[:30])
def test_bad_arguments_change_nothing(
    backend: str, options: dict, error: type[Exception], word: str
) -> None:
    net = new_net(backend)
    before = to_numpy(net.parameters).copy()
    with pytest.raises(error, match=word):
        net.fit(X, Y, **options)
    assert_same_bits(to_numpy(net.parameters), before)


# -------------------------------------------------------------------------------- real data


@pytest.mark.parametrize("name", EXACT)
def test_every_exact_backend_trains_to_the_same_bits(name: str, dtype: str) -> None:
    nets = [new_net(b, dtype=dtype) for b in ("reference", name)]
    histories = [
        net.fit(X.astype(dtype), Y.astype(dtype), epochs=5, batch_size=8, validation=(X, Y))
        for net in nets
    ]
    assert histories[0].loss == histories[1].loss
    assert histories[0].validation_loss == histories[1].validation_loss
    assert_same_bits(to_numpy(nets[1].parameters), nets[0].parameters)


def test_an_epoch_on_digits_has_the_same_bits_on_every_exact_backend() -> None:
    training, _ = digits().split()
    found = {}
    for name in ("reference", *EXACT):
        net = dp.MLP([64, 32, 10], output="softmax", backend=name)
        history = net.fit(training.X, training.Y, epochs=1, learning_rate=0.5)
        found[name] = (dp.digest(net.parameters), history.loss)
    assert len(found) > 1
    assert len({str(x) for x in found.values()}) == 1, found


def test_digits_are_learned() -> None:
    training, test = digits().split()
    net = dp.MLP([64, 32, 10], output="softmax", backend="numba")
    net.fit(training.X, training.Y, epochs=30, batch_size=32, learning_rate=0.5)
    right = np.argmax(net.predict(test.X), axis=1) == test.Y
    assert right.mean() >= 0.95


def test_type_checkers_know_the_keywords_of_fit() -> None:
    keywords = [p.name for p in signature(fit).parameters.values() if p.kind is p.KEYWORD_ONLY]
    types = get_type_hints(fit)
    assert get_type_hints(FitOptions) == {name: types[name] for name in keywords}
