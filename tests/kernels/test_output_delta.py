"""output_delta: delta = (r(a, y) * c_i) * g'(s), c_i = scale or w_i * scale, and its sums."""

import mpmath
import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.activations import ACTIVATIONS, IDENTITY
from deltaprop.losses import LOSSES
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

UNITWISE = {name: g for name, g in ACTIVATIONS.items() if not g.rowwise}
every_activation = pytest.mark.parametrize("g", UNITWISE.values(), ids=list(UNITWISE))
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
UNLINKED = [name for name, loss in LOSSES.items() if not loss.link]


def inputs(shape, dtype):
    return tuple(sample(shape, dtype, seed) for seed in (1, 2, 3))


def sums(shape, dtype):
    """db, to be filled."""
    return np.zeros(shape[1], dtype)


def test_every_size(exact, dtype):
    loss, g = LOSSES["half_mse"], ACTIVATIONS["logistic"]
    for shape in shapes(2):
        for weights in (None, sample((shape[0], 1), dtype, 4)):
            args = (*inputs(shape, dtype), weights, loss, g, 0.3, sums(shape, dtype))
            what = f"(m, n) = {shape}, weights {weights is not None}"
            assert_as_reference(exact, "output_delta", *args, what=what)


@every_activation
def test_every_activation(exact, dtype, g):
    args = (*inputs((7, 33), dtype), None, LOSSES["mse"], g, 0.3, None)
    assert_as_reference(exact, "output_delta", *args)


@every_loss
@pytest.mark.parametrize("family", FAMILIES)
def test_special_numbers(exact, dtype, family, loss):
    a, Y, s, weights = (
        hostile(family, shape, dtype, seed)
        for seed, shape in enumerate([(40, 9), (40, 9), (40, 9), (40, 1)])
    )
    args = (a, Y, s, weights, loss, ACTIVATIONS["tanh"], 1e-3, sums((40, 9), dtype))
    assert_as_reference(exact, "output_delta", *args)


@as_specified
def test_the_roundings(specified, dtype):
    """((a - y) * (w * RN(scale))) * slope, each operation rounded in this order."""
    a, Y, s = inputs((40, 7), dtype)
    weights, g = sample((40, 1), dtype, 4), ACTIVATIONS["tanh"]
    c = weights * np.dtype(dtype).type(1 / 3)
    wanted = ((a - Y) * c) * run(specified, "apply", g.slope, s)
    got = run(specified, "output_delta", a, Y, s, weights, LOSSES["half_mse"], g, 1 / 3, None)
    assert_same_bits(got, wanted)


def test_the_sums_are_the_bias_gradient(backend, dtype):
    """Those of its own delta; without db the delta is the same."""
    args = (*inputs((130, 5), dtype), None, LOSSES["half_mse"], ACTIVATIONS["tanh"], 0.3)
    delta, db = run(backend, "output_delta", *args, sums((130, 5), dtype))
    assert_same_bits(db, run(backend, "bias_gradient", delta, None))
    assert_same_bits(run(backend, "output_delta", *args, None), delta)


@every_activation
@pytest.mark.parametrize("name", UNLINKED)
def test_the_equation(backend, dtype, g, name):
    """dE/dz of one sample, by differences of E(g(z)) in many digits."""
    loss = LOSSES[name]
    z, Y = sample((3, 4), dtype, 1), sample((3, 4), dtype, 2)
    a = run(backend, "apply", g.value, z)
    s = z if g.slope_of == "z" else a
    got = run(backend, "output_delta", a, Y, s, None, loss, g, loss.delta_scale(1, 4), None)
    wanted = _derivatives(loss, textbook.VALUES[g.name], z, Y)
    size = np.abs(fractions(a)) + np.abs(fractions(Y)) + 1
    bound = 8 * textbook.EVALUATION * unit_roundoff(dtype) * size * (1 + np.abs(fractions(z)))
    assert_within(got, wanted, bound, f"{name}, {g.name}")


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in UNLINKED])
def test_the_equation_of_a_canonical_link(backend, dtype, name):
    """The slope has cancelled: delta is (a - y) * scale, for targets whose row sums to 1."""
    loss = LOSSES[name]
    z, Y = sample((3, 4), dtype, 1), np.eye(3, 4, dtype=dtype)
    if loss.link == "softmax":
        a, link = run(backend, "softmax", z), textbook.softmax
    else:
        a, link = run(backend, "apply", ACTIVATIONS["logistic"].value, z), None
    got = run(backend, "output_delta", a, Y, a, None, loss, IDENTITY, loss.delta_scale(1, 4), None)
    wanted = _derivatives(loss, textbook.VALUES["logistic"], z, Y, link)
    spread = 1 + 2 * np.max(np.abs(fractions(z)))
    bound = unit_roundoff(dtype) * (2 * textbook.EVALUATION * spread + 8)
    assert_within(got, wanted, bound, name)


def _derivatives(loss, value, z, Y, link=None):
    """dE/dz_k of every sample."""
    link = link or (lambda row: [value(x) for x in row])

    def derivative(row, y, k):
        at = lambda x: textbook.error(loss.name, link([*row[:k], x, *row[k + 1 :]]), y)  # noqa: E731
        return textbook.fraction(mpmath.diff(at, row[k]))

    rows = [([*map(textbook.number, r)], [*map(textbook.number, y)]) for r, y in zip(z, Y)]
    return np.array([[derivative(row, y, k) for k in range(len(row))] for row, y in rows])
