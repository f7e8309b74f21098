"""softmax: exp(z_k - max z) / sum_j exp(z_j - max z), row by row."""

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop import elementary as el
from kernels import textbook
from kernels.helpers import (
    FAMILIES,
    LEAF_FEATURES,
    SIZES,
    as_specified,
    assert_as_reference,
    assert_within,
    fractions,
    hostile,
    ordered_dot,
    run,
    shapes,
    unit_roundoff,
)


def test_every_size(exact, dtype):
    for shape in shapes(2):
        z = sample(shape, dtype)
        assert_as_reference(exact, "softmax", z, what=f"{shape}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 70, 600])
def test_special_numbers(exact, dtype, family, n):
    z = hostile(family, (12, n), dtype)
    assert_as_reference(exact, "softmax", z)


@as_specified
@pytest.mark.parametrize("n", SIZES)
def test_the_order_of_the_sum(specified, dtype, n):
    """Of the exponentials: leaves of 256 and the tree, in exact arithmetic."""
    z = sample((1, n), dtype)
    e = run(specified, "apply", el.exp, z - np.max(z))
    total = ordered_dot(e[0], np.ones(n, dtype), LEAF_FEATURES)
    assert_same_bits(run(specified, "softmax", z), e / total)


def test_any_offset(backend, dtype):
    """z + c has the softmax of z: nothing overflows, and small differences count."""
    z = np.round(sample((5, 9), dtype) * 64) / 64
    assert_same_bits(run(backend, "softmax", z + 4096), run(backend, "softmax", z))


def test_an_infinite_score(backend, dtype):
    """-inf is a probability of 0; +inf has none, nor has NaN, and they spoil their row alone."""
    z = np.zeros((4, 3), dtype)
    z[0, 0], z[1, 0], z[2, 0] = -np.inf, np.inf, np.nan
    p = run(backend, "softmax", z)
    assert_same_bits(p[0], np.array([0, 0.5, 0.5], dtype))
    assert np.isnan(p[1:3]).all()
    assert_same_bits(p[3], np.full(3, 1, dtype) / 3)


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (2, 300)])
def test_the_equation(backend, dtype, shape):
    """Each exponential to within its evaluation, and n roundings of the sum."""
    z = sample(shape, dtype) * 3
    wanted = np.array([[*map(textbook.fraction, row)] for row in _textbook(z)])
    spread = 1 + np.max(z, axis=1, keepdims=True) - np.min(z, axis=1, keepdims=True)
    relative = unit_roundoff(dtype) * (2 * textbook.EVALUATION * fractions(spread) + shape[1] + 1)
    assert_within(run(backend, "softmax", z), wanted, relative * wanted, f"{shape}")


def _textbook(z):
    return [textbook.softmax([textbook.number(x) for x in row]) for row in z]
