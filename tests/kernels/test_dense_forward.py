"""dense_forward: z = a_in W^T + b, a = g(z)."""

from functools import partial

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.activations import ACTIVATIONS, IDENTITY
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


def inputs(m, n, n_in, dtype, numbers=sample):
    a_in, W = numbers((m, n_in), dtype, seed=1), numbers((n, n_in), dtype, seed=2)
    return a_in, W, numbers((n,), dtype, seed=3)


def test_every_size(exact, dtype):
    for shape in shapes(3):
        args = (*inputs(*shape, dtype), IDENTITY, True)
        assert_as_reference(exact, "dense_forward", *args, what=f"(m, n, n_in) = {shape}")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(exact, dtype, name):
    args = (*inputs(5, 33, 20, dtype), ACTIVATIONS[name], True)
    assert_as_reference(exact, "dense_forward", *args)


def test_a_is_the_value_of_z(exact, dtype):
    g = ACTIVATIONS["gelu"]
    z, a = run(exact, "dense_forward", *inputs(5, 9, 4, dtype), g, True)
    assert_same_bits(a, run(exact, "apply", g.value, z))


def test_without_bias_or_z(exact, dtype):
    """z is left out where it is not wanted, and a is the same."""
    a_in, W, b = inputs(7, 35, 300, dtype)
    for bias in (b, None):
        z, a = run("reference", "dense_forward", a_in, W, bias, ACTIVATIONS["tanh"], True)
        got_z, got_a = run(exact, "dense_forward", a_in, W, bias, ACTIVATIONS["tanh"], True)
        none, alone = run(exact, "dense_forward", a_in, W, bias, ACTIVATIONS["tanh"], False)
        assert none is None
        for got, wanted in ((got_z, z), (got_a, a), (alone, a)):
            assert_same_bits(got, wanted, f"bias {bias is not None}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_in", [1, 2, 70, 600])
def test_special_numbers(exact, dtype, family, n_in):
    args = (*inputs(5, 34, n_in, dtype, partial(hostile, family)), IDENTITY, True)
    assert_as_reference(exact, "dense_forward", *args)


@as_specified
@pytest.mark.parametrize("n_in", SIZES)
def test_the_order_of_the_sum(specified, dtype, n_in):
    """Leaves of 256, the tree, then + b: in exact arithmetic, rounded as specified."""
    a_in, W, b = inputs(1, 1, n_in, dtype)
    wanted = ordered_dot(a_in[0], W[0], LEAF_FEATURES) + b[0]
    z, _ = run(specified, "dense_forward", a_in, W, b, IDENTITY, True)
    assert_same_bits(z, np.array([[wanted]]))


@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 2, 5), (5, 3, 2), (2, 5, 1000), (3, 3, 257)])
def test_the_equation(backend, dtype, shape):
    """Within n u (|A||B|) of the exact product; of equal sizes, W may be transposed unseen."""
    a_in, W, b = (fractions(x) for x in inputs(*shape, dtype))
    wanted = a_in @ W.T + b
    size = np.abs(a_in) @ np.abs(W.T) + np.abs(b)
    z, _ = run(backend, "dense_forward", *inputs(*shape, dtype), IDENTITY, True)
    assert_within(z, wanted, (shape[2] + 1) * unit_roundoff(dtype) * size, f"{shape}")
