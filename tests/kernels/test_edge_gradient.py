"""edge_gradient: dE/dw_e = sum over samples of delta_target(e) a_source(e)."""

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


def inputs(m, edges, units, dtype, numbers=sample):
    """delta of some units, a of others, and the ends of the edges, in any order."""
    random = np.random.default_rng(3)
    target = random.integers(0, units, edges).astype(np.int32)
    source = random.integers(0, units + 2, edges).astype(np.int32)
    delta, a = numbers((units, m), dtype, seed=1), numbers((units + 2, m), dtype, seed=2)
    return delta, a, target, source


def test_every_size(exact, dtype):
    for shape in shapes(3):
        args = (*inputs(*shape, dtype), None)
        assert_as_reference(exact, "edge_gradient", *args, what=f"(m, edges, units) = {shape}")


@pytest.mark.parametrize("shape", [(1, 1, 1), (65, 3, 7), (200, 33, 31)])
def test_out_is_filled_and_nothing_else(backend, dtype, shape):
    args = inputs(*shape, dtype)
    wanted = run(backend, "edge_gradient", *args, None)
    assert_same_bits(fill(backend, "edge_gradient", wanted.shape, *args), wanted)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("m", [1, 2, 70, 300])
def test_special_numbers(exact, dtype, family, m):
    args = (*inputs(m, 34, 5, dtype, partial(hostile, family)), None)
    assert_as_reference(exact, "edge_gradient", *args)


@as_specified
@pytest.mark.parametrize("m", SIZES)
def test_the_order_of_the_sum(specified, dtype, m):
    """Leaves of 64 samples and the tree: in exact arithmetic, rounded as specified."""
    delta, a, target, source = inputs(m, 2, 3, dtype)
    wanted = [ordered_dot(delta[t], a[s], LEAF_SAMPLES) for t, s in zip(target, source)]
    got = run(specified, "edge_gradient", delta, a, target, source, None)
    assert_same_bits(got, np.array(wanted))


def test_a_source_of_ones_gives_the_plain_sum(exact, dtype):
    """So a bias is the weight of an edge from 1: the bits are those of bias_gradient."""
    delta = sample((5, 300), dtype)
    ones, e = np.ones((1, 300), dtype), np.arange(5, dtype=np.int32)
    got = run(exact, "edge_gradient", delta, ones, e, np.zeros_like(e), None)
    assert_same_bits(got, run("reference", "bias_gradient", np.ascontiguousarray(delta.T), None))


@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 2, 5), (1000, 3, 2), (65, 9, 3)])
def test_the_equation(backend, dtype, shape):
    """Within n u (|delta||a|) of the exact sum."""
    delta, a, target, source = inputs(*shape, dtype)
    terms = fractions(delta)[target] * fractions(a)[source]
    bound = shape[0] * unit_roundoff(dtype) * np.abs(terms).sum(axis=1)
    got = run(backend, "edge_gradient", delta, a, target, source, None)
    assert_within(got, terms.sum(axis=1), bound, f"{shape}")
