"""Optimizers: how a gradient changes the parameters, and what is remembered from step to step.

An optimizer is a few rules of the dialect, one for the new value of each state and one for that
of w. They are computed in this order, number by number, in one pass over all parameters; each
sees the new values of the states before it. What depends on hyperparameters and on the number of
the step alone is a constant: made on the host in float64, rounded once, given at run time.

To add an optimizer, add it here: every backend and test reads `OPTIMIZERS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from inspect import Parameter, Signature, signature
from typing import Any

import numpy as np

from deltaprop.arrays import check_rate
from deltaprop.scalar import DTYPES, Number, Rule, fma, sqrt
from deltaprop.schedules import Rate, Schedule, power, rate_at

STATES, CONSTANTS = 2, 6
"""The most that an optimizer may have."""

Rules = tuple[Rule, ...]
"""Of each state, then of w. All take the same numbers: w, g, the states, the constants."""

_NUMBERS = ("w", "g", *(f"s{i}" for i in range(STATES)), *(f"c{i}" for i in range(CONSTANTS)))
_SIGNATURE = Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in _NUMBERS])


def rules_of(constants: str, **rules: Rule) -> tuple[Rules, Rules]:
    """Rules that name what they take, as rules of all numbers: as they are, and of a decay.

    Each is named by what it is the new value of, w last; `constants` names the first constants.
    With a decay, which is the last constant, g stands for fma(decay, w, g).
    """
    *states, _ = rules
    named = dict(zip(states, _NUMBERS[2:])) | dict(zip(constants.split(), _NUMBERS[2 + STATES :]))
    plain, decayed = (
        tuple(_of_all(rule, named, decays) for rule in rules.values()) for decays in (False, True)
    )
    return plain, decayed


def _of_all(rule: Rule, named: dict[str, str], decays: bool) -> Rule:
    taken = [named.get(name, name) for name in signature(rule).parameters]

    def of_all(*numbers: Any) -> Number:
        given = dict(zip(_NUMBERS, numbers))
        if decays:
            given["g"] = fma(given[_NUMBERS[-1]], given["w"], given["g"])
        return rule(*(given[name] for name in taken))

    of_all.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
    return of_all


def numbers_of(w: Any, g: Any, states: Sequence[Any], constants: Sequence[Any]) -> list[Any]:
    """What rules take: None for states that there are not, 0 for constants."""
    no_states, no_constants = STATES - len(states), CONSTANTS - len(constants)
    return [w, g, *states, *[None] * no_states, *constants, *[0.0] * no_constants]


_SGD = rules_of("eta", w=lambda w, g, eta: fma(-eta, g, w))
_MOMENTUM = rules_of(
    "eta mu",
    v=lambda g, v, mu: fma(mu, v, g),
    w=lambda w, v, eta: fma(-eta, v, w),
)
_NESTEROV = rules_of(
    "eta mu",
    v=lambda g, v, mu: fma(mu, v, g),
    w=lambda w, g, v, eta, mu: fma(-eta, fma(mu, v, g), w),
)
# A mean that forgets takes a step towards the new value: fma(1 - beta, g - m, m). With beta and
# 1 - beta, both rounded, it would forget more or less than it learns.
_RMSPROP = rules_of(
    "eta a eps",
    v=lambda g, v, a: fma(a, fma(g, g, -v), v),
    w=lambda w, g, v, eta, eps: fma(-eta, g / (sqrt(v) + eps), w),
)
_ADAM = rules_of(
    "eta a b c eps",
    m=lambda g, m, a: fma(a, g - m, m),
    v=lambda g, v, b: fma(b, fma(g, g, -v), v),
    w=lambda w, m, v, eta, c, eps: fma(-eta, m / (sqrt(c * v) + eps), w),
)
_ADAMW = rules_of(
    "eta a b c eps decay",
    m=lambda g, m, a: fma(a, g - m, m),
    v=lambda g, v, b: fma(b, fma(g, g, -v), v),
    w=lambda w, m, v, eta, c, eps, decay: fma(-eta, m / (sqrt(c * v) + eps), fma(-decay, w, w)),
)
DESCENT = _SGD[0]
"""w <- fma(-eta, g, w)."""

RATE = 0.1
"""The learning rate where none is given: this very object."""


# ------------------------------------------------------------------------------ the optimizers


@dataclass(frozen=True)
class Optimizer(ABC):
    """How steps are taken: see `SGD`, `Momentum`, `RMSProp`, `Adam`, `AdamW`.

    A value of hyperparameters; what it remembers of a net is kept by that net, from step to step,
    for as long as steps are taken by an optimizer of the same class. Hyperparameters may change.

    `learning_rate` is one number, or a schedule of them (`deltaprop.schedules`); for an ensemble
    it may be a list with one for each member. With `clip_norm`, a gradient of a larger norm is
    scaled down to it first, that of each member alone; with the weight decay it has nothing to do.
    Raises TypeError or ValueError, naming the hyperparameter, for one that is out of range.
    """

    learning_rate: Rate | Sequence[Rate]
    clip_norm: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for part in fields(self):
            checked = _checked(part.name, getattr(self, part.name))
            object.__setattr__(self, part.name, checked)

    @property
    @abstractmethod
    def rules(self) -> Rules:
        """Of each state, then of w."""

    def rates(self, steps: int) -> float | tuple[float, ...]:
        """eta of the step after so many, or that of each member."""
        if isinstance(self.learning_rate, Sequence):
            return tuple(rate_at(eta, steps) for eta in self.learning_rate)
        return rate_at(self.learning_rate, steps)

    @abstractmethod
    def constants(self, eta: float, step: int) -> tuple[float, ...]:
        """c0, c1, ... of that step, from 1, with that learning rate."""

    def check(self, dtype: np.dtype[Any]) -> None:
        """Raises ValueError for hyperparameters that make no sense in that dtype."""
        if not dtype.type(eps := getattr(self, "eps", 1.0)):
            raise ValueError(f"eps must be positive in {dtype}, got {eps}")
        if self.clip_norm and not dtype.type(check_rate("clip_norm", self.clip_norm, dtype)):
            raise ValueError(f"clip_norm must be positive in {dtype}, got {self.clip_norm}")


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent: w <- w - eta g. The same bits as steps with a plain learning rate.

    With a weight decay lambda, g is dE/dw + lambda w.
    """

    learning_rate: Rate | Sequence[Rate] = 0.1
    weight_decay: float = 0.0

    @property
    def rules(self) -> Rules:
        """Of w."""
        return _SGD[self.weight_decay > 0]

    def constants(self, eta: float, step: int) -> tuple[float, ...]:
        """eta, and the decay."""
        return eta, 0.0, 0.0, 0.0, 0.0, self.weight_decay


@dataclass(frozen=True)
class Momentum(Optimizer):
    """v <- mu v + g, w <- w - eta v; Nesterov's form w <- w - eta (g + mu v). v begins as 0.

    With a weight decay lambda, g is dE/dw + lambda w.
    """

    learning_rate: Rate | Sequence[Rate] = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    @property
    def rules(self) -> Rules:
        """Of v and w."""
        return (_NESTEROV if self.nesterov else _MOMENTUM)[self.weight_decay > 0]

    def constants(self, eta: float, step: int) -> tuple[float, ...]:
        """eta, mu, and the decay."""
        return eta, self.momentum, 0.0, 0.0, 0.0, self.weight_decay


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """v <- alpha v + (1 - alpha) g^2, w <- w - eta g / (sqrt v + eps). v begins as 0.

    With a weight decay lambda, g is dE/dw + lambda w.
    """

    learning_rate: Rate | Sequence[Rate] = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0

    @property
    def rules(self) -> Rules:
        """Of v and w."""
        return _RMSPROP[self.weight_decay > 0]

    def constants(self, eta: float, step: int) -> tuple[float, ...]:
        """eta, 1 - alpha, eps, and the decay."""
        return eta, 1 - self.alpha, self.eps, 0.0, 0.0, self.weight_decay


@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma and Ba's, with bias correction; in step t = 1, 2, ...

        m <- beta1 m + (1 - beta1) g        v <- beta2 v + (1 - beta2) g^2
        w <- w - eta m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    m and v begin as 0. With a weight decay lambda, g is dE/dw + lambda w.
    """

    learning_rate: Rate | Sequence[Rate] = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    @property
    def rules(self) -> Rules:
        """Of m, v and w."""
        return _ADAM[self.weight_decay > 0]

    def constants(self, eta: float, step: int) -> tuple[float, ...]:
        """eta / (1 - beta1^t), 1 - beta1, 1 - beta2, 1 / (1 - beta2^t), eps, and the decay."""
        corrected, correction = eta / (1 - power(self.beta1, step)), 1 - power(self.beta2, step)
        return (
            corrected,
            1 - self.beta1,
            1 - self.beta2,
            1 / correction,
            self.eps,
            self.weight_decay,
        )


@dataclass(frozen=True)
class AdamW(Adam):
    """As `Adam`, but the weight decay does not go through m and v: w <- w - eta lambda w first."""

    weight_decay: float = 1e-2

    @property
    def rules(self) -> Rules:
        """Of m, v and w."""
        return _ADAMW[0]

    def constants(self, eta: float, step: int) -> tuple[float, ...]:
        """As of `Adam`, and eta lambda."""
        return *super().constants(eta, step)[:-1], eta * self.weight_decay


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    kind.__name__: kind for kind in (SGD, Momentum, RMSProp, Adam, AdamW)
}


def _checked(name: str, value: Any) -> Any:
    """A hyperparameter in its range: a float, a bool, a schedule, or a tuple of learning rates."""
    if name == "nesterov":
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"nesterov must be True or False, got {value!r}")
        return bool(value)
    if isinstance(value, Schedule) and name.startswith("learning_rate"):
        return value
    is_list = isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1
    if name == "learning_rate" and is_list:
        return tuple(_checked(f"learning_rate[{e}]", eta) for e, eta in enumerate(value))
    if name == "clip_norm" and value is None:
        return None
    number = check_rate(name, value, DTYPES["float64"])
    if name in ("eps", "clip_norm") and not number:
        raise ValueError(f"{name} must be positive, got {value}")
    if name in ("momentum", "alpha", "beta1", "beta2") and number >= 1:
        raise ValueError(f"{name} must be below 1, got {value}")
    return number
