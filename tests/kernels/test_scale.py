"""scale: c x."""

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from kernels.helpers import FAMILIES, SIZES, assert_as_reference, fractions, hostile, rounded, run


def test_every_size(exact, dtype):
    for size in SIZES:
        assert_as_reference(exact, "scale", sample(size, dtype, 1), 1 / 3, what=f"size {size}")


@pytest.mark.parametrize("family", FAMILIES)
def test_special_numbers(exact, dtype, family):
    for c in (0.75, float(np.finfo(dtype).tiny)):
        assert_as_reference(exact, "scale", hostile(family, 500, dtype, 1), c)


def test_the_equation(backend, dtype):
    """The exact product, rounded once."""
    x, c = sample(300, dtype, 1), sample(1, dtype, 2)
    wanted = np.array([rounded(s, dtype) for s in fractions(x) * fractions(c)])
    assert_same_bits(run(backend, "scale", x, float(c[0])), wanted)
