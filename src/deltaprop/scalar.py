"""The dialect that rules are written in.

A rule is a Python function of real numbers, ``lambda a: a * (1 - a)``. `trace` calls it
once on symbols and keeps what it did as a straight-line `Program` for float32 or float64.
The backends run that one program: step by step on NumPy's arrays and on LLVM's values
(`Program.run`), in CUDA as source text (`Program.text`). A rule may loop over constants and
call other rules; it cannot branch on a number: that is what `select` is for.

The operations are the ones the numerics specification allows and no others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

import numpy as np

DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("float32"), "float64": np.dtype("float64")}

# How each operation reads in an expression of Python and of C++ alike.
FORMATS = {
    "add": "({} + {})",
    "sub": "({} - {})",
    "mul": "({} * {})",
    "div": "({} / {})",
    "neg": "(-{})",
    "lt": "({} < {})",
    "le": "({} <= {})",
    "gt": "({} > {})",
    "ge": "({} >= {})",
    "fma": "fma_rn({}, {}, {})",
    "select": "select({}, {}, {})",
    "sqrt": "sqrt_rn({})",
    "fabs": "fabs_({})",
    "copysign": "copysign_({}, {})",
    "rint": "rint_({})",
    "exponent": "exponent({})",
    "pow2": "pow2({})",
}
CONDITIONS = ("lt", "le", "gt", "ge")


class Real:
    """A symbol that stands for a number of `dtype` while a rule is traced."""

    __slots__ = ("args", "dtype", "op", "value")
    __array_ufunc__ = None  # a NumPy scalar on the left gives way to the methods below

    def __init__(
        self, dtype: np.dtype[Any], op: str, args: tuple[Real, ...] = (), value: Any = None
    ) -> None:
        self.dtype, self.op, self.args, self.value = dtype, op, args, value

    def __add__(self, other: Number) -> Real:
        return _node("add", self, other)

    def __radd__(self, other: Number) -> Real:
        return _node("add", other, self)

    def __sub__(self, other: Number) -> Real:
        return _node("sub", self, other)

    def __rsub__(self, other: Number) -> Real:
        return _node("sub", other, self)

    def __mul__(self, other: Number) -> Real:
        return _node("mul", self, other)

    def __rmul__(self, other: Number) -> Real:
        return _node("mul", other, self)

    def __truediv__(self, other: Number) -> Real:
        return _node("div", self, other)

    def __rtruediv__(self, other: Number) -> Real:
        return _node("div", other, self)

    def __neg__(self) -> Real:
        return _node("neg", self)

    def __abs__(self) -> Real:
        return _node("fabs", self)

    def __lt__(self, other: Number) -> Real:
        return _node("lt", self, other)

    def __le__(self, other: Number) -> Real:
        return _node("le", self, other)

    def __gt__(self, other: Number) -> Real:
        return _node("gt", self, other)

    def __ge__(self, other: Number) -> Real:
        return _node("ge", self, other)

    def __eq__(self, other: object) -> bool:
        raise TypeError("a rule cannot ask whether numbers are equal; use <=, >= and select")

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError("a rule cannot branch on a number; use select(condition, x, y)")


Number = Real | float
Rule = Callable[..., Number]


def fma(x: Number, y: Number, z: Number) -> Real:
    """x * y + z, rounded once."""
    return _node("fma", x, y, z)


def select(condition: Real, x: Number, y: Number) -> Real:
    """x where the condition holds, else y. Comparisons with NaN do not hold."""
    return _node("select", condition, x, y)


def sqrt(x: Number) -> Real:
    """The square root, correctly rounded."""
    return _node("sqrt", x)


def copysign(x: Number, y: Number) -> Real:
    """|x| with the sign of y."""
    return _node("copysign", x, y)


def rint(x: Number) -> Real:
    """The nearest integer, ties to even."""
    return _node("rint", x)


def exponent(x: Number) -> Real:
    """floor(log2 |x|), from the exponent bits: for normal x only."""
    return _node("exponent", x)


def pow2(n: Number) -> Real:
    """2^n for an integer n whose power is a normal number; other n give no stated result."""
    return _node("pow2", n)


def maximum(x: Real, y: Number) -> Real:
    """y where x < y, else x: NaN in x stays."""
    return select(x < y, y, x)


def minimum(x: Real, y: Number) -> Real:
    """y where x > y, else x: NaN in x stays."""
    return select(x > y, y, x)


def horner(x: Real, coefficients: Sequence[float]) -> Real:
    """c_0 + c_1 x + c_2 x^2 + ..., from the last coefficient down, one fma a term."""
    *rest, last = coefficients
    total: Number = last
    for c in reversed(rest):
        total = fma(total, x, c)
    return total if isinstance(total, Real) else _constant(x.dtype, total)


_FIRST_NAMED: dict[str, Rule] = {}
"""The first elementary function of each name."""


def elementary(rule: Rule) -> Callable[..., Real]:
    """Make a rule a function of its own: other rules call it, backends compile it once.

    The name of the function is its name in every backend, so another rule of that name must be
    the same program: tracing refuses any other.
    """
    _FIRST_NAMED.setdefault(rule.__name__, rule)

    @wraps(rule)
    def call(*args: Number) -> Real:
        return _node("call", *args, value=rule)

    return call


def _constant(dtype: np.dtype[Any], value: float) -> Real:
    if not isinstance(value, (int, float, np.floating, np.integer)) or isinstance(value, bool):
        raise TypeError(f"a rule is made of numbers, got {value!r}")
    return Real(dtype, "constant", value=dtype.type(value))


def _node(op: str, *args: Number, value: Any = None) -> Real:
    """An operation on symbols; plain numbers among its arguments become constants, rounded."""
    dtypes = {x.dtype for x in args if isinstance(x, Real)}
    if len(dtypes) != 1:
        raise TypeError(
            f"{op} needs a symbol of one dtype among its arguments, got {sorted(map(str, dtypes))}"
        )
    (dtype,) = dtypes
    reals = tuple(x if isinstance(x, Real) else _constant(dtype, x) for x in args)
    for i, x in enumerate(reals):
        wanted = "condition" if op == "select" and i == 0 else "number"
        if (x.op in CONDITIONS) != (wanted == "condition"):
            raise TypeError(f"argument {i + 1} of {op} must be a {wanted}")
    return Real(dtype, op, reals, value)


@dataclass(frozen=True, eq=False)
class Step:
    """One operation on the results of earlier steps, named by their positions.

    `value` is the name of an "input", the number of a "constant", the `Program` of a "call".
    Constants are equal if their bits are: 0 and -0 differ, a NaN equals itself.
    """

    op: str
    args: tuple[int, ...]
    value: Any = None

    def _key(self) -> tuple[Any, ...]:
        return self.op, self.args, self.value.tobytes() if self.op == "constant" else self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True)
class Program:
    """A rule, traced: every step is used and none is there twice; the last one is the result."""

    name: str
    dtype: np.dtype[Any]
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def symbol(self) -> str:
        """What a call of this program is named, in source and among operations: no other name."""
        return f"rule_{self.name}"

    @property
    def calls(self) -> tuple[Program, ...]:
        """The programs this one calls, each after those that it calls itself."""
        found: dict[str, Program] = {}
        for step in self.steps:
            if step.op == "call":
                for program in (*step.value.calls, step.value):
                    found[program.name] = program
        return tuple(found.values())

    def run(self, operations: Mapping[str, Callable[..., Any]], *inputs: Any) -> Any:
        """The result by `operations`, a function for each op.

        A call is made by the operation of that function's symbol if there is one, else by
        running its program. `inputs` go by position.
        """
        given = dict(zip(self.inputs, inputs, strict=True))
        results: list[Any] = []
        for step in self.steps:
            args = [results[i] for i in step.args]
            if step.op == "input":
                results.append(given[step.value])
            elif step.op == "constant":
                results.append(step.value)
            elif step.op == "call":
                function = operations.get(step.value.symbol)
                results.append(function(*args) if function else step.value.run(operations, *args))
            else:
                results.append(operations[step.op](*args))
        return results[-1]

    def text(self, line: str, constant: Callable[[Any], str]) -> tuple[list[str], str]:
        """The program as lines of source and the name of its result.

        `line` is a format of {name} and {expression}; `constant` writes a number.
        """
        lines: list[str] = []
        names: list[str] = []
        for i, step in enumerate(self.steps):
            args = [names[k] for k in step.args]
            if step.op == "input":
                names.append(step.value)
                continue
            if step.op == "constant":
                names.append(constant(step.value))
                continue
            if step.op == "call":
                expression = f"{step.value.symbol}({', '.join(args)})"
            else:
                expression = FORMATS[step.op].format(*args)
            names.append(f"t{i}")
            lines.append(line.format(name=names[-1], expression=expression))
        return lines, names[-1]


@cache
def trace(rule: Rule, dtype: str, name: str | None = None) -> Program:
    """The program of `rule` for "float32" or "float64".

    Inputs become x0, x1, ... whatever the rule calls them: its names cannot clash with others.
    """
    rule = inspect.unwrap(rule)
    real = DTYPES[dtype]
    inputs = tuple(f"x{i}" for i in range(len(inspect.signature(rule).parameters)))
    result = rule(*(Real(real, "input", value=x) for x in inputs))
    if not isinstance(result, Real):
        result = _constant(real, result)
    if result.op in CONDITIONS:
        raise TypeError("the result of a rule must be a number, got a condition")
    name = name or rule.__name__
    return Program(name, real, inputs, _linearise(result, dtype))


def _linearise(result: Real, dtype: str) -> tuple[Step, ...]:
    """The steps that lead to a symbol, equal ones merged."""
    steps: dict[Step, int] = {}
    number: dict[int, int] = {}
    pending = [result]
    while pending:
        real = pending[-1]
        missing = [x for x in real.args if id(x) not in number]
        if missing:
            pending.extend(missing)
            continue
        pending.pop()
        value = _called(real.value, dtype) if real.op == "call" else real.value
        step = Step(real.op, tuple(number[id(x)] for x in real.args), value)
        number[id(real)] = steps.setdefault(step, len(steps))
    return tuple(steps)


def _called(f: Rule | Program, dtype: str) -> Program:
    """The program of an elementary function, given as its rule or traced already."""
    if isinstance(f, Program):
        return f
    program = trace(f, dtype)
    if program != trace(_FIRST_NAMED[program.name], dtype):
        raise ValueError(
            f"two elementary functions that differ are named {program.name!r}: rename this one"
        )
    return program
