"""edge_delta: delta_i = own_i + (sum of w_ji delta_j over the outgoing edges) * g'(s_i)."""

from functools import partial

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.activations import ACTIVATIONS, IDENTITY
from deltaprop.backends import load
from kernels import textbook
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
UNITWISE = [name for name, g in ACTIVATIONS.items() if not g.rowwise]


def inputs(m, n, longest, dtype, numbers=sample):
    """delta, fan, w, s, and the units' own delta."""
    return (*edges(dtype, m, n, longest, numbers), numbers((n, m), dtype, seed=6))


@pytest.mark.parametrize("adds", [True, False])
def test_every_size(exact, dtype, adds):
    for shape in shapes(3):
        *args, own = inputs(*shape, dtype)
        args = (*args, LOGISTIC, own if adds else None, None)
        assert_as_reference(exact, "edge_delta", *args, what=f"(m, n, edges) = {shape}")


@pytest.mark.parametrize("name", UNITWISE)
def test_every_activation(exact, dtype, name):
    *args, own = inputs(33, 5, 20, dtype)
    assert_as_reference(exact, "edge_delta", *args, ACTIVATIONS[name], None, None)
    assert_as_reference(exact, "edge_delta", *args, ACTIVATIONS[name], own, None)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("longest", [1, 2, 70, 600])
def test_special_numbers(exact, dtype, family, longest):
    *args, own = inputs(34, 5, longest, dtype, partial(hostile, family))
    assert_as_reference(exact, "edge_delta", *args, ACTIVATIONS["tanh"], own, None)


@as_specified
@pytest.mark.parametrize("longest", SIZES)
def test_the_order_of_the_sum(specified, dtype, longest):
    """Leaves of 256 edges, the tree, * slope, + own: in exact arithmetic, rounded as specified."""
    delta, fan, w, s, own = inputs(1, 1, longest, dtype)
    slope = run(specified, "apply", LOGISTIC.slope, s)
    wanted = ordered_dot(w, delta[fan.peer, 0], LEAF_FEATURES) * slope
    assert_same_bits(run(specified, "edge_delta", delta, fan, w, s, LOGISTIC, None, None), wanted)
    got = run(specified, "edge_delta", delta, fan, w, s, LOGISTIC, own, None)
    assert_same_bits(got, own + wanted)


def test_no_edges(backend, dtype):
    """A sum of no terms is +0; own is not touched by it."""
    delta, fan, w, s, own = inputs(5, 3, 4, dtype)
    assert fan.start[-1] == fan.start[-2]
    got = run(backend, "edge_delta", delta, fan, w, s, IDENTITY, None, None)
    assert_same_bits(got[-1], np.zeros(5, dtype))
    got = run(backend, "edge_delta", delta, fan, w, s, IDENTITY, own, None)
    assert_same_bits(got[-1], own[-1])


@pytest.mark.parametrize("shape", [(1, 1, 1), (65, 3, 7), (200, 33, 31)])
def test_out_is_filled_and_nothing_else(backend, dtype, shape):
    *args, own = inputs(*shape, dtype)
    for adds in (own, None):
        wanted = run(backend, "edge_delta", *args, LOGISTIC, adds, None)
        got = fill(backend, "edge_delta", wanted.shape, *args, LOGISTIC, adds)
        assert_same_bits(got, wanted)


def test_out_may_be_own_and_other_rows_of_delta(backend, dtype):
    """As the sweep has it: an output's delta is there, what its edges bring is added."""
    delta, fan, w, s, own = inputs(70, 4, 9, dtype)
    wanted = run(backend, "edge_delta", delta, fan, w, s, LOGISTIC, own, None)
    k = load(backend)
    rows = k.arrays.asarray(np.concatenate([delta, own]))
    fan, w, s = (placed(k, x) for x in (fan, w, s))
    k.edge_delta(rows, fan, w, s, LOGISTIC, rows[7:], rows[7:])
    assert_same_bits(k.arrays.to_numpy(rows), np.concatenate([delta, wanted]))


@pytest.mark.parametrize("name", ["tanh", "gelu"])
@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 2, 5), (5, 3, 2), (2, 3, 300)])
def test_the_equation(backend, dtype, name, shape):
    """own + sum * g'(z) of the unit's own z, given as a where the slope is taken from a."""
    delta, fan, w, z, own = inputs(*shape, dtype)
    g, u = ACTIVATIONS[name], unit_roundoff(dtype)
    s = z if g.slope_of == "z" else run(backend, "apply", g.value, z)
    got = run(backend, "edge_delta", delta, fan, w, s, g, own, None)
    slope, exact_own = textbook.slope(name, z), fractions(own)
    evaluation = textbook.EVALUATION * (1 + np.abs(fractions(z)))
    for i in range(len(z)):
        e = slice(fan.start[i], fan.start[i + 1])
        terms = fractions(w[e])[:, None] * fractions(delta)[fan.peer[e]]
        size, total = np.abs(terms).sum(axis=0), terms.sum(axis=0)
        rounded = (shape[2] + 3) * np.abs(slope[i]) + evaluation[i]
        bound = u * (size * rounded + np.abs(exact_own[i]))
        assert_within(got[i], exact_own[i] + total * slope[i], bound, f"{name} {shape} unit {i}")
