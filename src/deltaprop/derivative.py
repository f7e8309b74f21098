"""The derivative of a rule, as a rule.

A rule is traced, and its program gone through once more with a tangent beside every value (the
forward mode of automatic differentiation): an operation y = f(x, ...) has the tangent
sum of df/dx * (tangent of x). The partial derivatives of all operations are the tables below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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

    def called(x: Real) -> Number:
        return rule(x)  # so that a rule that is an elementary function is called, not opened

    def slope(z: Real) -> Number:
        _, tangent = _forward(trace(called, z.dtype.name), (z,), (1,))
        return 0 if tangent is None else tangent

    return slope


def _forward(
    program: Program, arguments: Sequence[Real], tangents: Sequence[Partial]
) -> tuple[Real, Partial]:
    """The result of a program and its tangent."""
    given = dict(zip(program.inputs, zip(arguments, tangents), strict=True))
    results: list[tuple[Real, Partial]] = []
    for step in program.steps:
        x = [results[i][0] for i in step.args]
        dx = [results[i][1] for i in step.args]
        if step.op == "input":
            results.append(given[step.value])
        elif step.op == "call" and step.value.name not in FUNCTIONS:
            results.append(_forward(step.value, x, dx))
        else:
            y = Real(program.dtype, step.op, tuple(x), step.value)
            results.append((y, _tangent(y, dx)))
    return results[-1]


def _tangent(y: Real, tangents: Sequence[Partial]) -> Partial:
    """The tangent of y from those of its arguments."""
    if all(t is None for t in tangents) or y.op in CONDITIONS:
        return None
    if y.op == "select":
        x, other = (0 if t is None else t for t in tangents[1:])
        return x if x is other else select(y.args[0], x, other)
    if y.op == "call":
        partials: tuple[Partial, ...] = (FUNCTIONS[y.value.name](y, *y.args),)
    else:
        partials = OPERATIONS[y.op](y, *y.args)
    total: Partial = None
    for partial, tangent in zip(partials, tangents, strict=True):
        if partial is not None and tangent is not None:
            term = _product(partial, tangent)
            total = term if total is None else total + term
    return total


def _product(x: Number, y: Number) -> Number:
    """x y, but 0 where one is 0, even if the other is infinite. NaN stays NaN."""
    for factor, other in ((x, y), (y, x)):
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
