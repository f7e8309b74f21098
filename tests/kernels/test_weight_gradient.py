"""weight_gradient: dE/dW = delta^T a_in, summed over samples."""

from functools import partial

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


def inputs(m, n, n_in, dtype, numbers=sample):
    return numbers((m, n), dtype, seed=1), numbers((m, n_in), dtype, seed=2)


def test_every_size(exact, dtype):
    for shape in shapes(3):
        args = (*inputs(*shape, dtype), None)
        assert_as_reference(exact, "weight_gradient", *args, what=f"(m, n, n_in) = {shape}")


@pytest.mark.parametrize("shape", [(1, 1, 1), (65, 3, 7), (200, 33, 31)])
def test_out_is_filled_and_nothing_else(backend, dtype, shape):
    args = inputs(*shape, dtype)
    wanted = run(backend, "weight_gradient", *args, None)
    assert_same_bits(fill(backend, "weight_gradient", shape[1:], *args), wanted)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("m", [1, 2, 70, 300])
def test_special_numbers(exact, dtype, family, m):
    args = (*inputs(m, 5, 34, dtype, partial(hostile, family)), None)
    assert_as_reference(exact, "weight_gradient", *args)


@as_specified
@pytest.mark.parametrize("m", SIZES)
def test_the_order_of_the_sum(specified, dtype, m):
    """Leaves of 64 samples and the tree: in exact arithmetic, rounded as specified."""
    delta, a_in = inputs(m, 1, 1, dtype)
    wanted = ordered_dot(delta[:, 0], a_in[:, 0], LEAF_SAMPLES)
    assert_same_bits(run(specified, "weight_gradient", delta, a_in, None), np.array([[wanted]]))


@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 2, 5), (5, 3, 2), (1000, 2, 5), (65, 3, 3)])
def test_the_equation(backend, dtype, shape):
    """Within n u (|A||B|) of the exact product."""
    delta, a_in = (fractions(x) for x in inputs(*shape, dtype))
    bound = shape[0] * unit_roundoff(dtype) * (np.abs(delta).T @ np.abs(a_in))
    dW = run(backend, "weight_gradient", *inputs(*shape, dtype), None)
    assert_within(dW, delta.T @ a_in, bound, f"{shape}")
