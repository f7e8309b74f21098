"""add: x <- x + y, in place."""

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from kernels.helpers import FAMILIES, SIZES, assert_as_reference, fractions, hostile, rounded, run


def test_every_size(exact, dtype):
    for size in SIZES:
        args = (sample(size, dtype, 1), sample(size, dtype, 2))
        assert_as_reference(exact, "add", *args, what=f"size {size}")


@pytest.mark.parametrize("family", FAMILIES)
def test_special_numbers(exact, dtype, family):
    args = (hostile(family, 500, dtype, 1), hostile(family, 500, dtype, 2))
    assert_as_reference(exact, "add", *args)


def test_the_equation(backend, dtype):
    """The exact sum, rounded once."""
    x, y = sample(300, dtype, 1), sample(300, dtype, 2)
    wanted = np.array([rounded(s, dtype) for s in fractions(x) + fractions(y)])
    assert_same_bits(run(backend, "add", x, y), wanted)
