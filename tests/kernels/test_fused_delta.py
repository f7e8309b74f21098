"""fused_delta: delta = d * g'(s), and dE/db = its sum over samples."""

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.activations import ACTIVATIONS
from kernels import textbook
from kernels.helpers import (
    FAMILIES,
    as_specified,
    assert_as_reference,
    assert_within,
    fractions,
    hostile,
    run,
    shapes,
    unit_roundoff,
)


def inputs(shape, dtype):
    return sample(shape, dtype, 1), sample(shape, dtype, 2)


def test_every_size(exact, dtype):
    g = ACTIVATIONS["logistic"]
    for shape in shapes(2):
        for db in (None, np.zeros(shape[1], dtype)):
            args = (*inputs(shape, dtype), g, db)
            assert_as_reference(exact, "fused_delta", *args, what=f"{shape}, {db is None}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("m", [1, 70, 300])
def test_special_numbers(exact, dtype, family, m):
    d, s = (hostile(family, (m, 34), dtype, seed) for seed in (1, 2))
    args = (d, s, ACTIVATIONS["logistic"], np.zeros(34, dtype))
    assert_as_reference(exact, "fused_delta", *args)


@as_specified
@pytest.mark.parametrize("name", ["logistic", "gelu"])
def test_the_roundings(specified, dtype, name):
    """One product; the sums are those of bias_gradient."""
    (d, s), g = inputs((70, 5), dtype), ACTIVATIONS[name]
    delta, db = run(specified, "fused_delta", d, s, g, np.zeros(5, dtype))
    assert_same_bits(delta, d * run(specified, "apply", g.slope, s))
    assert_same_bits(db, run(specified, "bias_gradient", delta, None))


@pytest.mark.parametrize("name", ["logistic", "gelu"])
def test_the_equation(backend, dtype, name):
    """d * g'(z) of the layer's own z, and its sum over samples."""
    (d, z), g, u = inputs((7, 3), dtype), ACTIVATIONS[name], unit_roundoff(dtype)
    s = z if g.slope_of == "z" else run(backend, "apply", g.value, z)
    wanted, size = fractions(d) * textbook.slope(name, z), np.abs(fractions(d))
    bound = u * size * (2 + textbook.EVALUATION * (1 + np.abs(fractions(z))))
    delta, db = run(backend, "fused_delta", d, s, g, np.zeros(3, dtype))
    assert_within(delta, wanted, bound, name)
    rounding = 7 * u * np.abs(wanted).sum(axis=0)
    assert_within(db, wanted.sum(axis=0), 2 * (bound.sum(axis=0) + rounding), name)
