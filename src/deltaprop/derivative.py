"""The derivative of a rule, and the rounding error of its result, as rules.

A rule is traced, and its program gone through once more with a tangent beside every value (the
forward mode of automatic differentiation): an operation y = f(x, ...) has the tangent
sum of df/dx * (tangent of x). The partial derivatives of all operations are the tables below.

A bound on the rounding error goes the same way: sum of |df/dx| * (error of x), and what the
operation adds itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from deltaprop import elementary as el
from deltaprop.periodic import cos, sin
from deltaprop.scalar import CONDITIONS, Number, Program, Real, Rule, copysign, fma, select, trace

INFINITY = float("inf")
SQRT_1_OVER_2PI = math.sqrt(1 / (2 * math.pi))

Partial = Number | None
"""A partial derivative or a tangent; None is 0 for every argument."""

# Of the result y and the arguments. A kink has the derivative of its left side, a step has 0.
OPERATIONS: dict[str, Callable[..., tuple[Partial, ...]]] = {
    "add": lambda y, a, b: (1, 1),
    "sub": lambda y, a, b: (1, -1),
    "mul": lambda y, a, b: (b, a),
    "div": lambda y, a, b: (1 / b, -y / b),
    "neg": lambda y, a: (-1,),
    "fma": lambda y, a, b, c: (b, a, 1),
    "sqrt": lambda y, a: (0.5 / y,),
    "fabs": lambda y, a: (select(a <= 0, -1, 1),),
    "copysign": lambda y, a, b: (copysign(1, a) * copysign(1, b), None),
    "rint": lambda y, a: (None,),
    "exponent": lambda y, a: (None,),
    "pow2": lambda y, a: (None,),
}
EXACT = ("neg", "fabs", "copysign", "rint", "exponent", "pow2")
"""Operations that do not round; a function is taken to be within 2 units in the last place."""

FUNCTIONS: dict[str, Callable[[Real, Real], Number]] = {
    "exp": lambda y, x: y,
    "expm1": lambda y, x: y + 1,
    "log": lambda y, x: 1 / x,
    "log1p": lambda y, x: 1 / (1 + x),
    "logistic": lambda y, x: y * (1 - y),
    "tanh": lambda y, x: fma(-y, y, 1),
    "softplus": lambda y, x: el.logistic(x),
    "normal_cdf": lambda y, x: SQRT_1_OVER_2PI * el.exp(-0.5 * x * x),
    "sin": lambda y, x: cos(x),
    "cos": lambda y, x: -sin(x),
}


def derivative(rule: Rule) -> Rule:
    """The slope g'(z) of a rule g of one number, as a rule of z.

    At a kink it is the slope of the branch that the rule takes there. Where one factor of a chain
    is 0 the product is 0, whatever the other: a function that has saturated stays flat.
    """
    return lambda z: _or_zero(_forward(program_of(rule, z.dtype.name), (z,), (1,), _tangent)[1])


def rounding(rule: Rule) -> Rule:
    """How far from exact g(z) may be, to first order in the unit roundoff, as a rule of z."""
    return lambda z: _or_zero(_forward(program_of(rule, z.dtype.name), (z,), (None,), _error)[1])


def program_of(rule: Rule, dtype: str) -> Program:
    """The program of a rule of one number; an elementary function is called in it, not opened."""

    def calling(z: Real) -> Number:
        return rule(z)

    return trace.__wrapped__(calling, dtype)  # not to be kept: nobody can ask for it again


Carry = Callable[[Real, Sequence[Partial]], Partial]
"""What goes beside the result of an operation, given what goes beside its arguments."""


def _forward(
    program: Program, arguments: Sequence[Real], beside: Sequence[Partial], carry: Carry
) -> tuple[Real, Partial]:
    """The result of a program and what goes beside it."""
    given = dict(zip(program.inputs, zip(arguments, beside), strict=True))
    results: list[tuple[Real, Partial]] = []
    for step in program.steps:
        x = [results[i][0] for i in step.args]
        dx = [results[i][1] for i in step.args]
        if step.op == "input":
            results.append(given[step.value])
        elif step.op == "call" and step.value.name not in FUNCTIONS:
            results.append(_forward(step.value, x, dx, carry))
        else:
            y = Real(program.dtype, step.op, tuple(x), step.value)
            results.append((y, carry(y, dx)))
    return results[-1]


def _tangent(y: Real, tangents: Sequence[Partial]) -> Partial:
    """The tangent of y from those of its arguments."""
    if all(t is None for t in tangents) or y.op in CONDITIONS:
        return None
    if y.op == "select":
        return _selected(y, tangents)
    return _sum(
        _product(partial, tangent)
        for partial, tangent in zip(_partials(y), tangents, strict=True)
        if partial is not None and tangent is not None
    )


def _error(y: Real, errors: Sequence[Partial]) -> Partial:
    """The rounding error of y from those of its arguments."""
    if y.op in CONDITIONS:
        return None
    if y.op == "select":
        return _selected(y, errors)
    terms: list[Number] = [
        _product(_absolute(partial), error)
        for partial, error in zip(_partials(y), errors, strict=True)
        if partial is not None and error is not None
    ]
    if y.op not in EXACT:
        f = np.finfo(y.dtype)
        unit = float(f.eps) * (2 if y.op == "call" else 0.5)
        terms.append(fma(unit, _absolute(y), f.smallest_subnormal))
    return _sum(terms)


def _partials(y: Real) -> tuple[Partial, ...]:
    """The partial derivatives of the operation that y is the result of."""
    if y.op == "constant":
        return ()
    if y.op == "call":
        return (FUNCTIONS[y.value.name](y, *y.args),)
    return OPERATIONS[y.op](y, *y.args)


def _absolute(x: Number) -> Number:
    return x.__abs__()


def _selected(y: Real, beside: Sequence[Partial]) -> Partial:
    """What goes beside the chosen one."""
    if all(t is None for t in beside):
        return None
    x, other = map(_or_zero, beside[1:])
    return x if x is other else select(y.args[0], x, other)


def _or_zero(x: Partial) -> Number:
    return 0 if x is None else x


def _sum(terms: Iterable[Number]) -> Partial:
    total: Partial = None
    for term in terms:
        total = term if total is None else total + term
    return total


def _product(x: Number, y: Number) -> Number:
    """x y, but 0 where one is 0, even if the other is infinite. NaN stays NaN."""
    for factor, other in ((x, y), (y, x)):
        if _is(factor, 0):
            return 0
        if _is(factor, 1):
            return other
        if _is(factor, -1):
            return -other
    if not isinstance(x, Real) or not isinstance(y, Real) or "constant" in (x.op, y.op):
        return x * y
    product = x * y
    neither = select(x <= INFINITY, select(y <= INFINITY, 0, y), x)
    return select(product <= INFINITY, product, neither)


def _is(x: Number, number: float) -> bool:
    return not isinstance(x, Real) and x == number
