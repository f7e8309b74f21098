"""apply: f(x), element by element."""

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop import elementary as el
from deltaprop.activations import ACTIVATIONS
from kernels import textbook
from kernels.helpers import (
    FAMILIES,
    SIZES,
    assert_as_reference,
    assert_within,
    fractions,
    hostile,
    run,
    unit_roundoff,
)

NAMES = list(ACTIVATIONS)


@pytest.mark.parametrize("size", SIZES)
def test_every_size(exact, dtype, size):
    x = sample(size, dtype)
    rule = ACTIVATIONS["tanh"].value
    assert_as_reference(exact, "apply", rule, x)


@pytest.mark.parametrize("shape", [(7,), (5, 3), (2, 3, 4), (1, 1, 1, 6)])
def test_every_shape(backend, dtype, shape):
    x = sample(shape, dtype)
    wanted = run("reference", "apply", ACTIVATIONS["relu"].value, x)
    assert_same_bits(run(backend, "apply", ACTIVATIONS["relu"].value, x), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_every_activation(exact, dtype, name):
    """Also of numbers that overflow, vanish or are none."""
    g = ACTIVATIONS[name]
    numbers = [sample(300, dtype) * scale for scale in (1, 10, 1000)]
    x = np.concatenate([*numbers, *(hostile(family, 60, dtype) for family in FAMILIES)])
    for rule, what in ((g.value, "value"), (g.slope, "slope")):
        assert_as_reference(exact, "apply", rule, x, what=f"{what} of {name}")


def test_a_rule_of_no_number(exact, dtype):
    """A slope may be a constant."""
    x = hostile("everything", 20, dtype)
    assert_same_bits(run(exact, "apply", lambda a: 1, x), np.ones(20, dtype))


def test_a_product_and_a_sum_stay_two_roundings(exact, dtype):
    """x * x - 1 near 1: fused into one operation, it would keep what rounding x * x loses."""
    x = 1 + np.ldexp(sample(1000, dtype), -10)
    assert_as_reference(exact, "apply", lambda x: x * x - 1, x)
    assert_same_bits(run(exact, "apply", lambda x: x * x - 1, x), x * x - 1)


def _away_from_kinks(dtype):
    z = sample(60, dtype, seed=1) * 3
    assert np.all(z != 0)
    return z


@pytest.mark.parametrize("name", NAMES)
def test_value_against_textbook(backend, dtype, name):
    z = _away_from_kinks(dtype)
    bound = textbook.EVALUATION * unit_roundoff(dtype) * (1 + np.abs(fractions(z)))
    a = run(backend, "apply", ACTIVATIONS[name].value, z)
    assert_within(a, textbook.value(name, z), bound, f"value of {name}")


@pytest.mark.parametrize("name", [n for n in NAMES if not ACTIVATIONS[n].rowwise])
def test_slope_against_textbook(backend, dtype, name):
    """The slope is given what it asks for: z, or the value a of z."""
    g, z = ACTIVATIONS[name], _away_from_kinks(dtype)
    s = z if g.slope_of == "z" else run(backend, "apply", g.value, z)
    bound = textbook.EVALUATION * unit_roundoff(dtype) * (1 + np.abs(fractions(z)))
    slope = run(backend, "apply", g.slope, s)
    assert_within(slope, textbook.slope(name, z), bound, f"slope of {name}")


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh"])
def test_elementary_functions_against_textbook(backend, dtype, name):
    """The numpy backend has them from NumPy, the others from deltaprop."""
    import mpmath

    x = np.abs(_away_from_kinks(dtype))
    wanted = np.array([textbook.fraction(getattr(mpmath, name)(textbook.number(v))) for v in x])
    bound = textbook.EVALUATION * unit_roundoff(dtype) * np.maximum(np.abs(wanted), 1)
    assert_within(run(backend, "apply", getattr(el, name), x), wanted, bound, name)
