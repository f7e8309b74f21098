"""The dialect: what tracing makes of a rule, and a user's own rule on every backend."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import HERE, assert_same_bits, sample
from deltaprop.emulation import OPERATIONS
from deltaprop.scalar import (
    DTYPES,
    FORMATS,
    Program,
    Real,
    elementary,
    fma,
    select,
    sqrt,
    trace,
)
from values import apply, frozen, special

# ------------------------------------------------------------------------------- tracing


def operations(program: Program) -> list[str]:
    return [step.op for step in program.steps]


def test_equal_steps_are_merged():
    program = trace(lambda z: (z * z + 1) / (z * z + 1.0), "float64")
    assert sorted(operations(program)) == ["add", "constant", "div", "input", "mul"]


def test_constants_are_rounded_once_to_the_dtype(dtype):
    (constant,) = (s.value for s in trace(lambda z: z + 0.1, dtype).steps if s.op == "constant")
    assert_same_bits(constant, np.dtype(dtype).type(0.1))


def test_zero_and_minus_zero_are_two_constants():
    program = trace(lambda z: select(z < 0.0, fma(z, 0, -0.0), 0.0), "float32")
    signs = [bool(np.signbit(s.value)) for s in program.steps if s.op == "constant"]
    assert sorted(signs) == [False, True]


@elementary
def square(x):
    return x * x


@elementary
def fourth(x):
    return square(square(x))


def test_calls_are_steps_and_come_after_those_they_make():
    program = trace(lambda z: fourth(z) + fourth(z) * square(z), "float32")
    assert operations(program).count("call") == 2
    assert [called.name for called in program.calls] == ["square", "fourth"]


def test_elementary_functions_of_one_name_are_one_function():
    """Defined again they are the same, with another content they are refused."""
    again, other = elementary(lambda x: x * x), elementary(lambda x: x * x * x)
    named = [elementary(named_square(rule)) for rule in (again, other)]
    program = trace(lambda z: named[0](z) + square(z), "float32")
    assert operations(program).count("call") == 1
    with pytest.raises(ValueError, match=r"two elementary functions .* 'square'.*rename"):
        trace(lambda z: named[1](z), "float32")


def named_square(rule):
    def square(x):
        return inspect.unwrap(rule)(x)

    return square


@elementary
def exp(x):
    return x + 1


def test_an_elementary_function_cannot_take_the_name_of_another(backend):
    """NumPy's own exp would be called for it."""
    with pytest.raises(ValueError, match="'exp'"):
        apply(backend, lambda z: exp(z), sample(5, "float64"))


@elementary
def f(x):
    return x * x + 1


@elementary
def double(x):
    return 2 * x


@elementary
def add(x):
    return x - 1


def test_an_elementary_function_may_have_any_name(backend):
    """That of a rule within a kernel, a word of C++, an operation."""
    x = sample(5, "float64")
    assert_same_bits(apply(backend, lambda z: f(z), x), x * x + 1)
    assert_same_bits(apply(backend, lambda z: double(z), x), 2 * x)
    assert_same_bits(apply(backend, lambda z: add(z), x), x - 1)


def test_programs_that_differ_in_the_sign_of_a_zero_are_two(exact):
    """A compiled one must not stand for the other."""
    x = sample(20, "float32")
    rules = (lambda z: select(z <= 9, 0.0, z), lambda z: select(z <= 9, -0.0, z))
    for zero, rule in zip((0.0, -0.0), rules):
        assert_same_bits(apply(exact, rule, x), np.full(20, zero, "float32"))


@pytest.mark.parametrize("name", ["t1", "t2", "c0", "exp", "double", "select"])
def test_names_of_parameters_clash_with_nothing(name, exact):
    rule = eval(f"lambda {name}: 3 * {name} + {name} / 7")
    x = sample(50, "float64")
    assert_same_bits(apply(exact, rule, x), 3 * x + x / 7)


BRANCHES = {
    "if": lambda z: 1 if z > 0 else 0,
    "max": lambda z: max(z, 0),
    "chain": lambda z: 0 < z < 1,
    "not": lambda z: not z,
    "equal": lambda z: 1 if z == 0 else z,
    "unequal": lambda z: 1 if z != 0 else z,
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_on_a_number_is_refused_with_advice(name):
    with pytest.raises(TypeError, match="select"):
        trace(BRANCHES[name], "float32")


WRONG = {
    "returns nothing": lambda z: None,
    "returns a condition": lambda z: z > 0,
    "text": lambda z: z + "1",
    "a list": lambda z: z * [1.0],
    "a truth value": lambda z: z + True,
    "a complex number": lambda z: z * 1j,
    "a condition as a number": lambda z: (z > 0) * z,
    "a number as a condition": lambda z: select(z, 1, 0),
    "a truth value as a condition": lambda z: select(True, z, 0),
    "a function of math": lambda z: math.exp(z),
    "a function of NumPy": lambda z: np.exp(z),
    "no symbol": lambda z: sqrt(2.0),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_a_number_is_refused(name):
    with pytest.raises(TypeError):
        trace(WRONG[name], "float64")


def test_symbols_of_two_dtypes_do_not_mix():
    x, y = (Real(dtype, "input", value="x") for dtype in DTYPES.values())
    with pytest.raises(TypeError, match=r"float32.*float64"):
        fma(x, y, 1)


# ------------------------------------------------------------------------- run and text

PLAIN = (
    lambda z: (z * z - 3) / (1 + abs(z)),
    lambda z: 1 - (2 / (-z) + 0.1) * z,
    lambda z: np.float32(0.5) * z + np.float64(0.25) - z / np.int64(3),
    lambda z: sum(z / k for k in range(1, 7)),
)


@pytest.mark.parametrize("rule", PLAIN)
def test_run_is_the_rules_own_arithmetic(rule):
    x = sample(1000, "float64")
    assert_same_bits(trace(rule, "float64").run(OPERATIONS, x), rule(x))


def run_text(program: Program, *inputs: Any) -> Any:
    """The program printed as Python and executed on arrays."""
    names = {FORMATS[op].partition("(")[0]: f for op, f in OPERATIONS.items()}
    names |= {c.symbol: lambda *args, c=c: run_text(c, *args) for c in program.calls}
    names |= {"np": np} | dict(zip(program.inputs, inputs))
    lines, result = program.text(
        "{name} = {expression}\n", lambda c: f"np.{c.dtype}('{float(c)!r}')"
    )
    with np.errstate(all="ignore"):
        exec("".join(lines), names)
        return np.broadcast_to(eval(result, names), inputs[0].shape)


@pytest.mark.parametrize("name", dp.ACTIVATIONS)
def test_text_and_run_are_the_same_program(name, dtype):
    x = np.concatenate([special(dtype), sample(500, dtype)])
    for rule in (dp.ACTIVATIONS[name].value, dp.ACTIVATIONS[name].slope):
        assert_same_bits(run_text(trace(rule, dtype), x), apply("reference", rule, x))


# ------------------------------------------------------------------------- a user's rule


def arctan(z):
    """Euler's series of arctan, for |z| up to 1: every term is twice the next or more."""
    y = z * z / (1 + z * z)
    total = term = z / (1 + z * z)
    for n in range(1, 24):
        term = term * y * (2 * n / (2 * n + 1))
        total = total + term
    return total


SOFTSIGN = dp.Activation(
    "softsign", lambda z: z / (1 + abs(z)), lambda z: 1 / ((1 + abs(z)) * (1 + abs(z)))
)


def test_a_users_rule_runs_everywhere(backend, dtype):
    x = frozen(np.linspace(-1, 1, 1001), dtype)
    got = apply(backend, arctan, x)
    # 24 positive terms of 3 roundings each, and a tail below 2^-24.
    bound = 72 * np.finfo(dtype).eps * np.abs(x) + 2.0**-24
    assert np.all(np.abs(got - np.arctan(x.astype(np.float64))) <= bound)
    if backend != "numpy":
        assert_same_bits(got, apply("reference", arctan, x))


def test_a_users_activation_trains_everywhere():
    X, Y = sample((7, 3), "float32"), sample((7, 2), "float32", 1)
    net = dp.MLP([3, 5, 2], activation=SOFTSIGN, output=SOFTSIGN, backend="reference")
    report = dp.crosscheck(net, X, Y, backends=HERE)
    assert report, str(report)
    assert dp.gradcheck(net.to("numpy"), X, Y)
