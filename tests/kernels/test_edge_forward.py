"""edge_forward: z_j = sum of w_ji a_i over the incoming edges, + b_j, and g(z)."""

from functools import partial

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.activations import ACTIVATIONS, IDENTITY
from deltaprop.backends import load
from kernels.helpers import (
    FAMILIES,
    LEAF_FEATURES,
    SIZES,
    as_specified,
    assert_as_reference,
    assert_within,
    edges,
    fill,
    fractions,
    hostile,
    ordered_dot,
    placed,
    run,
    shapes,
    unit_roundoff,
)

LOGISTIC = ACTIVATIONS["logistic"]


def inputs(m, n, longest, dtype, numbers=sample):
    a, fan, w, _ = edges(dtype, m, n, longest, numbers)
    return a, fan, w, numbers((n,), dtype, seed=5)


@pytest.mark.parametrize("bias", [True, False])
def test_every_size(exact, dtype, bias):
    for shape in shapes(3):
        a, fan, w, b = inputs(*shape, dtype)
        args = (a, fan, w, b if bias else None, LOGISTIC, bias, None)
        assert_as_reference(exact, "edge_forward", *args, what=f"(m, n, edges) = {shape}")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(exact, dtype, name):
    args = (*inputs(33, 5, 20, dtype), ACTIVATIONS[name], True, None)
    assert_as_reference(exact, "edge_forward", *args)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("longest", [1, 2, 70, 600])
def test_special_numbers(exact, dtype, family, longest):
    args = (*inputs(34, 5, longest, dtype, partial(hostile, family)), IDENTITY, True, None)
    assert_as_reference(exact, "edge_forward", *args)


@as_specified
@pytest.mark.parametrize("longest", SIZES)
def test_the_order_of_the_sum(specified, dtype, longest):
    """Leaves of 256 edges, the tree, then + b: in exact arithmetic, rounded as specified."""
    a, fan, w, b = inputs(1, 1, longest, dtype)
    wanted = ordered_dot(w, a[fan.peer, 0], LEAF_FEATURES) + b[0]
    z, value = run(specified, "edge_forward", a, fan, w, b, IDENTITY, True, None)
    assert_same_bits(z, np.array([[wanted]]))
    assert_same_bits(value, z)


@pytest.mark.parametrize("shape", [(1, 1, 1), (65, 3, 7), (200, 33, 31)])
def test_out_is_filled_and_nothing_else(backend, dtype, shape):
    args = (*inputs(*shape, dtype), LOGISTIC, False)
    none, wanted = run(backend, "edge_forward", *args, None)
    assert none is None
    assert_same_bits(fill(backend, "edge_forward", wanted.shape, *args), wanted)


def test_out_may_be_other_rows_of_a(backend, dtype):
    """As the sweep has it: the units that are computed lie behind those they read."""
    a, fan, w, b = inputs(70, 4, 9, dtype)
    _, wanted = run(backend, "edge_forward", a, fan, w, b, LOGISTIC, False, None)
    rows = np.concatenate([a, np.full((4, 70), np.nan, dtype)])
    got = fill_rows(backend, rows, fan, w, b, LOGISTIC)
    assert_same_bits(got, np.concatenate([a, wanted]))


def fill_rows(backend, rows, fan, w, b, g):
    k = load(backend)
    a = k.arrays.asarray(rows.copy())
    fan, w, b = (placed(k, x) for x in (fan, w, b))
    k.edge_forward(a, fan, w, b, g, False, a[7:])
    return k.arrays.to_numpy(a)


@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 2, 5), (5, 3, 2), (2, 5, 1000), (3, 3, 257)])
def test_the_equation(backend, dtype, shape):
    """Within n u (|w||a|) of the exact sum."""
    a, fan, w, b = inputs(*shape, dtype)
    exact_a, exact_w, exact_b = fractions(a), fractions(w), fractions(b)
    z, _ = run(backend, "edge_forward", a, fan, w, b, IDENTITY, True, None)
    for j in range(len(b)):
        e = slice(fan.start[j], fan.start[j + 1])
        terms = exact_w[e, None] * exact_a[fan.peer[e]]
        wanted = terms.sum(axis=0) + exact_b[j]
        size = np.abs(terms).sum(axis=0) + abs(exact_b[j])
        bound = (shape[2] + 1) * unit_roundoff(dtype) * size
        assert_within(z[j], wanted, bound, f"{shape}, unit {j}")
