"""hidden_delta: delta = (delta_next W_next) * g'(s)."""

from functools import partial

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.activations import ACTIVATIONS, IDENTITY
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

UNITWISE = [name for name, g in ACTIVATIONS.items() if not g.rowwise]


def inputs(m, n, n_next, dtype, numbers=sample):
    delta_next = numbers((m, n_next), dtype, seed=1)
    return delta_next, numbers((n_next, n), dtype, seed=2), numbers((m, n), dtype, seed=3)


def test_every_size(exact, dtype):
    for shape in shapes(3):
        args = (*inputs(*shape, dtype), ACTIVATIONS["logistic"])
        assert_as_reference(exact, "hidden_delta", *args, what=f"(m, n, n_next) = {shape}")


@pytest.mark.parametrize("name", UNITWISE)
def test_every_activation(exact, dtype, name):
    args = (*inputs(5, 33, 20, dtype), ACTIVATIONS[name])
    assert_as_reference(exact, "hidden_delta", *args)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_next", [1, 2, 70, 600])
def test_special_numbers(exact, dtype, family, n_next):
    args = (*inputs(5, 34, n_next, dtype, partial(hostile, family)), ACTIVATIONS["tanh"])
    assert_as_reference(exact, "hidden_delta", *args)


@as_specified
@pytest.mark.parametrize("n_next", SIZES)
def test_the_order_of_the_sum(specified, dtype, n_next):
    """Leaves of 256, the tree, then * slope: in exact arithmetic, rounded as specified."""
    delta_next, W_next, s = inputs(1, 1, n_next, dtype)
    g = ACTIVATIONS["logistic"]
    slope = run(specified, "apply", g.slope, s)
    wanted = ordered_dot(delta_next[0], W_next[:, 0], LEAF_FEATURES) * slope
    assert_same_bits(run(specified, "hidden_delta", delta_next, W_next, s, g), wanted)


@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 2, 5), (5, 3, 2), (2, 5, 1000), (3, 3, 257)])
def test_the_equation(backend, dtype, shape):
    """Within n u (|A||B|) of the exact product; of equal sizes, W may be transposed unseen."""
    delta_next, W_next, _ = (fractions(x) for x in inputs(*shape, dtype))
    bound = (shape[2] + 1) * unit_roundoff(dtype) * (np.abs(delta_next) @ np.abs(W_next))
    delta = run(backend, "hidden_delta", *inputs(*shape, dtype), IDENTITY)
    assert_within(delta, delta_next @ W_next, bound, f"{shape}")


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_the_slope(backend, dtype, name):
    """g'(z) of the layer's own z, given as a where the slope is taken from a."""
    delta_next, W_next, z = inputs(4, 3, 5, dtype)
    g, u = ACTIVATIONS[name], unit_roundoff(dtype)
    s = z if g.slope_of == "z" else run(backend, "apply", g.value, z)
    product = fractions(delta_next) @ fractions(W_next)
    size = np.abs(fractions(delta_next)) @ np.abs(fractions(W_next))
    slope = textbook.slope(name, z)
    bound = u * size * (7 * np.abs(slope) + textbook.EVALUATION * (1 + np.abs(fractions(z))))
    got = run(backend, "hidden_delta", delta_next, W_next, s, g)
    assert_within(got, product * slope, bound, name)
