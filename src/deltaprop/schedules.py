"""Learning rates that change from step to step: `learning_rate=CosineDecay(0.1, steps=1000)`.

A schedule gives eta at a step, counted from 0, in float64: by sums, products and quotients, and
where it needs a cosine by the project's own, so that it has the same bits everywhere. For another
one derive a frozen dataclass from `Schedule`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from deltaprop.arrays import check_count, check_rate
from deltaprop.emulation import rule
from deltaprop.periodic import cos
from deltaprop.scalar import DTYPES

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "OneCycle",
    "PolynomialDecay",
    "Schedule",
    "StepDecay",
    "Warmup",
]

TOGETHER = 1024
"""Steps whose cosines are computed at once: one alone takes almost as long."""


def power(x: float, n: int) -> float:
    """x^n by squaring, from the highest bit of n down: the same bits everywhere."""
    found = 1.0
    for bit in f"{n:b}":
        found *= found
        if bit == "1":
            found *= x
    return found


@dataclass(frozen=True)
class Schedule(ABC):
    """eta at each step of an optimizer: a value, called with the number of steps before it.

    Usable wherever a learning rate is: of every optimizer, of `fit` and `train_step`, and of
    each member of an ensemble. Steps are counted by what the net keeps for the optimizer. Each
    eta is checked before its step as a plain learning rate is.
    """

    @abstractmethod
    def __call__(self, step: int) -> float:
        """eta, finite and not negative, at step 0, 1, 2, ..."""


@dataclass(frozen=True)
class _Checked(Schedule):
    """One of those here. Raises TypeError or ValueError for a number that is out of range."""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name)))


@dataclass(frozen=True)
class StepDecay(_Checked):
    """initial * factor^floor(t / every): multiplied by `factor`, 0 to 1, after so many steps."""

    initial: float
    every: int
    factor: float = 0.1

    def __call__(self, step: int) -> float:
        """eta at step t."""
        return self.initial * power(self.factor, step // self.every)


@dataclass(frozen=True)
class ExponentialDecay(_Checked):
    """initial * factor^t: multiplied by `factor`, 0 to 1, after every step."""

    initial: float
    factor: float

    def __call__(self, step: int) -> float:
        """eta at step t."""
        return self.initial * power(self.factor, step)


@dataclass(frozen=True)
class PolynomialDecay(_Checked):
    """From `initial` to `final` in so many steps: final + (initial - final) (1 - t / steps)^degree.

    Degree 1 is a straight line. `final` may be the larger one; after `steps` it stays.
    """

    initial: float
    steps: int
    final: float = 0.0
    degree: int = 1

    def __call__(self, step: int) -> float:
        """eta at step t."""
        left = max(self.steps - step, 0) / self.steps
        return _between(self.final, self.initial, power(left, self.degree))


@dataclass(frozen=True)
class CosineDecay(_Checked):
    """From `initial` to `final` in so many steps, along half a cosine; then `final`.

        final + (initial - final) (1 + cos(pi t / steps)) / 2

    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """

    initial: float
    steps: int
    final: float = 0.0

    def __call__(self, step: int) -> float:
        """eta at step t."""
        return _between(self.final, self.initial, _half_cosine(step, self.steps))


@dataclass(frozen=True)
class Warmup(_Checked):
    """A straight line from `start` to what comes after it, in so many steps; then that.

    `after` is a number or a schedule, whose step 0 is the one after the line.
    """

    after: float | Schedule
    steps: int
    start: float = 0.0

    def __call__(self, step: int) -> float:
        """eta at step t."""
        if step >= self.steps:
            return rate_at(self.after, step - self.steps)
        return _between(self.start, rate_at(self.after, 0), step / self.steps)


@dataclass(frozen=True)
class OneCycle(_Checked):
    """Up to `peak` in the first part, `rise`, of the steps, then down, each along half a cosine.

    From `start` and to `final`, which are fractions of the peak.

    L. N. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large
    learning rates", 2017.
    """

    peak: float
    steps: int
    rise: float = 0.3
    start: float = 0.04
    final: float = 0.0

    def __call__(self, step: int) -> float:
        """eta at step t."""
        first = round(self.rise * self.steps)
        if step < first:
            return _between(self.peak, self.peak * self.start, _half_cosine(step, first))
        down = _half_cosine(step - first, self.steps - first)
        return _between(self.peak * self.final, self.peak, down)


Rate = float | Schedule
"""eta, of all steps or of each."""


def rate_at(rate: Rate, step: int) -> float:
    """eta at that step."""
    return rate(step) if isinstance(rate, Schedule) else rate


def _between(x: float, y: float, part: float) -> float:
    """x for part 0, y for part 1, both exactly; never below 0 where neither is."""
    return x * (1 - part) + y * part


def _half_cosine(step: int, steps: int) -> float:
    """(1 + cos(pi t / steps)) / 2: from 1 down to 0; 0 from there on."""
    if step >= steps:
        return 0.0
    return _half_cosines(steps, step // TOGETHER)[step % TOGETHER]


@lru_cache(64)
def _half_cosines(steps: int, block: int) -> tuple[float, ...]:
    t = np.arange(block * TOGETHER, (block + 1) * TOGETHER).astype(np.float64)
    return tuple((0.5 * (1 + rule(cos, np.pi * (t / steps)))).tolist())


def _checked(name: str, value: Any) -> Any:
    """What a schedule here is made of, in its range: a count, a rate, a fraction or a schedule."""
    if isinstance(value, Schedule) and name == "after":
        return value
    if name in ("steps", "every", "degree"):
        return check_count(name, value)
    number = check_rate(name, value, DTYPES["float64"])
    if name in ("factor", "rise") and number > 1:
        raise ValueError(f"{name} must be at most 1, got {value}")
    return number
