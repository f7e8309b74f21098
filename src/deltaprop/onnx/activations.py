"""Activations in ONNX's operators: by name where there is one, else by their traced rule.

An elementary function becomes the operator of that name, not its polynomial. ONNX has no fma: a
product and a sum take its place, as in the numpy backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from deltaprop.activations import ACTIVATIONS, ALPHA, LEAK, Activation
from deltaprop.derivative import program_of
from deltaprop.onnx.nodes import Nodes, Value

Write = Callable[[Nodes, str], str]
"""Writes a = g(z): takes the name of z, returns that of a."""


def _operator(op: str, **attributes: float | int | str) -> Write:
    return lambda nodes, z: nodes.add(op, z, **attributes)


OPERATORS: dict[str, Write] = {
    "relu": _operator("Relu"),
    "silu": lambda nodes, z: nodes.add("Mul", z, nodes.add("Sigmoid", z)),
    "softmax": _operator("Softmax", axis=-1),
}
FLOAT32_OPERATORS: dict[str, Write] = {
    "leaky_relu": _operator("LeakyRelu", alpha=LEAK),
    "elu": _operator("Elu", alpha=ALPHA),
    "gelu": _operator("Gelu"),
    "gelu_tanh": _operator("Gelu", approximate="tanh"),
    "mish": _operator("Mish"),
    "hard_sigmoid": _operator("HardSigmoid", alpha=1 / 6, beta=0.5),
}
"""Those with float32 constants whatever they are applied to, or that runtimes lack in float64."""


def write_activation(nodes: Nodes, z: str, g: Activation) -> str:
    """Writes a = g(z) and returns the name of a; that is z itself for the identity.

    Raises ValueError for an operation that ONNX lacks.
    """
    operators = OPERATORS if nodes.dtype == np.float64 else OPERATORS | FLOAT32_OPERATORS
    if g.name in operators and ACTIVATIONS.get(g.name) is g:
        return operators[g.name](nodes, z)
    try:
        a = program_of(g.value, nodes.dtype.name).run(_operations(nodes), z)
    except KeyError as error:
        raise ValueError(
            f"activation {g.name!r} uses {error.args[0]}, for which ONNX has no operator"
        ) from None
    # A rule may be one number, whatever z.
    return a if isinstance(a, str) else nodes.add("Expand", a, nodes.add("Shape", z))


# ------------------------------------------------------------------- operations of a program

SAME = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "select": "Where",
    "sqrt": "Sqrt",
    "fabs": "Abs",
    "rint": "Round",
    "rule_exp": "Exp",
    "rule_log": "Log",
    "rule_logistic": "Sigmoid",
    "rule_tanh": "Tanh",
    "rule_sin": "Sin",
    "rule_cos": "Cos",
}
"""Operations of the dialect that are one operator."""


def _fma(nodes: Nodes, x: Value, y: Value, z: Value) -> str:
    return nodes.add("Add", nodes.add("Mul", x, y), z)


def _copysign(nodes: Nodes, x: Value, y: Value) -> str:
    """1 / y tells the sign of a zero."""
    size = nodes.add("Abs", x)
    negative = nodes.add("Less", y, 0), nodes.add("Less", nodes.add("Div", 1, y), 0)
    return nodes.add("Where", nodes.add("Or", *negative), nodes.add("Neg", size), size)


def _pow2(nodes: Nodes, n: Value) -> str:
    return nodes.add("Pow", 2, n)


def _expm1(nodes: Nodes, x: Value) -> str:
    """e^x - 1 = tanh(x/2) (e^x + 1), where nothing cancels."""
    half = nodes.add("Tanh", nodes.add("Mul", x, 0.5))
    return nodes.add("Mul", half, nodes.add("Add", nodes.add("Exp", x), 1))


def _log1p(nodes: Nodes, x: Value) -> str:
    """log(u) x / (u - 1) with u = 1 + x rounded: the errors of both factors cancel (Kahan)."""
    u = nodes.add("Add", x, 1)
    log = nodes.add("Log", u)
    ratio = nodes.add("Div", x, nodes.add("Sub", u, 1))
    small = nodes.add("Where", nodes.add("Equal", u, 1), x, nodes.add("Mul", log, ratio))
    return nodes.add("Where", nodes.add("Less", x, 1), small, log)


def _softplus(nodes: Nodes, x: Value) -> str:
    """max(x, 0) + log(1 + e^-|x|)."""
    e = nodes.add("Exp", nodes.add("Neg", nodes.add("Abs", x)))
    return nodes.add("Add", nodes.add("Max", x, 0), _log1p(nodes, e))


def _normal_cdf(nodes: Nodes, x: Value) -> str:
    """(1 + erf(x / sqrt 2)) / 2."""
    erf = nodes.add("Erf", nodes.add("Mul", x, math.sqrt(0.5)))
    return nodes.add("Mul", nodes.add("Add", erf, 1), 0.5)


SEVERAL: dict[str, Callable[..., str]] = {
    "fma": _fma,
    "copysign": _copysign,
    "pow2": _pow2,
    "rule_expm1": _expm1,
    "rule_log1p": _log1p,
    "rule_softplus": _softplus,
}
BESIDE = ("Equal", "Erf", "Expand", "Max", "Or", "Pow", "Shape", "Softplus")
PARTS = frozenset((*SAME.values(), *BESIDE))
"""All operators that a traced rule is written in."""


def _operations(nodes: Nodes) -> dict[str, Callable[..., str]]:
    """What writes each operation of the dialect.

    Runtimes lack Softplus and Erf in float64: there the program of normal_cdf is opened.
    """
    table: dict[str, Callable[..., str]]
    table = {name: partial(nodes.add, op) for name, op in SAME.items()}
    table |= {name: partial(write, nodes) for name, write in SEVERAL.items()}
    if nodes.dtype == np.float32:
        table["rule_softplus"] = partial(nodes.add, "Softplus")
        table["rule_normal_cdf"] = partial(_normal_cdf, nodes)
    return table
