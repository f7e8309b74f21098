"""Losses: the error of one sample, its derivative, and the scale of the sum.

    E = scale * sum_i w_i e_i        e_i = sum_k x_k v_k over the outputs k

To add a loss, add it here: every backend, test and benchmark reads `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pickle import PicklingError
from typing import Any

from deltaprop import elementary as el
from deltaprop.errors import find
from deltaprop.scalar import Real, Rule, fma, maximum, select


@dataclass(frozen=True)
class Loss:
    """One loss as rules of the dialect.

    factors
        x and v of one output, rules of (s, y); s is the output's array named by `of`:
        "a", "z", or "log_softmax" of z.
    residual
        dE/da of one output over the scale, a rule of (a, y); with a canonical `link`
        (softmax, logistic) it is dE/dz: the slope has cancelled.
    scale, delta_scale
        of (m, n) = (samples, outputs): what the sum of the e_i and the residual are
        multiplied by. Both are rounded once to the dtype.
    link
        the one output activation that the loss goes with, or None for any but softmax.
    """

    name: str
    factors: tuple[Rule, Rule]
    residual: Rule
    scale: Callable[[int, int], float]
    delta_scale: Callable[[int, int], float]
    of: str = "a"
    link: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its name."""
        if LOSSES.get(self.name) is not self:
            raise PicklingError(f"loss {self.name!r} is not in deltaprop's table: not pickled")
        return loss_named, (self.name,)

    def __copy__(self) -> Loss:
        """Itself: it never changes."""
        return self

    def __deepcopy__(self, memo: object) -> Loss:
        return self


def _squared_error(
    name: str, scale: Callable[[int, int], float], delta_scale: Callable[[int, int], float]
) -> Loss:
    """(a - y)^2, whose derivative's factor 2 is in `delta_scale`."""
    return Loss(name, (_difference, _difference), _difference, scale, delta_scale)


def _difference(a: Real, y: Real) -> Real:
    return a - y


def _binary_cross_entropy(z: Real, y: Real) -> Real:
    """-y ln a - (1 - y) ln(1 - a) for a = logistic(z): no term cancels another."""
    unlikely = el.log1p(el.exp(-abs(z)))
    return fma(y, maximum(-z, 0), fma(1 - y, maximum(z, 0), unlikely))


_ALL = (
    _squared_error("half_sse", lambda m, n: 0.5, lambda m, n: 1.0),
    _squared_error("half_mse", lambda m, n: 0.5 / m, lambda m, n: 1.0 / m),
    _squared_error("mse", lambda m, n: 1.0 / (m * n), lambda m, n: 2.0 / (m * n)),
    Loss(
        "cross_entropy",
        # An output of probability 0 that is not wanted costs nothing: 0 * -inf is left out.
        (lambda s, y: -y, lambda s, y: select(y > 0, s, 0)),
        _difference,
        lambda m, n: 1.0 / m,
        lambda m, n: 1.0 / m,
        of="log_softmax",
        link="softmax",
    ),
    Loss(
        "binary_cross_entropy",
        (_binary_cross_entropy, lambda s, y: 1),
        _difference,
        lambda m, n: 1.0 / m,
        lambda m, n: 1.0 / m,
        of="z",
        link="logistic",
    ),
)
LOSSES = {loss.name: loss for loss in _ALL}

PRODUCT = Loss(
    "product",
    (lambda a, y: a, lambda a, y: y),
    lambda a, y: y,
    lambda m, n: 1.0,
    lambda m, n: 1.0,
)
"""E = sum of y a, whose dE/da is y: a whole sweep pulls any y back. Not for training."""


def loss_named(name: str | Loss) -> Loss:
    """The loss of that name; one given as a value is passed through."""
    return name if isinstance(name, Loss) else find("loss", name, LOSSES)
