"""Derived slopes and error bounds: every line of the tables, random formulas, the ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

import formulas
from conftest import assert_same_bits
from deltaprop import math as dm
from deltaprop.derivative import FUNCTIONS, OPERATIONS, derivative, rounding
from deltaprop.elementary import ELEMENTARY
from deltaprop.formula import formula
from deltaprop.scalar import CONDITIONS, FORMATS, exponent, pow2, trace
from values import apply, frozen


def at(rule, *z: float, dtype: str = "float64") -> list[float]:
    return apply("reference", rule, frozen(z, dtype)).tolist()


def slopes(rule, *z: float, dtype: str = "float64") -> list[float]:
    return at(derivative(rule), *z, dtype=dtype)


def test_the_tables_have_every_operation_and_function():
    assert {*OPERATIONS, *CONDITIONS, "select"} == set(FORMATS)
    assert set(FUNCTIONS) == set(ELEMENTARY)


@dm.elementary
def saddle(x, y):
    return x * x - x * y


# Of z = 2 and z = -3, exactly.
EXACT = {
    "constant": (lambda z: 5, 0, 0),
    "input": (lambda z: z, 1, 1),
    "add": (lambda z: z + z, 2, 2),
    "add a constant": (lambda z: 3 + z, 1, 1),
    "sub": (lambda z: 3 - z, -1, -1),
    "mul": (lambda z: z * z * z, 12, 27),
    "mul by a constant": (lambda z: 7 * z, 7, 7),
    "div": (lambda z: z / (z - 1), -1, -1 / 16),
    "div of a constant": (lambda z: 4 / z, -1, -4 / 9),
    "neg": (lambda z: -z, -1, -1),
    "fma": (lambda z: dm.fma(z, z, -3 * z), 1, -9),
    "sqrt": (lambda z: dm.sqrt(z * z + 5), 2 / 3, -3 / math.sqrt(14)),
    "fabs": (lambda z: dm.abs(z), 1, -1),
    "copysign": (lambda z: dm.copysign(z * z, z), 4, 6),
    "copysign of a constant": (lambda z: dm.copysign(3, z), 0, 0),
    "rint": (lambda z: dm.rint(z) * z, 2, -3),
    "exponent and pow2": (lambda z: pow2(exponent(z)) * z, 2, 2),
    "select": (lambda z: dm.select(z < 0, z * z, 3), 0, -6),
    "maximum": (lambda z: dm.maximum(z, 1), 1, 0),
    "minimum": (lambda z: dm.minimum(z, 1), 0, 1),
    "a function of one's own": (lambda z: saddle(z, 3 * z), -8, 12),
    "0 times an infinite factor": (lambda z: dm.sqrt(z - z), 0, 0),
}


@pytest.mark.parametrize("name", EXACT)
def test_operations(name):
    rule, right, left = EXACT[name]
    assert slopes(rule, 2, -3) == pytest.approx([right, left], rel=1e-15)


@pytest.mark.parametrize("name", ELEMENTARY)
def test_functions(name, dtype):
    """Called, and given as the rule itself: not their polynomials are differentiated."""
    z = frozen([0.25, 1.5, 3.75], dtype)
    for rule in (ELEMENTARY[name], lambda z: ELEMENTARY[name](z)):
        got = apply("reference", derivative(rule), z)
        wanted = [float(mp.diff(formulas.FUNCTIONS[name], mpf(float(x)))) for x in z]
        eps = np.finfo(dtype).eps
        assert np.allclose(got, wanted, rtol=8 * eps, atol=8 * eps)


def test_at_a_kink_it_is_the_slope_of_the_branch_that_is_taken():
    assert slopes(lambda z: dm.abs(z), 0.0, -0.0) == [-1, -1]
    assert slopes(lambda z: dm.maximum(z, 0), 0.0) == [1]
    assert slopes(lambda z: dm.select(z <= 0, 0, z), 0.0) == [0]


def test_a_saturated_factor_keeps_the_slope_flat(dtype):
    """Infinity times 0, where the infinity is an overflow or the argument."""
    for rule, at_ends in (
        (lambda z: z * dm.tanh(dm.softplus(z)), [0, 1]),
        (lambda z: z * dm.logistic(z), [0, 1]),
        (lambda z: dm.tanh(z * z * z), [0, 0]),
        (lambda z: dm.exp(-z * z) * z, [0, 0]),
        (lambda z: dm.log1p(dm.abs(z)), [0, 0]),
    ):
        for end in (1000, 1e30, np.finfo(dtype).max, math.inf):
            assert slopes(rule, -end, end, dtype=dtype) == pytest.approx(at_ends, abs=1e-3), end
    # A denominator that overflows, where the value is still a number.
    assert slopes(lambda z: z / (1 + dm.exp(-z)), -800, 800, dtype=dtype) == [0, 1]


def test_nan_stays():
    for rule in (lambda z: z * z, lambda z: z * dm.tanh(z), lambda z: dm.exp(z) / (1 + z)):
        assert np.isnan(slopes(rule, math.nan)).all()


def test_what_is_constant_has_no_tangent():
    """Nor does a factor of 1 cost a product."""
    program = trace(derivative(lambda z: (z + dm.rint(z) * 3) * 2 - 1), "float32")
    assert [step.op for step in program.steps] == ["constant"]
    ops = [step.op for step in trace(derivative(lambda z: dm.sin(z) + 1), "float32").steps]
    assert ops == ["input", "call"]


# -------------------------------------------------------------------------- random formulas

POINTS = (-2.7182, -0.3141, 0.1234, 0.5772, 1.6181, 4.6692)
any_formula = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def exact_value(text: str, z: mpf) -> mpf:
    """Of a formula at a point of its domain; others are of no use here."""
    try:
        value = formulas.evaluate(text, z)
    except (ValueError, ZeroDivisionError, TypeError, OverflowError):  # complex, or a pole
        value = mpf("nan")
    assume(mp.isfinite(value) and abs(value) < 1e6)
    return value


@any_formula
@given(formulas.formulas(), st.sampled_from(POINTS))
def test_the_derivative_of_any_formula(text, point):
    """Both in 40 digits, where the program of the slope has no roundings but its constants'."""
    with mp.workdps(40):
        z = mpf(point)
        for near in (z - 1e-6, z, z + 1e-6):
            exact_value(text, near)
        wanted = mp.diff(lambda x: formulas.evaluate(text, x), z)
        assume(abs(wanted) < 1e6)
        got = formulas.run(trace(derivative(formula(text)), "float64"), z)
        assert abs(got - wanted) <= 1e-10 * (1 + abs(wanted))


@any_formula
@given(formulas.formulas(), st.sampled_from(POINTS), st.sampled_from(["float32", "float64"]))
def test_the_error_bound_of_any_formula(text, point, dtype):
    """It holds to first order: a thousandth more for what is of second order."""
    z = frozen([point], dtype)
    with mp.workdps(40):
        exact = exact_value(text, mpf(float(z[0])))
        rule = formula(text)
        got, bound = (float(apply("reference", f, z)[0]) for f in (rule, rounding(rule)))
        assume(math.isfinite(bound) and bound < 1e-3)
        assert abs(got - exact) <= 1.001 * bound


def test_the_error_bound_sees_cancellation():
    """Between numbers of size 1, of which a hundred-millionth is left."""
    rule = formula("1 - cos(z)")
    (bound,) = at(rounding(rule), 1e-4)
    assert 1e-16 < bound < 1e-15
    assert_same_bits(np.array(at(rounding(lambda z: -z), 3.0)), np.zeros(1))
