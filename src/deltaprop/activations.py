"""Activations: the value a = g(z) and the slope g'(z), side by side.

The slope is a rule of one number, and the name of its parameter says which: `a` where the
slope follows from the output (logistic: a (1 - a)), `z` where it needs the pre-activation.
Where nothing is gained by writing it down it is `derivative(value)`.

To add an activation, add it here: every backend, test and benchmark reads `ACTIVATIONS`. One of
one's own is added by `deltaprop.activation`.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cache
from pickle import PicklingError, UnpicklingError
from typing import Any

from deltaprop import elementary as el
from deltaprop.derivative import derivative
from deltaprop.errors import find
from deltaprop.periodic import sin
from deltaprop.scalar import Number, Real, Rule, fma, maximum, minimum, select, sqrt

LEAK = 0.01
ALPHA = 1.0
FAR = 1000.0
"""Where logistic and the normal density and distribution are 0 or 1 to the last bit."""
VERY_FAR = 1e9
"""Where z^2 + 4 rounds to z^2."""

SQRT_8_OVER_PI = math.sqrt(8 / math.pi)
SQRT_1_OVER_2PI = math.sqrt(1 / (2 * math.pi))


@cache
def _parameter(rule: Rule) -> str:
    """The name of the one parameter of a rule."""
    (name,) = inspect.signature(rule).parameters
    return name


@dataclass(frozen=True)
class Activation:
    """a = g(z) and g'(z) as rules of the dialect.

    `rowwise` marks softmax, whose value takes a whole row: the unit-wise part is the
    identity and `Kernels.softmax` does the rest. It has no slope of its own, because it is
    used with cross-entropy, whose output delta needs none.
    """

    name: str
    value: Rule
    slope: Rule
    rowwise: bool = False

    def __post_init__(self) -> None:
        if self.slope_of not in ("a", "z"):
            raise ValueError(
                f"the slope of activation {self.name!r} takes {self.slope_of!r}; its parameter "
                "must be named a (the output) or z (the pre-activation)"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its name: whoever reads it must have defined it, too."""
        if ACTIVATIONS.get(self.name) is not self:
            raise PicklingError(
                f"activation {self.name!r} is not in deltaprop's table: cannot be pickled. "
                "Define it with deltaprop.activation"
            )
        return _defined, (self.name,)

    def __copy__(self) -> Activation:
        """Itself: it never changes."""
        return self

    def __deepcopy__(self, memo: object) -> Activation:
        return self

    @property
    def slope_of(self) -> str:
        """ "a" or "z": what the slope is taken from."""
        return _parameter(self.slope)


def above(z: Real) -> Real:
    """z, no further below 0 than what 0 may be multiplied by: inf * 0 is NaN."""
    return maximum(z, -FAR)


def near(z: Real) -> Real:
    """z, no further from 0 than what 0 may be multiplied by."""
    return minimum(above(z), FAR)


def gelu_slope(z: Real) -> Number:
    """Phi(z) + z phi(z), with phi(z) = exp(-z^2 / 2) / sqrt(2 pi)."""
    z = near(z)
    density = SQRT_1_OVER_2PI * el.exp(-0.5 * z * z)
    return fma(z, density, el.normal_cdf(z))


def gelu_tanh_inner(z: Real) -> Real:
    """2 sqrt(2/pi) (z + 0.044715 z^3); 1/2 (1 + tanh(u)) = logistic(2 u)."""
    return SQRT_8_OVER_PI * fma(0.044715 * z * z, z, z)


def gelu_tanh_slope(z: Real) -> Number:
    """s + z s (1 - s) u', with s = logistic(u) and u' = 2 sqrt(2/pi) (1 + 3 * 0.044715 z^2)."""
    z = near(z)
    s = el.logistic(gelu_tanh_inner(z))
    inner_slope = SQRT_8_OVER_PI * fma(3 * 0.044715 * z, z, 1)
    return fma(z * inner_slope, s * (1 - s), s)


def silu_slope(z: Real) -> Number:
    """s + z s (1 - s), with s = logistic(z)."""
    z = near(z)
    s = el.logistic(z)
    return fma(z, s * (1 - s), s)


def mish(z: Real) -> Number:
    """z tanh(ln(1 + e^z))."""
    return above(z) * el.tanh(el.softplus(z))


def squareplus(z: Real) -> Number:
    """(z + sqrt(z^2 + 4)) / 2: the half sum h of |z| and the root, or for negative z its 1 / h."""
    root = select(abs(z) >= VERY_FAR, abs(z), sqrt(fma(z, z, 4)))
    half_sum = 0.5 * abs(z) + 0.5 * root
    return select(z <= 0, 1 / half_sum, half_sum)  # at 0 the left one, as of |z|


def hard_sigmoid(z: Real) -> Number:
    """(z + 3) / 6, but from 0 to 1."""
    return select(z <= -3, 0, select(z > 3, 1, (z + 3) / 6))


IDENTITY = Activation("identity", lambda z: z, lambda a: 1)

_ALL = (
    IDENTITY,
    Activation("logistic", el.logistic, lambda a: a * (1 - a)),
    Activation("tanh", el.tanh, lambda a: fma(-a, a, 1)),
    Activation("relu", lambda z: select(z <= 0, 0, z), lambda a: select(a <= 0, 0, 1)),
    Activation(
        "leaky_relu",
        lambda z: select(z <= 0, LEAK * z, z),
        lambda a: select(a <= 0, LEAK, 1),
    ),
    Activation(
        "elu",
        lambda z: select(z <= 0, ALPHA * el.expm1(z), z),
        lambda a: select(a <= 0, a + ALPHA, 1),
    ),
    Activation("softplus", el.softplus, lambda z: el.logistic(z)),
    Activation("silu", lambda z: above(z) * el.logistic(z), silu_slope),
    Activation("gelu", lambda z: above(z) * el.normal_cdf(z), gelu_slope),
    Activation(
        "gelu_tanh",
        lambda z: above(z) * el.logistic(gelu_tanh_inner(z)),
        gelu_tanh_slope,
    ),
    Activation("mish", mish, derivative(mish)),
    Activation("squareplus", squareplus, derivative(squareplus)),
    Activation("hard_sigmoid", hard_sigmoid, derivative(hard_sigmoid)),
    Activation("sine", sin, derivative(sin)),
    Activation("softmax", lambda z: z, lambda a: 1, rowwise=True),
)
ACTIVATIONS = {g.name: g for g in _ALL}


def _defined(name: str) -> Activation:
    """The activation that a pickle names."""
    if name not in ACTIVATIONS:
        raise UnpicklingError(
            f"the pickle uses activation {name!r}, which is not defined in this process: define "
            f"it with deltaprop.activation({name!r}, ...) first, as it was when pickled"
        )
    return ACTIVATIONS[name]


def activation_named(name: str | Activation) -> Activation:
    """The activation of that name; one given as a value is passed through."""
    return name if isinstance(name, Activation) else find("activation", name, ACTIVATIONS)
