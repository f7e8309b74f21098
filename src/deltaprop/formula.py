"""Formulas: rules written as text, "z * tanh(softplus(z))".

A formula is parsed as a Python expression and read by the table below; nothing of it is ever
executed. Its numbers are rounded to the dtype, and all arithmetic is the dialect's.
"""

from __future__ import annotations

import ast
import inspect
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from deltaprop import math as dialect
from deltaprop.scalar import Real, Rule

LONGEST = 1000
"""Characters of a formula."""
DEEPEST = 100
"""Operations within operations."""
LARGEST_EXPONENT = 16
LARGEST_NUMBER = float(np.finfo(np.float32).max)

ARITHMETIC: dict[type[ast.operator], Callable[[Real, Real], Real]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Real, Real], Real]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
FUNCTIONS: dict[str, Callable[..., Real]] = {
    f.__name__: f
    for f in (
        *(dialect.exp, dialect.expm1, dialect.log, dialect.log1p, dialect.logistic, dialect.tanh),
        *(dialect.softplus, dialect.normal_cdf, dialect.sin, dialect.cos, dialect.sqrt),
        *(dialect.abs, dialect.maximum, dialect.minimum, dialect.select, dialect.fma),
    )
}


def formula(text: str, variables: tuple[str, ...] = ("z",)) -> Rule:
    """The rule that a formula describes; its parameter is the variable that the formula uses.

    Raises ValueError for a formula that is too long or too deep, or that has anything in it but
    numbers, one of `variables`, + - * /, powers with small exponents, and the functions above.
    """
    tree = _parsed(text)
    used = sorted(_Check(text, variables).variables(tree))
    if len(used) > 1:
        raise ValueError(f"the formula {text!r} uses {' and '.join(used)}; it must use one of them")
    if used == ["a"]:
        return lambda a: _value(tree, {"a": a})
    return lambda z: _value(tree, {"z": z})


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ValueError(f"a formula has up to {LONGEST} characters, got {len(text)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"the formula {text!r} cannot be read: {error}") from None
    if _depth(tree) > DEEPEST:
        raise ValueError(f"a formula is nested up to {DEEPEST} deep, got {_depth(tree)}")
    return tree


def _depth(tree: ast.AST) -> int:
    """Of expressions within expressions, without recursion."""
    depth, level = 0, [tree]
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


class _Check:
    """Refuses whatever is not of the language, quoting it."""

    def __init__(self, text: str, variables: tuple[str, ...]) -> None:
        self.text, self.allowed = text.strip(), variables

    def variables(self, node: ast.expr, condition: bool = False) -> set[str]:
        """The variables in an expression: a condition, or a number."""
        return {
            name
            for child, is_condition in self._children(node, condition)
            for name in self.variables(child, is_condition)
        } | ({node.id} if isinstance(node, ast.Name) else set())

    def _children(self, node: ast.expr, condition: bool) -> Iterator[tuple[ast.expr, bool]]:
        """The operands, each with whether it must be a condition."""
        if condition:
            if not isinstance(node, ast.Compare):
                self._refuse(node, "where a comparison must be")
            if len(node.ops) != 1 or type(node.ops[0]) not in COMPARISONS:
                self._refuse(node)
            yield from ((node.left, False), (node.comparators[0], False))
        elif isinstance(node, ast.Constant):
            self._check_number(node)
        elif isinstance(node, ast.Name):
            if node.id not in self.allowed:
                self._refuse(node)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield node.operand, False
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            self._check_exponent(node)
            yield node.left, False
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            yield from ((node.left, False), (node.right, False))
        elif isinstance(node, ast.Call):
            yield from self._arguments(node)
        else:
            self._refuse(node)

    def _check_number(self, node: ast.Constant) -> None:
        if not isinstance(node.value, (int, float)) or isinstance(node.value, bool):
            self._refuse(node)
        if abs(node.value) > LARGEST_NUMBER:
            self._refuse(node, "too large for float32")

    def _check_exponent(self, node: ast.BinOp) -> None:
        n = node.right.value if isinstance(node.right, ast.Constant) else None
        if type(n) is not int or not 0 <= n <= LARGEST_EXPONENT:
            self._refuse(node, f"whose exponent is not one of 0, 1, ... {LARGEST_EXPONENT}")

    def _arguments(self, node: ast.Call) -> Iterator[tuple[ast.expr, bool]]:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
            self._refuse(node)
        name = node.func.id
        wanted = len(inspect.signature(FUNCTIONS[name]).parameters)
        if len(node.args) != wanted:
            self._refuse(node, f"with {len(node.args)} arguments, wanted {wanted}")
        for i, argument in enumerate(node.args):
            yield argument, name == "select" and i == 0

    def _refuse(self, node: ast.AST, what: str = "") -> NoReturn:
        piece = ast.get_source_segment(self.text, node) or self.text
        raise ValueError(
            f"the formula {self.text!r} has {piece!r} in it{what and ', '}{what}; a formula is "
            f"made of {' or '.join(self.allowed)}, numbers, + - * /, ** with exponents up to "
            f"{LARGEST_EXPONENT}, and {', '.join(FUNCTIONS)}; select takes a comparison first"
        )


def _value(node: Any, given: Mapping[str, Real]) -> Real:
    """What an expression, which `_Check` has let pass, makes of the symbol given."""

    def value(child: ast.expr) -> Real:
        return _value(child, given)

    match node:
        case ast.Name(id=name):
            return given[name]
        case ast.Constant(value=number):
            return _number(number, given)
        case ast.UnaryOp(operand=ast.Constant(value=int() | float() as number)):
            return _number(-number, given)
        case ast.UnaryOp(operand=x):
            return -value(x)
        case ast.BinOp(left=x, op=ast.Pow(), right=ast.Constant(value=n)):
            return _power(value(x), n, given)
        case ast.BinOp(left=x, op=operation, right=y):
            return ARITHMETIC[type(operation)](value(x), value(y))
        case ast.Compare(left=x, ops=[operation], comparators=[y]):
            return COMPARISONS[type(operation)](value(x), value(y))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name](*map(value, arguments))
    raise AssertionError(f"{ast.dump(node)} was let pass")


def _number(number: Any, given: Mapping[str, Real]) -> Real:
    """A number as a constant of the dtype."""
    (dtype,) = (x.dtype for x in given.values())
    return Real(dtype, "constant", value=dtype.type(number))


def _power(x: Real, n: Any, given: Mapping[str, Real]) -> Real:
    """x * x * ... * x, from the left."""
    power = x if n else _number(1, given)
    for _ in range(n - 1):
        power = power * x
    return power
