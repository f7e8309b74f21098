"""Random formulas, and their values and slopes in mpmath."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from mpmath import mp, mpf

from deltaprop.scalar import Program

NUMBERS = ("0.5", "1", "2", "3", "0.125", "-1.5", "7")
UNARY = ("exp", "expm1", "logistic", "tanh", "softplus", "normal_cdf", "sin", "cos", "abs")
PARTLY = ("log({})", "log1p({})", "sqrt({})")
POSITIVE = ("log(1 + {}**2)", "log1p(abs({}))", "sqrt(0.5 + {} * {})", "1 / (1 + exp({}))")


def formulas(partial: bool = True) -> st.SearchStrategy[str]:
    """Texts; with `partial`, functions that are not defined everywhere are among them."""
    leaves = st.one_of(st.just("z"), st.sampled_from(NUMBERS))
    templates = [
        *(f"{name}({{}})" for name in UNARY),
        *POSITIVE,
        *(PARTLY if partial else ()),
        *("({} + {})", "({} - {})", "({} * {})", "({} / (2 + abs({})))", "(-{})", "{}**2"),
        *("maximum({}, {})", "minimum({}, {})", "fma({}, {}, {})"),
        *("select({} < {}, {}, {})", "select({} >= 0, {}, {})"),
    ]

    def extend(parts: Any) -> Any:
        def fill(template: str) -> Any:
            holes = template.count("{}")
            return st.tuples(*[parts] * holes).map(lambda xs: template.format(*map(_closed, xs)))

        return st.sampled_from(templates).flatmap(fill)

    return st.recursive(leaves, extend, max_leaves=6).filter(lambda text: "z" in text)


def _closed(text: str) -> str:
    """Text that binds as one operand."""
    return f"({text})" if text.startswith("-") or "**" in text else text


def _select(condition: bool, x: mpf, y: mpf) -> mpf:
    return x if condition else y


FUNCTIONS = {
    **{name: getattr(mp, name) for name in ("exp", "expm1", "log", "log1p", "tanh", "sin", "cos")},
    "sqrt": mp.sqrt,
    "logistic": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "normal_cdf": mp.ncdf,
    "abs": abs,
    "maximum": max,
    "minimum": min,
    "fma": lambda x, y, z: x * y + z,
    "select": _select,
}


def evaluate(text: str, z: mpf) -> mpf:
    """The formula as Python reads it, in mpmath: nothing of deltaprop."""
    return mpf(eval(text, {"__builtins__": {}} | FUNCTIONS, {"z": z}))


def _divide(x: mpf, y: mpf) -> mpf:
    if y == 0:
        return mpf("nan") if x == 0 else mp.sign(x) * mpf("inf")
    return x / y


OPERATIONS = {
    **{f"rule_{name}": f for name, f in FUNCTIONS.items()},
    "select": _select,
    "fma": FUNCTIONS["fma"],
    "sqrt": mp.sqrt,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": _divide,
    "neg": lambda x: -x,
    "fabs": abs,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
}


def run(program: Program, z: mpf) -> mpf:
    """A program of one number in mpmath: what is wrong with it then is no rounding."""
    steps = [s.value for s in program.steps if s.op == "constant"]
    exact = {id(number): mpf(float(number)) for number in steps}
    operations = {
        op: lambda *args, f=f: f(*(exact.get(id(x), x) for x in args))
        for op, f in OPERATIONS.items()
    }
    result = program.run(operations, z)
    return exact.get(id(result), result)
