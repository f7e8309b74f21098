"""log_softmax: (z_k - max z) - ln sum_j exp(z_j - max z), row by row."""

import mpmath
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
        assert_as_reference(exact, "log_softmax", z, what=f"(m, n) = {shape}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 70, 600])
def test_special_numbers(exact, dtype, family, n):
    z = hostile(family, (12, n), dtype)
    assert_as_reference(exact, "log_softmax", z)


@as_specified
@pytest.mark.parametrize("n", SIZES)
def test_the_order_of_the_sum(specified, dtype, n):
    """Of the exponentials: leaves of 256 and the tree, in exact arithmetic."""
    z = sample((1, n), dtype)
    shifted = z - np.max(z)
    e = run(specified, "apply", el.exp, shifted)
    total = ordered_dot(e[0], np.ones(n, dtype), LEAF_FEATURES)
    log_total = run(specified, "apply", el.log, np.array([[total]]))
    assert_same_bits(run(specified, "log_softmax", z), shifted - log_total)


def test_any_offset(backend, dtype):
    """z + c has the log_softmax of z: nothing overflows, and small differences count."""
    z = np.round(sample((5, 9), dtype) * 64) / 64
    assert_same_bits(run(backend, "log_softmax", z + 4096), run(backend, "log_softmax", z))


def test_an_unlikely_output(backend, dtype):
    """Its logarithm is there long after its probability has become 0."""
    z = np.array([[0, -3000]], dtype)
    assert_same_bits(run(backend, "log_softmax", z), z)
    assert run(backend, "softmax", z)[0, 1] == 0


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (2, 300)])
def test_the_equation(backend, dtype, shape):
    """The logarithm of a sum whose terms are off as in softmax."""
    z = sample(shape, dtype) * 3
    rows = [textbook.softmax([textbook.number(x) for x in row]) for row in z]
    wanted = np.array([[textbook.fraction(mpmath.log(p)) for p in row] for row in rows])
    spread = 1 + np.max(z, axis=1, keepdims=True) - np.min(z, axis=1, keepdims=True)
    bound = unit_roundoff(dtype) * (3 * textbook.EVALUATION * fractions(spread) + shape[1] + 1)
    assert_within(run(backend, "log_softmax", z), wanted, bound, f"{shape}")
