"""fit: samples kept for validation, the best weights, when it stops, and the picture of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.check import to_numpy
from ensembles import N
from graphs import two_paths

M = 30
X, Y = sample((M, 2), "float32", 1), sample((M, 2), "float32", 2)
WEIGHTS = np.abs(sample(M, "float32", 3))

NETS: dict[str, Any] = {
    "layers": lambda backend: dp.MLP([2, 4, 2], backend=backend),
    "graph": lambda backend: two_paths("float32", backend),
    "members": lambda backend: dp.MLP([2, 4, 2], backend=backend, ensemble=N),
}
every_net = pytest.mark.parametrize("kind", NETS)


def numbers(net: Any) -> np.ndarray:
    return np.array(to_numpy(net.parameters))


# ------------------------------------------------------------------- samples for validation


@every_net
@pytest.mark.parametrize("seed", [None, 7])
def test_a_fraction_is_kept_from_training(backend, kind, seed):
    """Nine of thirty, drawn before the orders of the epochs; by hand, with the weights."""
    net, hand = NETS[kind](backend), NETS[kind](backend)
    history = net.fit(
        X, Y, epochs=3, sample_weight=WEIGHTS, validation=0.3, seed=seed, batch_size=8
    )
    if seed is None:
        held, left = np.arange(21, 30), np.arange(21)
        orders = [np.arange(21)] * 3
    else:
        random = np.random.Generator(np.random.PCG64(seed))
        drawn = random.permutation(M)
        held, left = np.sort(drawn[:9]), np.sort(drawn[9:])
        orders = [random.permutation(21) for _ in range(3)]
    for order, loss in zip(orders, history.validation_loss):
        for start in range(0, 21, 8):
            rows = left[order[start : start + 8]]
            hand.train_step(X[rows], Y[rows], sample_weight=WEIGHTS[rows])
        wanted = hand.loss(X[held], Y[held], sample_weight=WEIGHTS[held])
        assert_same_bits(np.asarray(loss), np.asarray(wanted, np.float64))
    assert_same_bits(numbers(net), numbers(hand))


def test_members_may_have_samples_of_their_own(exact):
    """Labels, inputs and weights of each; all keep the same rows for validation."""
    each, labels = sample((N, M, 2), "float32", 4), np.arange(N * M).reshape(N, M) % 2
    weights = np.abs(sample((N, M), "float32", 5))
    nets = dp.MLP([2, 4, 2], output="softmax", backend=exact, ensemble=N)
    ones = [nets.member(e) for e in range(N)]
    options = {"epochs": 2, "validation": 0.2, "seed": 3}
    history = nets.fit(each, labels, sample_weight=weights, **options)
    for e, one in enumerate(ones):
        alone = one.fit(each[e], labels[e], sample_weight=weights[e], **options)
        assert_same_bits(numbers(nets)[e], numbers(one))
        assert [loss[e] for loss in history.validation_loss] == alone.validation_loss


def test_what_is_given_is_not_changed():
    x, y = X.copy(), Y.copy()
    dp.MLP([2, 2], backend="numba").fit(x, y, validation=0.5, epochs=2, patience=1)
    assert_same_bits(x, X)
    assert_same_bits(y, Y)


# ----------------------------------------------------------------- the best epoch and the end


def losses_of(kind: str, losses: list[Any], **options: Any) -> tuple[Any, list[np.ndarray], Any]:
    """A training whose validation losses are those; the net, its weights by epoch, the history."""
    net, seen = NETS[kind]("numpy"), []
    given = iter(losses)
    real = type(net)._loss_of
    net._loss_of = lambda *args: (real(net, *args), np.array(next(given)))[1]
    options = {"callbacks": [lambda net, _: seen.append(numbers(net))], **options}
    history = net.fit(X, Y, epochs=len(losses), validation=(X, Y), progress=False, **options)
    return net, seen, history


STOPS = [  # losses; patience, tolerance; the best epoch, how many there are, why it ends
    ([5, 4, 3, 2], 2, 0, 4, 4, "epochs"),
    ([5, 4, 4, 4, 1], 2, 0, 2, 4, "patience"),
    ([5, 4, 6, 3, 7, 8, 1], 2, 0, 4, 6, "patience"),
    ([5, 4, 6, 3], 1, 0, 2, 3, "patience"),
    ([5, 4.5, 3.9, 3.5, 3.1], 2, 1.0, 3, 5, "patience"),
    ([5, 4.0, 4.0, 3.8], 2, 1.0, 1, 3, "patience"),
    ([np.nan, 3, np.nan, 2], 3, 0, 4, 4, "epochs"),
    ([np.nan, np.nan, np.nan], 2, 0, 0, 2, "patience"),
    ([np.inf, np.inf, 3], 2, 0, 0, 2, "patience"),
    ([3, 2, 4], None, 0, 2, 3, "epochs"),
]


@pytest.mark.parametrize(("losses", "patience", "tolerance", "best", "epochs", "why"), STOPS)
@pytest.mark.parametrize("kind", ["layers", "graph"])
def test_the_best_weights_come_back(kind, losses, patience, tolerance, best, epochs, why):
    net, seen, history = losses_of(kind, losses, patience=patience, tolerance=tolerance)
    assert (history.best_epoch, len(history.loss), history.stopped) == (best, epochs, why)
    assert_same_bits(np.array(history.validation_loss), np.array(losses[:epochs], np.float64))
    last = best if patience and best else epochs
    assert_same_bits(numbers(net), seen[last - 1])
    assert all(np.any(x != y) for x, y in pairwise(seen))


def test_every_member_has_a_best_epoch():
    """The first is best in 3, the second in 1, the third never a number."""
    losses = [[5, 1, np.nan], [4, 2, np.nan], [3, 2, np.nan], [3, 3, np.nan], [3, 9, np.inf]]
    net, seen, history = losses_of("members", [*losses, losses[0]], patience=2)
    assert history.best_epoch.tolist() == [3, 1, 0]
    assert (len(history.loss), history.stopped) == (5, "patience")
    wanted = np.stack([seen[2][0], seen[0][1], seen[4][2]])
    assert_same_bits(numbers(net), wanted)


@every_net
def test_every_backend_brings_them_back(backend, kind):
    """A rate so large that the loss gets worse; an undisturbed training of so many epochs."""
    options = {"learning_rate": 2.5, "batch_size": 8, "validation": 0.3}
    net = NETS[kind](backend)
    history = net.fit(X, Y, epochs=8, patience=3, **options)
    best = np.reshape(history.best_epoch, -1)
    table = np.array(history.validation_loss).reshape(len(history.loss), -1)
    assert np.array_equal(np.argmin(table, axis=0) + 1, best)
    assert np.any(best < len(history.loss)), "not a test: the last epoch is the best"
    for e, epochs in enumerate(best):
        other = NETS[kind](backend)
        other.fit(X, Y, epochs=int(epochs), **options)
        rows = (numbers(x).reshape(len(best), -1)[e] for x in (net, other))
        assert_same_bits(*rows)


def test_without_validation_the_training_loss_is_watched():
    net, seen = NETS["layers"]("numpy"), []
    history = net.fit(
        X,
        Y,
        epochs=50,
        patience=2,
        learning_rate=4.0,
        callbacks=[lambda net, _: seen.append(numbers(net))],
    )
    assert history.stopped == "patience"
    assert history.best_epoch == np.argmin(history.loss) + 1 == len(history.loss) - 2
    assert history.validation_loss == []
    assert_same_bits(numbers(net), seen[-1])


# -------------------------------------------------------------------------------- callbacks


@every_net
def test_callbacks(backend, kind):
    """All are called after each epoch, with what there is then; any of them ends the training."""
    seen: list[Any] = []

    def look(net: Any, history: dp.History) -> None:
        seen.append((net, len(history.loss), len(history.validation_loss), history.stopped))

    net = NETS[kind](backend)
    callbacks = (look, lambda _, history: len(history.loss) == 3, look)
    history = net.fit(X, Y, epochs=9, validation=(X, Y), callbacks=callbacks)
    assert history.stopped == "callback"
    assert seen == [(net, n, n, None) for n in (1, 1, 2, 2, 3, 3)]


def test_a_callback_may_change_the_net():
    def halve(net: dp.MLP, history: dp.History) -> None:
        net.parameters[...] *= np.float32(0.5)

    net, hand = (dp.MLP([2, 4, 2], backend="numba") for _ in range(2))
    net.fit(X, Y, epochs=2, batch_size=M, seed=None, callbacks=[halve])
    for _ in range(2):
        hand.train_step(X, Y)
        halve(hand, dp.History())
    assert_same_bits(numbers(net), numbers(hand))


# ---------------------------------------------------------------------------- bad arguments

BAD = [
    ({"patience": 0}, ValueError, "patience must be at least 1"),
    ({"patience": 2.0}, TypeError, "patience must be an integer"),
    ({"tolerance": -1.0}, ValueError, "tolerance must be finite"),
    ({"tolerance": np.nan}, ValueError, "tolerance must be finite"),
    ({"validation": 1.0}, ValueError, "got 1.0 of 30 samples"),
    ({"validation": 0.0}, ValueError, "fraction that leaves samples"),
    ({"validation": -0.1}, ValueError, "fraction that leaves samples"),
    ({"validation": np.nan}, ValueError, "fraction that leaves samples"),
    ({"validation": 0.01}, ValueError, "got 0.01 of 30 samples"),
    ({"validation": 0.99}, ValueError, "got 0.99 of 30 samples"),
    ({"validation": 1}, TypeError, r"a pair \(X, Y\), or the fraction"),
    ({"validation": True}, TypeError, r"a pair \(X, Y\), or the fraction"),
    ({"callbacks": lambda net, history: None}, TypeError, "a list of functions"),
    ({"callbacks": [None]}, TypeError, r"callbacks\[0\] must be a function"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD, ids=lambda x: str(x)[:30])
def test_bad_arguments_change_nothing(options, error, words):
    net = NETS["layers"]("numba")
    before = numbers(net)
    with pytest.raises(error, match=words):
        net.fit(X, Y, optimizer=dp.Adam(), **options)
    assert_same_bits(numbers(net), before)
    assert net._state is None


# ------------------------------------------------------------------------------ the picture


def drawn(history: dp.History) -> Any:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert history.plot(ax) is ax
    ax.figure.canvas.draw()
    return ax


def test_the_picture_has_the_losses():
    history = dp.History([3.0, 2.0, 1.0], [3.5, 2.0, 2.5], [0.1] * 3, best_epoch=2)
    ax = drawn(history)
    lines = [line.get_xydata().tolist() for line in ax.lines]
    assert lines == [[[1, 3], [2, 2], [3, 1]], [[1, 3.5], [2, 2], [3, 2.5]], [[2, 2]]]
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == [
        "training, before each step",
        "validation, after each epoch",
        "best, epoch 2",
    ]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "loss", "log")


def test_the_picture_of_members_has_a_line_for_each():
    losses = [np.array([3.0, 4.0]), np.array([2.0, np.nan])]
    ax = drawn(dp.History(losses, losses, [0.1] * 2, best_epoch=np.array([2, 0])))
    assert len(ax.lines) == 5
    assert ax.lines[-1].get_xydata().tolist() == [[2, 2]]
    assert len(ax.get_legend().get_texts()) == 3


@pytest.mark.parametrize("loss", [[0.0, 1.0], [np.nan, np.nan], [1.0], [-1.0, 2.0]])
def test_a_picture_of_any_losses(loss):
    ax = drawn(dp.History(loss, [], [0.1] * len(loss)))
    assert len(ax.lines) == 1
    assert ax.get_yscale() == ("log" if min(loss) > 0 or np.isnan(loss[0]) else "linear")


def test_a_new_figure():
    with matplotlib.rc_context({"backend": "agg"}):
        from matplotlib import pyplot

        ax = dp.History([1.0], [], [0.1]).plot()
        assert ax in pyplot.gcf().axes
        pyplot.close()
