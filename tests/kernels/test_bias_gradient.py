"""bias_gradient: dE/db = the sum of delta over samples."""

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from kernels.helpers import (
    FAMILIES,
    LEAF_SAMPLES,
    SIZES,
    as_specified,
    assert_as_reference,
    assert_within,
    fill,
    fractions,
    hostile,
    ordered_dot,
    run,
    shapes,
    unit_roundoff,
)


def test_every_size(exact, dtype):
    for shape in shapes(2):
        delta = sample(shape, dtype)
        assert_as_reference(exact, "bias_gradient", delta, None, what=f"(m, n) = {shape}")


@pytest.mark.parametrize("shape", [(1, 1), (65, 3), (200, 300)])
def test_out_is_filled_and_nothing_else(backend, dtype, shape):
    delta = sample(shape, dtype)
    wanted = run(backend, "bias_gradient", delta, None)
    assert_same_bits(fill(backend, "bias_gradient", shape[1:], delta), wanted)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("m", [1, 2, 70, 300])
def test_special_numbers(exact, dtype, family, m):
    delta = hostile(family, (m, 34), dtype)
    assert_as_reference(exact, "bias_gradient", delta, None)


@as_specified
def test_a_sum_of_negative_zeros_is_positive(specified, dtype):
    """A leaf starts at +0, so one that holds nothing but -0 gives +0."""
    delta = np.full((3, 2), -0.0, dtype)
    assert_same_bits(run(specified, "bias_gradient", delta, None), np.zeros(2, dtype))


@as_specified
@pytest.mark.parametrize("m", SIZES)
def test_the_order_of_the_sum(specified, dtype, m):
    """Leaves of 64 samples and the tree: in exact arithmetic, rounded as specified."""
    delta = sample((m, 1), dtype)
    wanted = ordered_dot(delta[:, 0], np.ones(m, dtype), LEAF_SAMPLES)
    assert_same_bits(run(specified, "bias_gradient", delta, None), np.array([wanted]))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (1000, 2), (65, 3)])
def test_the_equation(backend, dtype, shape):
    """Within n u sum |delta| of the exact sum."""
    delta = sample(shape, dtype)
    bound = shape[0] * unit_roundoff(dtype) * np.sum(np.abs(fractions(delta)), axis=0)
    db = run(backend, "bias_gradient", delta, None)
    assert_within(db, np.sum(fractions(delta), axis=0), bound, f"{shape}")
