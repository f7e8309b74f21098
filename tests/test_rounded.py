"""Bounds carried along by arithmetic: they hold, and are as tight as those of bounds.py."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import by_hand
import deltaprop as dp
from by_hand import positive
from conftest import sample
from deltaprop.bounds import gradient_bounds
from deltaprop.diagnosis.mistakes import FORMS, RIGHT, Task, sweep
from deltaprop.diagnosis.rounded import Rounded, exact
from deltaprop.equations import Batch
from tasks import UNITWISE, task

U = float(np.finfo(np.float32).eps) / 2
A, B = sample((5, 9), "float32", 1), sample((9, 5), "float32", 2)

OPERATIONS = {
    "sum of products": lambda x, y: x @ y,
    "product": lambda x, y: x * y.T,
    "sum": lambda x, y: x + y.T,
    "difference": lambda x, y: x - y.T,
    "difference from a number": lambda x, y: 0.3 - x * y.T,
    "sum of rows": lambda x, y: (x * y.T).sum(axis=0),
    "sum of a row": lambda x, y: (x * y.T).sum(axis=1, keepdims=True),
    "sum of all": lambda x, y: (x * y.T).sum(),
    "several": lambda x, y: (x @ y) * (y.T @ x.T) @ (x - y.T),
}


def fractions(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(x)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_error_of_float32_keeps_the_bound(name):
    f = OPERATIONS[name]
    bounded, single = f(exact(A, U), exact(B, U)), f(A, B)
    wanted = np.asarray(f(fractions(A), fractions(B)))
    if name == "difference from a number":
        wanted = wanted + (Fraction(float(np.float32(0.3))) - Fraction(0.3))
    error = np.asarray(abs(fractions(np.asarray(single)) - wanted)).astype(float)
    assert bounded.x.shape == single.shape
    assert np.all(error <= bounded.dx)
    assert error.max() > bounded.dx.max() / 1000, "a bound, not a loose tolerance"


def test_an_error_of_the_arguments_is_carried_on():
    dx, dy = 0.1 * positive(9, "float64"), 0.2 * np.ones((9, 5))
    x, y = (
        Rounded(A.astype(float), np.broadcast_to(dx, A.shape), 0.0),
        Rounded(B.astype(float), dy, 0.0),
    )
    for f in OPERATIONS.values():
        bound = f(x, y)
        for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            moved = f(x.x + signs[0] * x.dx, y.x + signs[1] * y.dx)
            assert np.all(np.abs(moved - bound.x) <= bound.dx * (1 + 1e-12))


def both_bounds(activation, loss):
    """Names, right gradients in float64 with their bounds here, and the bounds of bounds.py."""
    net, (X, Y, _) = task((6, 9, 4, 3), activation, loss, 11, dtype="float32")
    wide = net.to("numpy", "float64")
    batch = Batch(Y.astype(float), positive(11, "float32").astype(float)[:, None], 11, Y.shape[1])
    swept = sweep(Task(X.astype(float), batch, dp.LOSSES[loss], U, wide.layers), [RIGHT] * 3)
    bounds = gradient_bounds(wide.layers, X.astype(float), batch, dp.LOSSES[loss], U)
    for l, layer in enumerate(swept):
        for form in (form for form in FORMS if not form.text):
            yield f"{l}.{form.of}", form.make(layer)[0], getattr(bounds[l], form.of)


@pytest.mark.parametrize("activation", UNITWISE)
@pytest.mark.parametrize("loss", dp.LOSSES)
def test_the_right_sweep_keeps_the_bounds_of_the_gradient(activation, loss):
    """They are smaller where an error that came down has cancelled, and never larger."""
    for _, mine, theirs in both_bounds(activation, loss):
        assert np.all(mine.dx <= 1.001 * theirs)
        assert np.max(theirs) <= 10 * np.max(mine.dx)


@pytest.mark.parametrize("activation", UNITWISE)
@pytest.mark.parametrize("loss", dp.LOSSES)
@pytest.mark.parametrize("name", ["numpy", "reference"])
def test_a_float32_gradient_keeps_the_bounds(activation, loss, name):
    net, batch = task((6, 9, 4, 3), activation, loss, 11, dtype="float32")
    weights = positive(11, "float32")
    backends = dict(net.to(name).value_and_grad(*batch, weights)[1].named())
    learners = by_hand.named(by_hand.gradients(net, *batch, weights))
    for key, wanted, _ in both_bounds(activation, loss):
        assert np.all(np.abs(backends[key] - wanted.x) <= wanted.dx)
        assert np.all(np.abs(learners[key] - wanted.x) <= wanted.dx)


def test_a_sum_may_lose_a_rounding_for_every_term():
    """1 + d + d + ... in this order stays 1 in float32, if d is less than half an ulp of 1."""
    terms = np.array([[1.0] + [0.9 * U] * 20], "float32")
    total = np.float32(0)
    for x in terms[0]:
        total += x
    assert total == 1
    rows = exact(terms, U)
    for bounded in (rows @ exact(np.ones((21, 1)), U), rows.sum(axis=1), rows.sum()):
        error = abs(bounded.x.item() - 1)
        assert 17 * U < error <= bounded.dx.item() < 1.5 * error
