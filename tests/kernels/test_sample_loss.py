"""sample_loss: e_i = sum_k x_k v_k, the two factors of a loss."""

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.losses import LOSSES
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

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))


def scores(shape, dtype, loss):
    """z of the output layer and what the loss is taken from: a, z or log_softmax(z)."""
    z = sample(shape, dtype, seed=1) * 2
    return z, (run("reference", "log_softmax", z) if loss.of == "log_softmax" else z)


def targets(shape, dtype):
    """In [0, 1], as every loss can take them."""
    return np.random.default_rng(2).random(shape).astype(dtype)


@every_loss
def test_every_size(exact, dtype, loss):
    for shape in shapes(2):
        args = (scores(shape, dtype, loss)[1], targets(shape, dtype), loss)
        assert_as_reference(exact, "sample_loss", *args, what=f"(m, n) = {shape}")


@every_loss
@pytest.mark.parametrize("family", FAMILIES)
def test_special_numbers(exact, dtype, family, loss):
    for n in (1, 70, 600):
        args = (hostile(family, (12, n), dtype, 1), hostile(family, (12, n), dtype, 2), loss)
        assert_as_reference(exact, "sample_loss", *args, what=f"n = {n}")


@as_specified
@pytest.mark.parametrize("n", SIZES)
def test_the_order_of_the_sum(specified, dtype, n):
    """Leaves of 256 outputs and the tree: in exact arithmetic, rounded as specified."""
    a, Y = sample((1, n), dtype, seed=1), targets((1, n), dtype)
    wanted = ordered_dot((a - Y)[0], (a - Y)[0], LEAF_FEATURES)
    got = run(specified, "sample_loss", a, Y, LOSSES["half_mse"])
    assert_same_bits(got, np.array([[wanted]]))


@every_loss
@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (4, 1), (2, 300)])
def test_the_equation(backend, dtype, loss, shape):
    """E of each sample alone, as a textbook has it from probabilities or outputs."""
    z, s = scores(shape, dtype, loss)
    Y = targets(shape, dtype)
    e = run(backend, "sample_loss", s, Y, loss)
    assert e.shape == (len(s), 1)
    scale = fractions(np.array(loss.scale(1, shape[1])))
    assert_within(e[:, 0], _textbook(loss, z, Y) / scale, _bound(loss, s, Y, dtype), loss.name)


def _textbook(loss, z, Y):
    link = {None: list, "logistic": _logistic, "softmax": textbook.softmax}[loss.link]
    rows = [(link([*map(textbook.number, r)]), [*map(textbook.number, y)]) for r, y in zip(z, Y)]
    return np.array([textbook.fraction(textbook.error(loss.name, a, y)) for a, y in rows])


def _logistic(z):
    return [textbook.VALUES["logistic"](z_k) for z_k in z]


def _bound(loss, s, Y, dtype):
    """n + 2 roundings of every term; the factors are off by their evaluation at s."""
    s, Y = np.abs(fractions(s)), np.abs(fractions(Y))
    n, evaluation = s.shape[1], textbook.EVALUATION * (1 + s)
    terms = (n + 2) * (s + Y) ** 2 if loss.of == "a" else (n + 2) * (1 + s) + evaluation
    if loss.of == "log_softmax":  # s itself is rounded, by as much as in test_log_softmax
        terms = terms + Y * (3 * textbook.EVALUATION * (1 + 2 * s.max()) + n + 1)
    return unit_roundoff(dtype) * terms.sum(axis=1)
