"""Optimizers: their hyperparameters, what a net remembers for them, and what steps they take."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import EXACT, assert_same_bits, sample
from deltaprop.check import to_numpy
from deltaprop.optimizers import OPTIMIZERS
from ensembles import N, ensemble
from graphs import two_paths

M = 20
ONES = [
    *(kind(0.05) for kind in OPTIMIZERS.values()),
    dp.SGD(0.05, weight_decay=0.1),
    dp.Momentum(0.05, nesterov=True),
]
every_optimizer = pytest.mark.parametrize("optimizer", ONES, ids=str)

NETS: dict[str, Any] = {
    "layers": lambda backend, dtype: dp.MLP([2, 5, 2], "tanh", dtype=dtype, backend=backend),
    "graph": lambda backend, dtype: two_paths(dtype, backend),
    "members": lambda backend, dtype: dp.MLP([2, 5, 2], dtype=dtype, backend=backend, ensemble=N),
}
every_net = pytest.mark.parametrize("kind", NETS)


def new_net(backend: str = "numpy", dtype: str = "float32", kind: str = "layers") -> Any:
    return NETS[kind](backend, dtype)


def new_batch(dtype: str = "float32", m: int = M) -> tuple[np.ndarray, np.ndarray]:
    return sample((m, 2), dtype, 1), sample((m, 2), dtype, 2)


def numbers(net: Any) -> np.ndarray:
    return np.array(to_numpy(net.parameters))


X, Y = new_batch()

# ------------------------------------------------------------------------------------ steps


@every_net
@every_optimizer
def test_a_step_is_that_of_the_gradient(backend, kind, optimizer):
    """What `value_and_grad` gives, into the rules; with sample weights, too."""
    net, hand = (new_net(backend, kind=kind) for _ in range(2))
    k, w = hand.kernels, np.abs(sample(M, "float32", 3))
    states = [k.arrays.asarray(0 * numbers(net).reshape(-1)) for _ in optimizer.rules[:-1]]
    for step, weights in enumerate((None, None, w, None), start=1):
        E = net.train_step(X, Y, sample_weight=weights, optimizer=optimizer)
        wanted, gradients = hand.value_and_grad(X, Y, sample_weight=weights)
        g = k.arrays.asarray(np.ascontiguousarray(gradients.flat).reshape(-1))
        constants = optimizer.constants(optimizer.learning_rate, step)
        k.update(hand.parameters.reshape(-1), g, states, optimizer.rules, constants)
        assert_same_bits(E, wanted)
        assert_same_bits(numbers(net), numbers(hand), f"step {step}")


@pytest.mark.parametrize("name", EXACT)
@every_net
def test_every_exact_backend_has_the_same_bits(name, dtype, kind):
    X, Y = new_batch(dtype)
    for optimizer in (dp.Adam(0.1, weight_decay=0.01), dp.Momentum(0.1, nesterov=True)):
        nets = [new_net(backend, dtype, kind) for backend in ("reference", name)]
        histories = [net.fit(X, Y, epochs=2, batch_size=12, optimizer=optimizer) for net in nets]
        assert_same_bits(np.array(histories[1].loss), np.array(histories[0].loss))
        assert_same_bits(numbers(nets[1]), numbers(nets[0]), str(optimizer))


@every_net
def test_sgd_is_a_plain_learning_rate(exact, dtype, kind):
    X, Y = new_batch(dtype)
    net, plain = (new_net(exact, dtype, kind) for _ in range(2))
    for _ in range(2):
        E = net.train_step(X, Y, optimizer=dp.SGD(0.3))
        assert_same_bits(E, plain.train_step(X, Y, learning_rate=0.3))
    net.fit(X, Y, epochs=2, optimizer=dp.SGD(0.3))
    plain.fit(X, Y, epochs=2, learning_rate=0.3)
    assert_same_bits(numbers(net), numbers(plain))


@every_net
def test_fit_takes_steps(backend, kind):
    """And goes on from where the last step was."""
    net, hand, adam = new_net(backend, kind=kind), new_net(backend, kind=kind), dp.Adam(0.01)
    losses = []
    for _ in range(2):
        losses += net.fit(X, Y, epochs=2, batch_size=8, seed=None, optimizer=adam).loss
    for loss in losses:
        total: Any = 0.0
        for rows in (slice(0, 8), slice(8, 16), slice(16, M)):
            E = hand.train_step(X[rows], Y[rows], optimizer=adam)
            total = total + np.asarray(E, np.float64) * len(X[rows])
        assert_same_bits(np.asarray(loss), total / M)
    assert_same_bits(numbers(net), numbers(hand))


def test_a_learning_rate_for_each_member(backend):
    rates, X = np.array([0.3, 0.0, 0.1]), sample((M, 3), "float32", 1)
    for kind in OPTIMIZERS.values():
        nets = ensemble(backend)
        ones = [nets.member(e) for e in range(N)]
        nets.fit(X, Y, epochs=2, optimizer=kind(rates))
        for one, rate in zip(ones, rates):
            one.fit(X, Y, epochs=2, optimizer=kind(float(rate)))
        if backend != "numpy":
            assert_same_bits(numbers(nets), np.stack([numbers(one) for one in ones]), str(kind))


def test_training_gets_somewhere():
    for optimizer in ONES:
        net = new_net("numba")
        history = net.fit(X, np.sin(X), epochs=60, optimizer=optimizer)
        assert history.loss[-1] < 0.4 * history.loss[0], optimizer


# ----------------------------------------------------------------------- what is remembered


@every_net
def test_each_net_has_its_own(backend, kind):
    """Steps of two nets in turn are those of each alone."""
    adam, nets = dp.Adam(0.1), [new_net(backend, kind=kind) for _ in range(2)]
    alone = new_net(backend, kind=kind)
    for _ in range(3):
        for net in nets:
            net.train_step(X, Y, optimizer=adam)
        alone.train_step(X, Y, optimizer=adam)
    for net in nets:
        assert_same_bits(numbers(net), numbers(alone))


def begins_anew(net: Any, optimizer: Any) -> bool:
    """Whether the net's next step is the first one of the optimizer."""
    fresh = copy.deepcopy(net)
    for x in (net, fresh):
        x.train_step(X, Y, optimizer=optimizer)
    return numbers(net).tobytes() == numbers(fresh).tobytes()


@every_net
def test_what_forgets(backend, kind):
    adam, net = dp.Adam(0.1), new_net(backend, kind=kind)
    assert begins_anew(net, adam)
    assert not begins_anew(net, adam)
    net.train_step(X, Y, learning_rate=0.1)
    assert not begins_anew(net, dp.Adam(0.2, beta1=0.8))
    assert begins_anew(net, dp.AdamW(0.1))
    assert begins_anew(net, adam)
    net.reset_optimizer()
    assert begins_anew(net, adam)


COPIES = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "to": lambda net: net.to(),
    "float64": lambda net: net.to(dtype="float64").to(dtype="float32"),
}


@every_net
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_remembers_nothing(kind, way):
    """And the net that was copied goes on."""
    adam, net, other = dp.Adam(0.1), new_net(kind=kind), new_net(kind=kind)
    for x in (net, other):
        x.train_step(X, Y, optimizer=adam)
    made = COPIES[way](net)
    assert made._state is None
    assert begins_anew(made, adam)
    for x in (net, other):
        x.train_step(X, Y, optimizer=adam)
    assert_same_bits(numbers(net), numbers(other))


def test_a_graph_that_is_changed_begins_anew():
    net, adam = two_paths("float32", "numpy"), dp.Adam(0.1)
    net.train_step(X, Y, optimizer=adam)
    net.edge("x2", "y1", 0.5)
    assert begins_anew(net, adam)


@every_net
def test_an_error_changes_nothing(backend, kind):
    """Neither parameters nor what an optimizer remembers, if it is another one that fails."""
    net, other, adam = new_net(backend, kind=kind), new_net(backend, kind=kind), dp.Adam(0.1)
    for x in (net, other):
        x.train_step(X, Y, optimizer=adam)
    for bad in (X[:, :1], X.astype(np.complex64)):
        for optimizer in (adam, dp.Momentum(0.1)):
            with pytest.raises((ValueError, TypeError), match="X "):
                net.train_step(bad, Y, optimizer=optimizer)
    for x in (net, other):
        x.train_step(X, Y, optimizer=adam)
    assert_same_bits(numbers(net), numbers(other))


# --------------------------------------------------------------------------- hyperparameters

BAD: list[tuple[type[Exception], str, Any]] = [
    (
        ValueError,
        "learning_rate must be finite in float64 and not negative, got -1",
        lambda: dp.SGD(-1),
    ),
    (ValueError, "learning_rate must be finite .* got nan", lambda: dp.Adam(float("nan"))),
    (ValueError, "learning_rate must be finite .* got inf", lambda: dp.AdamW(np.inf)),
    (ValueError, r"learning_rate\[1\] must be finite .* got -2", lambda: dp.Adam([0.1, -2])),
    (TypeError, "learning_rate must be a number, got str", lambda: dp.SGD("0.1")),
    (TypeError, "learning_rate must be a number, got bool", lambda: dp.SGD(True)),
    (TypeError, "learning_rate must be a number, got NoneType", lambda: dp.Momentum(None)),
    (TypeError, "learning_rate must be a number, got ndarray", lambda: dp.SGD(np.ones((2, 2)))),
    (ValueError, "momentum must be below 1, got 1", lambda: dp.Momentum(momentum=1)),
    (ValueError, "momentum must be finite", lambda: dp.Momentum(momentum=-0.1)),
    (TypeError, "nesterov must be True or False, got 0.9", lambda: dp.Momentum(0.1, 0.9, 0.9)),
    (ValueError, "alpha must be below 1, got 1.5", lambda: dp.RMSProp(alpha=1.5)),
    (ValueError, "beta1 must be below 1, got 1.0", lambda: dp.Adam(beta1=1.0)),
    (ValueError, "beta2 must be below 1, got 2", lambda: dp.Adam(beta2=2)),
    (ValueError, "eps must be positive, got 0", lambda: dp.Adam(eps=0)),
    (ValueError, "weight_decay must be finite", lambda: dp.SGD(weight_decay=-1)),
    (TypeError, "weight_decay must be a number, got list", lambda: dp.SGD(weight_decay=[1])),
    (ValueError, "learning_rate must be finite .* got 1000", lambda: dp.SGD(10**400)),
]


@pytest.mark.parametrize(("error", "words", "make"), BAD, ids=[words for _, words, _ in BAD])
def test_bad_hyperparameters(error, words, make):
    with pytest.raises(error, match=words):
        make()


REFUSED: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "optimizer must be one of deltaprop's, .*got 'adam'", {"optimizer": "adam"}),
    (TypeError, "optimizer must be one of deltaprop's, .*got <class", {"optimizer": dp.Adam}),
    (TypeError, "learning rate is that of Adam", {"optimizer": dp.Adam(), "learning_rate": 0.1}),
    (ValueError, "learning_rate .* finite in float32", {"optimizer": dp.SGD(1e39)}),
    (ValueError, "float32 cannot hold .* step 1 of Adam", {"optimizer": dp.Adam(1e38)}),
    (ValueError, "float32 cannot hold .* of SGD", {"optimizer": dp.SGD(weight_decay=1e39)}),
    (ValueError, "eps must be positive in float32, got 1e-50", {"optimizer": dp.Adam(eps=1e-50)}),
    (TypeError, "learning_rate must be a number, got tuple", {"optimizer": dp.Adam([0.1, 0.2])}),
]


@pytest.mark.parametrize(("error", "words", "given"), REFUSED, ids=[w for _, w, _ in REFUSED])
def test_a_net_refuses_before_anything_changes(backend, error, words, given):
    net = new_net(backend)
    before = numbers(net)
    for train in (net.train_step, net.fit):
        with pytest.raises(error, match=words):
            train(X, Y, **given)
    assert_same_bits(numbers(net), before)
    assert net._state is None


def test_an_ensemble_wants_as_many_learning_rates_as_members():
    net = new_net(kind="members")
    with pytest.raises(ValueError, match=r"must be a number or have shape \(3,\), got \(2,\)"):
        net.train_step(X, Y, optimizer=dp.Adam([0.1, 0.2]))


@every_optimizer
def test_an_optimizer_is_a_value(optimizer):
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert other == optimizer and hash(other) == hash(optimizer)
        assert other.rules is optimizer.rules
    with pytest.raises(AttributeError):
        optimizer.learning_rate = 1.0
    rates = np.array([0.5, 0.25])
    assert type(optimizer)(rates) == type(optimizer)([0.5, 0.25])
    assert eval(repr(optimizer), vars(dp)) == optimizer


def test_hyperparameters_are_given_at_run_time():
    """Another learning rate, momentum or eps is the same rules: nothing is compiled for it."""
    for kind in OPTIMIZERS.values():
        assert kind(0.1).rules is kind(0.7).rules
    assert dp.Adam(beta1=0.5, eps=1e-3).rules is dp.Adam().rules
    assert dp.Momentum(momentum=0.5).rules is dp.Momentum().rules
    assert dp.Momentum(weight_decay=0.5).rules is dp.Momentum(weight_decay=0.1).rules
