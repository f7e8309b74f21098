"""descend: w <- fma(-eta, g, w), in place."""

from fractions import Fraction

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from kernels.helpers import (
    FAMILIES,
    SIZES,
    as_specified,
    assert_as_reference,
    assert_within,
    fractions,
    hostile,
    rounded,
    run,
    unit_roundoff,
)


def test_every_size(exact, dtype):
    for size in SIZES:
        args = (sample(size, dtype, 1), sample(size, dtype, 2), 0.1)
        assert_as_reference(exact, "descend", *args, what=f"size {size}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("eta", [0.0, 1e-3, 1.0, 1e30])
def test_special_numbers(exact, dtype, family, eta):
    args = (hostile(family, 500, dtype, 1), hostile(family, 500, dtype, 2), eta)
    assert_as_reference(exact, "descend", *args)


@as_specified
def test_one_rounding(specified, dtype):
    """w - eta g in exact arithmetic, rounded once; eta itself is rounded to the dtype first.

    w is nearly eta g: a product rounded on its own would leave nothing but its error.
    """
    g = sample(200, dtype)
    eta = np.dtype(dtype).type(0.1)
    w = eta * g
    exact = [Fraction(float(x)) - Fraction(float(eta)) * Fraction(float(y)) for x, y in zip(w, g)]
    wanted = np.array([rounded(x, dtype) for x in exact])
    assert np.count_nonzero(wanted) > 100
    assert_same_bits(run(specified, "descend", w, g, 0.1), wanted)


def test_the_equation(backend, dtype):
    """Within two roundings of w - eta g."""
    w, g = sample(300, dtype, 1), sample(300, dtype, 2)
    eta = Fraction(float(np.dtype(dtype).type(0.3)))
    bound = 2 * unit_roundoff(dtype) * (np.abs(fractions(w)) + eta * np.abs(fractions(g)))
    assert_within(run(backend, "descend", w, g, 0.3), fractions(w) - eta * fractions(g), bound)
