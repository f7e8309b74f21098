"""Activations of one's own: defined once, checked, and known by name from then on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import numpy as np

from deltaprop.activations import ACTIVATIONS, Activation
from deltaprop.backends.reference import apply
from deltaprop.contract import Array
from deltaprop.derivative import derivative
from deltaprop.formula import formula
from deltaprop.scalar import DTYPES, Number, Real, Rule, trace

SHIPPED = frozenset(ACTIVATIONS)
END = 40
"""The check looks at numbers up to this size, both signs."""
POINTS = 2001


def activation(name: str, value: Rule | str, slope: Rule | str | None = None) -> Activation:
    """Defines the activation a = g(z), to be used by `name` wherever an activation is named.

    value
        g, as a function of one number made of + - * / and the functions of `deltaprop.math`, or
        as a formula: "z * tanh(softplus(z))".
    slope
        g', likewise, of `z` or of the output `a`: the name of the parameter says which. Without
        it the slope is derived from the value.

    It is then computed by every kernel of every backend, with the same bits on the exact ones.
    The same definition again returns the activation that is there.

    Raises TypeError for what is no name or no rule, and ValueError for a formula that cannot be
    read, for a name that has another definition, for a value or slope that is NaN between -40 and
    40, and for a slope that is not the derivative of the value.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of an activation is a str, got {name!r}")
    if not name.strip():
        raise ValueError(f"the name of an activation cannot be empty, got {name!r}")
    g = _rule(name, "value", value, ("z",))
    given = None if slope is None else _rule(name, "slope", slope, ("z", "a"))
    if name in ACTIVATIONS:
        return _known(ACTIVATIONS[name], g, given)
    new = Activation(name, g, given or derivative(g))
    for dtype in DTYPES:
        _check_numbers(new, dtype)
        _check_slope(new, dtype)
    return ACTIVATIONS.setdefault(name, new)


# ----------------------------------------------------------------------------------- rules


def _rule(name: str, what: str, given: Rule | str, variables: tuple[str, ...]) -> Rule:
    """What is given as value or slope, as a rule that can be traced."""
    of = f"the {what} of activation {name!r}"
    if isinstance(given, str):
        try:
            rule = formula(given, variables)
        except ValueError as error:
            raise ValueError(f"{of}: {error}") from None
    elif callable(given):
        rule = given
        _check_parameters(of, rule, variables if what == "slope" else None)
    else:
        raise TypeError(f"{of} is a function of one number or a formula, got {given!r}")
    for dtype in DTYPES:
        try:
            trace(rule, dtype)
        except Exception as error:
            raise TypeError(
                f"{of} is no rule of numbers: {error} (a rule is made of + - * /, plain numbers "
                "and the functions of deltaprop.math)"
            ) from error
    return rule


def _check_parameters(of: str, rule: Rule, wanted: tuple[str, ...] | None) -> None:
    try:
        parameters = list(inspect.signature(rule).parameters.values())
    except (TypeError, ValueError):
        raise TypeError(
            f"{of} is a function of one number made of the functions of deltaprop.math, "
            f"got {rule!r}"
        ) from None
    kinds = {p.kind for p in parameters}
    if len(parameters) != 1 or not kinds <= {
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    }:
        got = ", ".join(map(str, parameters))
        raise TypeError(f"{of} takes one number, got a function of ({got})")
    if wanted and parameters[0].name not in wanted:
        raise ValueError(
            f"{of} takes {parameters[0].name!r}; its parameter must be named z (the "
            "pre-activation) or a (the output)"
        )


# ------------------------------------------------------------------------------ known names


def _known(there: Activation, value: Rule, slope: Rule | None) -> Activation:
    """The activation of that name, if it is the one that is defined again."""
    same = not there.rowwise and _same(there, there.value, value)
    if same and slope is not None:
        of = next(iter(inspect.signature(slope).parameters))
        same = of == there.slope_of and _same(there, there.slope, slope)
    if not same:
        raise ValueError(
            f"there is an activation {there.name!r} already, and its definition is another: "
            "choose another name"
        )
    return there


def _same(there: Activation, one: Rule, other: Rule) -> bool:
    """Whether two rules are one program.

    The rules that deltaprop has itself may differ in what they say of infinities: they are known
    by their bits.
    """
    if all(_program(one, dtype) == _program(other, dtype) for dtype in DTYPES):
        return True
    return there.name in SHIPPED and all(
        apply(one, z).tobytes() == apply(other, z).tobytes() for z in map(_grid, DTYPES)
    )


def _program(rule: Rule, dtype: str) -> object:
    """What a rule does, whatever its name; an elementary function is a call of it."""

    def called(x: Real) -> Number:
        return rule(x)

    return trace(called, dtype).steps


# ---------------------------------------------------------------------------------- numbers


def _grid(dtype: str) -> Array:
    """Evenly from -END to END, rounded to multiples of 2^-11: steps on it are exact."""
    return np.rint(np.linspace(-END, END, POINTS) * 2**11).astype(dtype) / np.dtype(dtype).type(
        2**11
    )


def _slope(g: Activation, z: Array) -> Array:
    return apply(g.slope, apply(g.value, z) if g.slope_of == "a" else z)


def _check_numbers(g: Activation, dtype: str) -> None:
    z = _grid(dtype)
    for what, result in (("value", apply(g.value, z)), ("slope", _slope(g, z))):
        if np.isnan(result).any():
            at = z[np.isnan(result)][np.argmin(np.abs(z[np.isnan(result)]))]
            raise ValueError(
                f"the {what} of activation {g.name!r} is NaN at z = {at:g}, in {dtype}"
            )


def _check_slope(g: Activation, dtype: str) -> None:
    """Refuses a slope that is neither the derivative nor, at a kink, that of one side."""
    z = _grid(dtype)
    slope = _slope(g, z).astype(np.float64)
    quotients, tolerances = zip(*_difference_quotients(g.value, z))
    with np.errstate(all="ignore"):
        excess = [np.abs(slope - q) / t for q, t in zip(quotients, tolerances)]
    # What has overflowed on the way has no difference quotient.
    off = np.min([np.where(np.isfinite(x), x, 0) for x in excess], axis=0)
    worst = int(np.argmax(off))
    if off[worst] > 1:
        raise ValueError(
            f"the slope of activation {g.name!r} is not the derivative of its value: at z = "
            f"{z[worst]:g} it is {slope[worst]:.9g}, the difference quotient is "
            f"{quotients[0][worst]:.9g} (in {dtype})"
        )


def _difference_quotients(value: Rule, z: Array) -> Iterator[tuple[Array, Array]]:
    """The central, the left and the right one, extrapolated, each with its tolerance.

    Each is taken for h and h/2. Its tolerance is what the two differ by, which bounds the error
    of the method, there or beside it; the rounding of g over h; and that of the slope.
    """
    eps = float(np.finfo(z.dtype).eps)
    h = 2.0 ** round(np.log2(eps) / 4)

    def g(shift: float) -> Array:
        return apply(value, z + z.dtype.type(shift)).astype(np.float64)

    there = {k: g(k * h) for k in (-2, -1, -0.5, 0, 0.5, 1, 2)}
    rounding = 16 * _rounding(value, z, h) / h
    methods: tuple[Callable[[float], Array], ...] = (
        lambda k: (there[k] - there[-k]) / (2 * k * h),
        lambda k: (3 * there[0] - 4 * there[-k] + there[-2 * k]) / (2 * k * h),
        lambda k: (4 * there[k] - 3 * there[0] - there[2 * k]) / (2 * k * h),
    )
    with np.errstate(all="ignore"):
        for quotient in methods:
            coarse, fine = quotient(1), quotient(0.5)
            apart = _largest_beside(np.abs(fine - coarse))
            own = 64 * eps * (1 + np.abs(fine))
            yield (4 * fine - coarse) / 3, apart + rounding + own


def _rounding(value: Rule, z: Array, h: float) -> Array:
    """How far rounding may move g: what changing the last bits of z does, and of g itself."""
    eps = float(np.finfo(z.dtype).eps)
    values = []
    for k in range(-4, 5):
        near = z + (k * eps * np.maximum(np.abs(z), h)).astype(z.dtype)
        values.append(apply(value, near).astype(np.float64))
    return np.max(values, axis=0) - np.min(values, axis=0) + eps * np.abs(values[4])


def _largest_beside(x: Array) -> Array:
    """The largest of each number and its two neighbours."""
    wide = np.pad(x, 1, mode="edge")
    return np.max([wide[:-2], x, wide[2:]], axis=0)
