"""Formulas as text: what they mean, and that nothing else is let in."""

from __future__ import annotations

import sys

import pytest

from conftest import assert_same_bits, sample
from deltaprop import math as dm
from deltaprop.formula import FUNCTIONS, formula
from deltaprop.scalar import trace
from values import apply

SAME = {
    "z": lambda z: z,
    " z\t": lambda z: z,
    "5": lambda z: 5,
    "-z": lambda z: -z,
    "-0.01 * z": lambda z: -0.01 * z,
    "1 / 3 * z": lambda z: (1 / (3 + 0 * z)) * z,
    "1 - z / 2 + z * .5e1": lambda z: 1 - z / 2 + z * 5,
    "z**3": lambda z: z * z * z,
    "-z**2": lambda z: -(z * z),
    "z**1 + z**0": lambda z: z + 1,
    "(z + 1)**2": lambda z: (z + 1) * (z + 1),
    "z * tanh(softplus(z))": lambda z: z * dm.tanh(dm.softplus(z)),
    "select(z <= 0, 0, z)": lambda z: dm.select(z <= 0, 0, z),
    "select(0 < z, z, select(z >= -1, -z, 1))": lambda z: dm.select(
        z > 0, z, dm.select(z >= -1, -z, 1)
    ),
    "fma(z, z, sqrt(abs(z)))": lambda z: dm.fma(z, z, dm.sqrt(dm.abs(z))),
    "minimum(maximum(z, -1), 1)": lambda z: dm.minimum(dm.maximum(z, -1), 1),
    "exp(1) * z": lambda z: dm.exp(1 + 0 * z) * z,
}


@pytest.mark.parametrize("text", SAME)
def test_a_formula_is_the_rule_it_describes(text, dtype):
    z = sample(200, dtype)
    got = apply("reference", formula(text), z)
    assert_same_bits(got, apply("reference", SAME[text], z))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function(name):
    rest = {"fma": ", 2, 3)", "maximum": ", 1)", "minimum": ", 1)", "select": " > 0, 1, 2)"}
    rule = formula(f"{name}(z{rest.get(name, ')')}")
    assert trace(rule, "float32").inputs == ("x0",)


def test_the_parameter_is_the_variable_that_is_used():
    for text, variable in (("a * (1 - a)", "a"), ("1 - z", "z"), ("7", "z")):
        assert formula(text, ("z", "a")).__code__.co_varnames[0] == variable
    with pytest.raises(ValueError, match="'z \\* a' uses a and z"):
        formula("z * a", ("z", "a"))


# The text, and the piece of it that is quoted.
REFUSED = {
    "z.real": "z.real",
    "__import__('os')": "__import__",
    "1 + z.__class__.__mro__": "z.__class__.__mro__",
    "z + (lambda z: z)(z)": "(lambda z: z)(z)",
    "[x for x in z]": "[x for x in z]",
    "z if z else 1": "z if z else 1",
    "f'{z}'": "f'{z}'",
    "z[0]": "z[0]",
    "y + 1": "'y'",
    "a": "'a'",
    "exp": "'exp'",
    "1 + foo(z)": "foo(z)",
    "copysign(z, z)": "copysign(z, z)",
    "exp(z, z)": "1",
    "fma(z, z)": "wanted 3",
    "exp(x=z)": "exp(x=z)",
    "exp(*z)": "*z",
    "exp(**z)": "exp(**z)",
    "z > 0": "z > 0",
    "(z > 0) * z": "z > 0",
    "select(z, 1, 2)": "a comparison",
    "select(0 < z < 1, 1, 2)": "0 < z < 1",
    "select(z == 0, 1, 2)": "z == 0",
    "select(z > 0 and z < 1, 1, 2)": "z > 0 and z < 1",
    "select(not z, 1, 2)": "not z",
    "z**0.5": "z**0.5",
    "z**17": "z**17",
    "z**-1": "z**-1",
    "2**z": "2**z",
    "z**True": "z**True",
    "z // 2": "z // 2",
    "z % 2": "z % 2",
    "z @ z": "z @ z",
    "z << 1": "z << 1",
    "+z": "+z",
    "~z": "~z",
    "True * z": "True",
    "None": "None",
    "...": "...",
    "1j * z": "1j",
    "'z'": "'z'",
    "b'z'": "b'z'",
    "1e39 * z": "1e39",
    "1e999 * z": "1e999",
    "9" * 400: "too large",
    "z, z": "z, z",
}


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_refused_and_quoted(text):
    with pytest.raises(ValueError) as caught:
        formula(text)
    message = str(caught.value)
    assert REFUSED[text] in message
    assert "tanh, softplus" in message, "does not list what is allowed"


@pytest.mark.parametrize("text", ["", "  ", "(", "z z", "z;z", "z:=1", "z = 1", "import os", "z\0"])
def test_what_is_no_expression_cannot_be_read(text):
    with pytest.raises(ValueError, match="cannot be read"):
        formula(text)


def test_long_and_deep_formulas_are_refused():
    for text in ("z" * 1001, "z+" * 600 + "z", "-" * 10**6 + "z", "(" * 10**6):
        with pytest.raises(ValueError, match="up to 1000 characters, got"):
            formula(text)
    for text in ("z+" * 450 + "z", "-" * 900 + "z", "exp(" * 99 + "z" + ")" * 99, "z" + "**1" * 99):
        with pytest.raises(ValueError, match=r"up to 100 deep|exponent|nested parentheses"):
            formula(text)
    with pytest.raises(ValueError, match="too many nested parentheses"):
        formula("(" * 400 + "z" + ")" * 400)


def test_the_deepest_formula_can_be_traced():
    """It does not come near Python's own limit."""
    before = sys.getrecursionlimit()
    rule = formula("-" * 98 + "z")
    assert len(trace(rule, "float32").steps) == 99
    power = "z"
    for _ in range(20):
        power = f"({power})**16"
    assert len(trace(formula(power), "float64").steps) == 1 + 20 * 15
    assert sys.getrecursionlimit() == before
