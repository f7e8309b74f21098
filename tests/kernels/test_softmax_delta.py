"""softmax_delta: delta_k = a_k (u_k - sum_j a_j u_j), row by row."""

import mpmath
import numpy as np
import pytest

from conftest import assert_same_bits, sample
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


def probabilities(shape, dtype):
    return run("reference", "softmax", sample(shape, dtype, 1) * 3)


def test_every_size(exact, dtype):
    for shape in shapes(2):
        args = probabilities(shape, dtype), sample(shape, dtype, 2)
        assert_as_reference(exact, "softmax_delta", *args, what=f"{shape}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 70, 600])
def test_special_numbers(exact, dtype, family, n):
    args = (hostile(family, (12, n), dtype, seed) for seed in (1, 2))
    assert_as_reference(exact, "softmax_delta", *args)


@as_specified
@pytest.mark.parametrize("n", SIZES)
def test_the_order_of_the_sum(specified, dtype, n):
    """A sum of products: leaves of 256 and the tree; then a difference and a product."""
    a, u = probabilities((1, n), dtype), sample((1, n), dtype, 2)
    total = ordered_dot(a[0], u[0], LEAF_FEATURES)
    assert_same_bits(run(specified, "softmax_delta", a, u), a * (u - total))


def test_an_upstream_that_is_the_same_for_all(backend, dtype):
    """The probabilities of a row sum to 1, whatever the scores: no delta."""
    a = np.array([[0.5, 0.25, 0.25], [1, 0, 0]], dtype)
    assert not run(backend, "softmax_delta", a, np.full((2, 3), 3, dtype)).any()


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (2, 40)])
def test_the_equation(backend, dtype, shape):
    """sum_j u_j da_j/dz_k, with the whole Jacobian of the a that is given."""
    a, u = probabilities(shape, dtype), sample(shape, dtype, 2)
    p, v = fractions(a), fractions(u)
    wanted = np.array([v_i @ (np.diag(p_i) - np.outer(p_i, p_i)) for p_i, v_i in zip(p, v)])
    size = np.abs(p * v).sum(axis=1, keepdims=True)
    bound = unit_roundoff(dtype) * p * (2 * np.abs(v) + (shape[1] + 2) * size)
    assert_within(run(backend, "softmax_delta", a, u), wanted, 2 * bound, f"{shape}")


def test_it_is_the_slope_of_softmax(backend):
    """By differences in fifty digits of sum_j u_j softmax(z)_j, at z of any size."""
    z, u = sample((4, 6), "float64", 1) * 5, sample((4, 6), "float64", 2)
    delta = run(backend, "softmax_delta", run("reference", "softmax", z), u)
    h = mpmath.mpf(10) ** -15
    with mpmath.workdps(50):
        for z_i, u_i, got in zip(z, u, delta):

            def E(k, step, z_i=z_i, u_i=u_i):
                moved = [textbook.number(x) + (step if j == k else 0) for j, x in enumerate(z_i)]
                return mpmath.fdot(map(textbook.number, u_i), textbook.softmax(moved))

            slope = np.array([float((E(k, h) - E(k, -h)) / (2 * h)) for k in range(len(z_i))])
            np.testing.assert_allclose(got, slope, rtol=1e-12, atol=1e-14)
