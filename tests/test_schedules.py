"""Schedules: the numbers they give, where they may stand, and what they refuse."""

from __future__ import annotations

import copy
import hashlib
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from mpmath import cos, mp, mpf, pi

import deltaprop as dp
from conftest import EXACT, assert_same_bits, sample
from deltaprop import schedules
from deltaprop.check import to_numpy
from deltaprop.schedules import (
    CosineDecay,
    ExponentialDecay,
    OneCycle,
    PolynomialDecay,
    StepDecay,
    Warmup,
)
from ensembles import N
from graphs import two_paths

M = 20
X, Y = sample((M, 2), "float32", 1), sample((M, 2), "float32", 2)
NETS: dict[str, Any] = {
    "layers": lambda backend: dp.MLP([2, 5, 2], "tanh", backend=backend),
    "graph": lambda backend: two_paths("float32", backend),
    "members": lambda backend: dp.MLP([2, 5, 2], backend=backend, ensemble=N),
}
every_net = pytest.mark.parametrize("kind", NETS)


def numbers(net: Any) -> np.ndarray:
    return np.array(to_numpy(net.parameters))


# ---------------------------------------------------------------------------------- numbers

FORMULAS: list[tuple[schedules.Schedule, Any]] = [  # and what it is of t, in mpmath
    (StepDecay(0.3, 100), lambda t: mpf(0.3) * mpf(0.1) ** (t // 100)),
    (StepDecay(0.3, 7, 0.9), lambda t: mpf(0.3) * mpf(0.9) ** (t // 7)),
    (ExponentialDecay(0.5, 0.999), lambda t: mpf(0.5) * mpf(0.999) ** t),
    (PolynomialDecay(0.1, 500), lambda t: mpf(0.1) * max(1 - mpf(t) / 500, 0)),
    (
        PolynomialDecay(0.01, 333, 0.4, degree=3),
        lambda t: mpf(0.4) + (mpf(0.01) - mpf(0.4)) * max(1 - mpf(t) / 333, 0) ** 3,
    ),
    (CosineDecay(0.1, 700), lambda t: mpf(0.1) * half_cosine(t, 700)),
    (CosineDecay(0.1, 9, 0.02), lambda t: mpf(0.02) + mpf(0.08) * half_cosine(t, 9)),
    (
        Warmup(CosineDecay(0.1, 400), 50, start=0.01),
        lambda t: mpf(0.01) + mpf(0.09) * t / 50 if t < 50 else mpf(0.1) * half_cosine(t - 50, 400),
    ),
    (Warmup(0.2, 10), lambda t: mpf(0.2) * min(t, 10) / 10),
    (
        OneCycle(2.0, 600),
        lambda t: (
            mpf(2) * (1 - mpf(0.96) * half_cosine(t, 180))
            if t < 180
            else mpf(2) * half_cosine(t - 180, 420)
        ),
    ),
]


def half_cosine(t: int, steps: int) -> Any:
    return (1 + cos(pi * min(t, steps) / steps)) / 2


@pytest.mark.parametrize(("schedule", "formula"), FORMULAS, ids=[str(s) for s, _ in FORMULAS])
def test_the_formulas(schedule, formula):
    """To a few roundings of the largest number in them; of a power, so many more."""
    with mp.workdps(40):
        for t in (*range(0, 60, 7), *range(100, 2000, 137), 179, 180, 181, 333, 400, 449, 450, 700):
            wanted = formula(t)
            largest = max(vars(schedule).get("final", 0), formula(0), wanted)
            error = abs(mpf(schedule(t)) - wanted)
            assert error <= 8 * 2.0**-53 * largest + 1e-15 * t * wanted, t


def test_by_hand():
    """Numbers that need no rounding."""
    assert [StepDecay(8.0, 2, 0.5)(t) for t in range(6)] == [8, 8, 4, 4, 2, 2]
    assert [ExponentialDecay(8.0, 0.5)(t) for t in range(4)] == [8, 4, 2, 1]
    assert [PolynomialDecay(4.0, 4)(t) for t in range(6)] == [4, 3, 2, 1, 0, 0]
    assert [PolynomialDecay(0.0, 4, 16.0, 2)(t) for t in range(6)] == [0, 7, 12, 15, 16, 16]
    assert [CosineDecay(4.0, 6)(t) for t in (0, 2, 3, 4, 6, 7)] == pytest.approx([4, 3, 2, 1, 0, 0])
    assert [Warmup(8.0, 4, 4.0)(t) for t in range(6)] == [4, 5, 6, 7, 8, 8]
    assert [Warmup(PolynomialDecay(4.0, 2), 2)(t) for t in range(6)] == [0, 2, 4, 2, 0, 0]
    assert [OneCycle(4.0, 6, 0.5, 0.5, 0.25)(t) for t in range(8)] == pytest.approx(
        [2, 2.5, 3.5, 4, 3.25, 1.75, 1, 1]
    )


ALL = [schedule for schedule, _ in FORMULAS]
every_schedule = pytest.mark.parametrize("schedule", ALL, ids=str)


@every_schedule
def test_the_ends_are_exact(schedule):
    """The first and the last are the numbers that were given."""
    first = {"initial": lambda x: x, "peak": lambda x: x * schedule.start, "start": lambda x: x}
    name = next(name for name in first if hasattr(schedule, name))
    assert schedule(0) == first[name](getattr(schedule, name))
    if isinstance(schedule, (PolynomialDecay, CosineDecay)):
        assert schedule(schedule.steps) == schedule(10**9) == schedule.final
    if isinstance(schedule, OneCycle):
        assert schedule(180) == schedule.peak and schedule(600) == 0


def test_the_bits_are_written_down():
    """The same on every machine: a digest of the first thousands of each."""
    together = hashlib.sha256()
    for schedule in ALL:
        etas = [schedule(t) for t in range(1500)]
        assert all(type(eta) is float and 0 <= eta < 3 for eta in etas)
        together.update(np.array(etas, "<f8").tobytes())
    assert together.hexdigest()[:16] == "470167c0687f86d1"


# ---------------------------------------------------------------------------- where they stand


@every_net
def test_a_schedule_is_descent(backend, kind):
    """Plain steps, each at its own rate: in `fit`, in `train_step`, and of SGD."""
    schedule = Warmup(CosineDecay(0.5, 4), 2, 0.1)
    hand = NETS[kind](backend)
    for t, rows in enumerate([slice(0, 8), slice(8, 16), slice(16, M)] * 2):
        hand.train_step(X[rows], Y[rows], learning_rate=schedule(t))
    for options in ({"learning_rate": schedule}, {"optimizer": dp.SGD(schedule)}):
        net, stepped = NETS[kind](backend), NETS[kind](backend)
        net.fit(X, Y, epochs=1, batch_size=8, seed=None, **options)
        net.fit(X, Y, epochs=1, batch_size=8, seed=None, **options)
        assert_same_bits(numbers(net), numbers(hand))
        for rows in [slice(0, 8), slice(8, 16), slice(16, M)] * 2:
            stepped.train_step(X[rows], Y[rows], **options)
        assert_same_bits(numbers(stepped), numbers(hand))


@pytest.mark.parametrize("optimizer", [dp.Momentum, dp.RMSProp, dp.Adam, dp.AdamW])
def test_every_optimizer_takes_one(optimizer):
    schedule = PolynomialDecay(0.1, 3)
    net, hand = NETS["layers"]("numba"), NETS["layers"]("numba")
    for t in range(5):
        net.train_step(X, Y, optimizer=optimizer(schedule))
        hand.train_step(X, Y, optimizer=optimizer(schedule(t)))
        assert_same_bits(numbers(net), numbers(hand), f"step {t}")
    net.reset_optimizer()
    hand.reset_optimizer()
    net.train_step(X, Y, optimizer=optimizer(schedule))
    hand.train_step(X, Y, optimizer=optimizer(0.1))
    assert_same_bits(numbers(net), numbers(hand))


def test_members_have_schedules_of_their_own(backend):
    rates = [0.3, CosineDecay(0.4, 5), StepDecay(0.5, 2)]
    nets = NETS["members"](backend)
    ones = [nets.member(e) for e in range(N)]
    nets.fit(X, Y, epochs=2, batch_size=8, learning_rate=rates)
    for e, (one, rate) in enumerate(zip(ones, rates)):
        one.fit(X, Y, epochs=2, batch_size=8, learning_rate=rate)
        if backend != "numpy":
            assert_same_bits(numbers(nets)[e], numbers(one), f"member {e}")


def test_every_exact_backend_has_the_same_bits():
    found = {}
    for name in ("reference", *EXACT):
        net = NETS["layers"](name)
        net.fit(X, Y, epochs=3, batch_size=8, optimizer=dp.Adam(OneCycle(0.1, 9)))
        found[name] = dp.digest(net.parameters)
    assert len(found) > 1 and len(set(found.values())) == 1, found


@dataclass(frozen=True)
class Cyclic(schedules.Schedule):
    rates: tuple[float, ...]

    def __call__(self, step: int) -> float:
        return self.rates[step % len(self.rates)]


def test_one_of_ones_own():
    net, hand = NETS["layers"]("numba"), NETS["layers"]("numba")
    for rate in (0.1, 0.3, 0.1):
        hand.train_step(X, Y, learning_rate=rate)
    net.fit(X, Y, epochs=3, batch_size=M, seed=None, learning_rate=Cyclic((0.1, 0.3)))
    assert_same_bits(numbers(net), numbers(hand))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, 1e39, "0.1", None])
def test_a_bad_rate_stops_before_its_step(backend, bad):
    net, hand = NETS["layers"](backend), NETS["layers"](backend)
    schedule = Cyclic((0.1, bad))
    net.train_step(X, Y, learning_rate=schedule)
    hand.train_step(X, Y, learning_rate=0.1)
    for train in (net.train_step, net.fit):
        with pytest.raises((ValueError, TypeError), match="learning_rate must be"):
            train(X, Y, learning_rate=schedule)
    assert net._state.steps == 1
    assert_same_bits(numbers(net), numbers(hand))


# ------------------------------------------------------------------------------ what is refused

BAD: list[tuple[type[Exception], str, Any]] = [
    (ValueError, "initial must be finite .* got -1", lambda: CosineDecay(-1, 5)),
    (ValueError, "initial must be finite .* got nan", lambda: StepDecay(np.nan, 5)),
    (TypeError, "initial must be a number, got CosineDecay", lambda: StepDecay(ALL[5], 5)),
    (ValueError, "steps must be at least 1, got 0", lambda: CosineDecay(0.1, 0)),
    (TypeError, "steps must be an integer, got float", lambda: CosineDecay(0.1, 5.0)),
    (ValueError, "every must be at least 1", lambda: StepDecay(0.1, 0)),
    (ValueError, "factor must be at most 1, got 1.5", lambda: StepDecay(0.1, 5, 1.5)),
    (ValueError, "factor must be finite .* got -0.5", lambda: ExponentialDecay(0.1, -0.5)),
    (ValueError, "degree must be at least 1", lambda: PolynomialDecay(0.1, 5, degree=0)),
    (ValueError, "final must be finite", lambda: PolynomialDecay(0.1, 5, final=-1)),
    (TypeError, "after must be a number, got str", lambda: Warmup("0.1", 5)),
    (ValueError, "rise must be at most 1, got 2", lambda: OneCycle(0.1, 5, rise=2)),
    (TypeError, "learning_rate must be a number, got function", lambda: dp.SGD(lambda t: 0.1)),
    (TypeError, r"learning_rate\[1\] must be a number, got list", lambda: dp.SGD([0.1, [1]])),
]


@pytest.mark.parametrize(("error", "words", "make"), BAD, ids=[words for _, words, _ in BAD])
def test_bad_numbers(error, words, make):
    with pytest.raises(error, match=words):
        make()


def test_an_ensemble_wants_as_many_as_members():
    with pytest.raises(ValueError, match=r"must be a number or have shape \(3,\), got \(2,\)"):
        NETS["members"]("numba").train_step(X, Y, learning_rate=[0.1, CosineDecay(0.1, 5)])


@every_schedule
def test_a_schedule_is_a_value(schedule):
    for other in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert other == schedule and hash(other) == hash(schedule)
    assert eval(repr(schedule), vars(schedules)) == schedule
    with pytest.raises(AttributeError):
        schedule.steps = 1
    optimizer = dp.Adam(schedule)
    assert eval(repr(optimizer), vars(dp) | vars(schedules)) == optimizer


def test_all_of_them_are_tested():
    assert {type(schedule).__name__ for schedule in ALL} | {"Schedule"} == set(schedules.__all__)
