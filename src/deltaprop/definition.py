"""Activations of one's own: defined once, checked, and known by name from then on."""

from __future__ import annotations

import inspect

import numpy as np

from deltaprop.activations import ACTIVATIONS, Activation
from deltaprop.backends.reference import apply
from deltaprop.contract import Array
from deltaprop.derivative import derivative, program_of, rounding
from deltaprop.formula import formula
from deltaprop.scalar import DTYPES, Rule, trace

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
    The same definition again returns the activation that is there. Files and pickles of nets
    have its name only: a process that reads one must have defined it, too.

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
        raise TypeError(
            f"{of} is a function of one number made of the functions of deltaprop.math, "
            f"got a function of ({got})"
        )
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
    if all(program_of(one, dtype) == program_of(other, dtype) for dtype in DTYPES):
        return True
    return there.name in SHIPPED and all(
        apply(one, z).tobytes() == apply(other, z).tobytes() for z in map(_grid, DTYPES)
    )


# ---------------------------------------------------------------------------------- numbers


def _grid(dtype: str) -> Array:
    """Evenly from -END to END, rounded to multiples of 2^-11: steps on it are exact."""
    return np.rint(np.linspace(-END, END, POINTS) * 2**11).astype(dtype) / np.dtype(dtype).type(
        2**11
    )


def _check_numbers(g: Activation, dtype: str) -> None:
    """Refuses NaN among the values and the slopes."""
    z = _grid(dtype)
    for what, result in (("value", apply(g.value, z)), ("slope", _slope(g, z)[0])):
        nan = z[np.isnan(result)]
        if nan.size:
            at = nan[np.argmin(np.abs(nan))]
            raise ValueError(
                f"the {what} of activation {g.name!r} is NaN at z = {at:g}, in {dtype}"
            )


def _slope(g: Activation, z: Array) -> tuple[Array, Array]:
    """g'(z), and how far rounding may have moved it."""
    if g.slope_of == "z":
        return apply(g.slope, z), apply(rounding(g.slope), z)
    a = apply(g.value, z)
    moved = np.abs(apply(derivative(g.slope), a)) * apply(rounding(g.value), z)
    return apply(g.slope, a), apply(rounding(g.slope), a) + moved


def _check_slope(g: Activation, dtype: str) -> None:
    """Refuses a slope that is not the derivative of the value, by difference quotients.

    Looks only where the derivative moves little within the reach of a quotient, there and beside
    it: so not beside a kink, and not where the value oscillates. Where the value jumps, the
    quotient of one side will do.
    """
    z = _grid(dtype)
    with np.errstate(all="ignore"):
        slope, rounded = _slope(g, z)
        quotients, tolerances = _difference_quotients(g.value, z)
        off = np.abs(slope - quotients) / (tolerances + rounded)
        off[np.isnan(off)] = 0  # something has overflowed
        off[:, np.isinf(slope)] = np.inf
        least = np.min(off, axis=0)
        least[~_is_smooth(g.value, z)] = 0
    worst = int(np.argmax(least))
    if least[worst] > 1:
        raise ValueError(
            f"the slope of activation {g.name!r} is not the derivative of its value: at z = "
            f"{z[worst]:g} it is {slope[worst]:.9g}, the difference quotient is "
            f"{quotients[0, worst]:.9g} (in {dtype})"
        )


def _step(z: Array) -> float:
    """h of the difference quotients, a power of two: the fourth root of eps."""
    return float(2.0 ** round(np.log2(np.finfo(z.dtype).eps) / 4))


def _difference_quotients(value: Rule, z: Array) -> tuple[Array, Array]:
    """The central one, the left and the right, (3, n), extrapolated, and their tolerances.

    As in `check.gradcheck` each is taken for h and h/2; its tolerance is what the two differ by,
    here or beside, which bounds the error of the method, and the rounding of g over h.
    """
    h, bound = _step(z), rounding(value)
    g, errors = {}, []
    for k in (-2, -1, -0.5, 0, 0.5, 1, 2):
        g[k] = apply(value, _shifted(z, k * h)).astype(np.float64)
        errors.append(apply(bound, _shifted(z, k * h)).astype(np.float64))
    rounded = 16 * (np.max(errors, axis=0) + np.finfo(z.dtype).tiny) / h

    def quotients(k: float) -> Array:
        central = g[k] - g[-k]
        left = 3 * g[0] - 4 * g[-k] + g[-2 * k]
        right = 4 * g[k] - 3 * g[0] - g[2 * k]
        return np.stack([central, left, right]) / (2 * k * h)

    coarse, fine = quotients(1), quotients(0.5)
    return (4 * fine - coarse) / 3, np.max(_beside(np.abs(fine - coarse)), axis=0) + rounded


def _is_smooth(value: Rule, z: Array) -> Array:
    """Whether the derivative moves by up to a quarter from z - h to z + h, and beside it."""
    h, exact = _step(z), derivative(value)
    shifts = [k * h for k in (-1, -0.5, -0.25, 0.25, 0.5, 1)]
    slopes = [apply(exact, _shifted(z, shift)).astype(np.float64) for shift in shifts]
    moves = np.max(slopes, axis=0) - np.min(slopes, axis=0)
    return np.all(_beside(moves <= np.max(np.abs(slopes), axis=0) / 4), axis=0)


def _shifted(z: Array, step: float) -> Array:
    return z + z.dtype.type(step)


def _beside(x: Array) -> Array:
    """Each number's left neighbour, itself, and its right neighbour, along the last axis; at one
    end it is the other end.
    """
    left, right = (np.roll(x, k, axis=-1) for k in (1, -1))
    return np.stack([left, x, right])
