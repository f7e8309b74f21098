"""Losses: value and output delta against their formulas, on every backend.

The nets here have one layer, W = 1 and no bias: z is X, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import deltaprop as dp
from conftest import assert_same_bits, sample
from values import frozen, unit_roundoff

M, N = 5, 3


def logistic(z: mpf) -> mpf:
    return 1 / (1 + mp.exp(-z))


def log_softmax(z: list[mpf], k: int) -> mpf:
    return z[k] - mp.log(mp.fsum(map(mp.exp, z)))


def squares(z: Any, y: Any) -> mpf:
    return mp.fsum((a - b) ** 2 for a, b in zip(z, y))


def cross_entropy(z: Any, y: Any) -> mpf:
    return -mp.fsum(y[k] * log_softmax(z, k) for k in range(len(z)) if y[k])


def binary_cross_entropy(z: Any, y: Any) -> mpf:
    each = [y[k] * mp.log(logistic(z[k])) + (1 - y[k]) * mp.log(logistic(-z[k])) for k in range(N)]
    return -mp.fsum(each)


# The error of one sample and what the sum over samples is multiplied by. "mse" is the mean
# over samples and outputs, as PyTorch's MSELoss has it.
FORMULAS: dict[str, tuple[Callable[[Any, Any], mpf], float]] = {
    "half_sse": (squares, 0.5),
    "half_mse": (squares, 0.5 / M),
    "mse": (squares, 1 / (M * N)),
    "cross_entropy": (cross_entropy, 1 / M),
    "binary_cross_entropy": (binary_cross_entropy, 1 / M),
}
losses = pytest.mark.parametrize("loss", dp.LOSSES)
unlinked = pytest.mark.parametrize("loss", [n for n, v in dp.LOSSES.items() if not v.link])


def one_layer(loss: str, dtype: str, backend: str, n: int = N, output: str = "") -> dp.MLP:
    output = output or dp.LOSSES[loss].link or "identity"
    net = dp.MLP([n, n], output=output, bias=False, dtype=dtype, backend="reference")
    net.layers[0].W[...] = np.eye(n)
    return net.to(backend)


def outputs_and_targets(loss: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """z, and Y: probabilities that sum to 1 where the loss is made for them."""
    z, Y = sample((M, N), "float64") * 3, np.abs(sample((M, N), "float64", 1))
    if dp.LOSSES[loss].link:
        Y = Y / Y.sum(axis=1, keepdims=True)
    return frozen(z, dtype), frozen(Y, dtype)


def exact_value(loss: str, z: np.ndarray, Y: np.ndarray, weights: Any = None) -> float:
    error, scale = FORMULAS[loss]
    weights = np.ones(len(z)) if weights is None else weights
    rows = zip(weights.tolist(), z.tolist(), Y.tolist())
    return float(scale * mp.fsum(w * error(list(map(mpf, zs)), ys) for w, zs, ys in rows))


def roundings(z: np.ndarray, dtype: str) -> float:
    """A relative bound: N terms and M samples of positive errors, each within 8 u (1 + |z|)."""
    return unit_roundoff(dtype) * (N + M + 8 * (2 + float(np.max(np.abs(z)))))


@losses
@pytest.mark.parametrize("weighted", [False, True])
def test_value_is_the_formula(loss, weighted, dtype, backend):
    z, Y = outputs_and_targets(loss, dtype)
    weights = frozen([0.5, 2, 0, 1, 3], dtype) if weighted else None
    net = one_layer(loss, dtype, backend)
    got, wanted = net.loss(z, Y, loss, weights), exact_value(loss, z, Y, weights)
    assert abs(got - wanted) <= roundings(z, dtype) * wanted
    assert net.value_and_grad(z, Y, loss, weights)[0] == got


def test_mse_is_the_mean_over_samples_and_outputs(backend):
    z, Y = outputs_and_targets("mse", "float64")
    got = one_layer("mse", "float64", backend).loss(z, Y, "mse")
    assert got == pytest.approx(np.mean((z - Y) ** 2), rel=roundings(z, "float64"))


def test_how_the_squared_errors_are_scaled(backend):
    z, Y = outputs_and_targets("mse", "float64")
    sse, half, mse = (
        one_layer(loss, "float64", backend).loss(z, Y, loss)
        for loss in ("half_sse", "half_mse", "mse")
    )
    assert half == pytest.approx(sse / M, rel=1e-14)
    assert mse == pytest.approx(2 * sse / (M * N), rel=1e-14)


def delta_of(
    loss: str, z: np.ndarray, Y: np.ndarray, backend: str, weights: Any = None, output: str = ""
) -> np.ndarray:
    """dE/dz, from the whole net."""
    net = one_layer(loss, z.dtype.name, backend, z.shape[1], output)
    return net.backward(net.forward(z), Y, loss, weights).delta[1]


@losses
@pytest.mark.parametrize("weighted", [False, True])
def test_delta_is_the_derivative_of_the_value(loss, weighted, backend):
    """With the identity, or the link, after z: central differences of the formula in mpmath."""
    z, Y = outputs_and_targets(loss, "float64")
    weights = frozen([0.5, 2, 0, 1, 3], "float64") if weighted else None
    got = delta_of(loss, z, Y, backend, weights)
    error, scale = FORMULAS[loss]
    scale = np.full(M, scale) * (1 if weights is None else weights)
    bound = 8 * unit_roundoff("float64") * (1 + np.abs(z) + np.abs(Y))
    for i, k in np.ndindex(M, N):
        row = [mpf(v) for v in z[i].tolist()]

        def along(x: mpf, row: list[mpf] = row, i: int = i, k: int = k) -> mpf:
            return error([*row[:k], x, *row[k + 1 :]], Y[i].tolist())

        wanted = scale[i] * mp.diff(along, row[k])
        assert abs(got[i, k] - wanted) <= scale[i] * 2 * bound[i, k]


@unlinked
def test_delta_has_the_slope_of_the_output(loss, backend):
    z, Y = outputs_and_targets(loss, "float64")
    a = 1 / (1 + np.exp(-z))
    plain = dp.LOSSES[loss].delta_scale(M, N) * (a - Y)
    got = delta_of(loss, z, Y, backend, output="logistic")
    # |a - Y| is below 4 and the slope below 1: 4 roundings each, here and there.
    assert np.max(np.abs(got - plain * a * (1 - a))) <= 32 * unit_roundoff("float64")


@losses
def test_a_sample_of_weight_0_counts_for_nothing(loss, dtype, backend):
    z, Y = outputs_and_targets(loss, dtype)
    other = np.array(z)
    other[1] = 7
    weights = frozen([1, 0, 1, 1, 1], dtype)
    net = one_layer(loss, dtype, backend)
    assert net.loss(z, Y, loss, weights) == net.loss(frozen(other, dtype), Y, loss, weights)
    assert not delta_of(loss, z, Y, backend, weights)[1].any()


@losses
def test_a_power_of_two_as_weight_scales_exactly(loss, dtype, backend):
    z, Y = outputs_and_targets(loss, dtype)
    net, four = one_layer(loss, dtype, backend), frozen(np.full(M, 4), dtype)
    assert net.loss(z, Y, loss, four) == 4 * net.loss(z, Y, loss)
    assert_same_bits(delta_of(loss, z, Y, backend, four), 4 * delta_of(loss, z, Y, backend))


# ---------------------------------------------------------------------- canonical links


def chain_rule(loss: str, z: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """dE/dz = dE/dp dp/dz with nothing cancelled."""
    if loss == "binary_cross_entropy":
        p = 1 / (1 + np.exp(-z))
        return (-Y / p + (1 - Y) / (1 - p)) * p * (1 - p) / M
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    jacobian = p[:, :, None] * np.eye(N) - p[:, :, None] * p[:, None, :]
    return np.einsum("mj,mjk->mk", -Y / p, jacobian) / M


@pytest.mark.parametrize("loss", [n for n, v in dp.LOSSES.items() if v.link])
def test_p_minus_y_is_the_chain_rule(loss, backend):
    z, Y = outputs_and_targets(loss, "float64")
    # Y/p and what it is multiplied with are of size 1/min p; some 20 roundings of that.
    p = 1 / (1 + np.exp(np.abs(z).max() * 2))
    error = np.abs(delta_of(loss, z, Y, backend) - chain_rule(loss, z, Y))
    assert np.max(error) <= 20 * unit_roundoff("float64") / p


def test_a_link_asks_for_its_output():
    net, X, Y = dp.MLP([3, 2]), sample((4, 3), "float32"), sample((4, 2), "float32")
    for loss in ("cross_entropy", "binary_cross_entropy"):
        with pytest.raises(ValueError, match=f"{loss}.*{dp.LOSSES[loss].link}"):
            net.loss(X, Y, loss)


def test_labels_are_one_hot_rows(dtype, backend):
    z, labels = sample((M, N), dtype), np.array([2, 0, 1, 1, 2])
    net = one_layer("cross_entropy", dtype, backend)
    value, gradients = net.value_and_grad(z, labels)
    rows = frozen(np.eye(N)[labels], dtype)
    other_value, other_gradients = net.value_and_grad(z, rows)
    assert value == other_value
    assert_same_bits(gradients.flat, other_gradients.flat)


# -------------------------------------------------------------------------------- extremes


def test_what_is_impossible_and_not_wanted_costs_nothing(dtype, backend):
    z = frozen([[0, -math.inf, 0], [0, 0, -math.inf]], dtype)
    Y = frozen([[1, 0, 0], [0, 1, 0]], dtype)
    errors = dp.ops.sample_loss(dp.ops.log_softmax(z, backend), Y, "cross_entropy", backend)
    assert np.all(np.abs(errors - math.log(2)) <= 4 * unit_roundoff(dtype))
    p = dp.ops.softmax(z, backend)
    delta = dp.ops.output_delta(p, Y, "cross_entropy", "softmax", backend=backend)
    assert_same_bits(delta, np.array([[-0.25, 0, 0.25], [0.25, -0.25, 0]], dtype))


LARGE = [
    # z, y, value
    ("cross_entropy", [1e4, 0, 0], [0, 1, 0], 1e4),
    ("cross_entropy", [1e4, 0, 0], [1, 0, 0], 0),
    ("cross_entropy", [0, -1e30, -1e30], [0, 0, 1], 1e30),
    ("cross_entropy", [1e30, 1e30, -1e30], [1, 0, 0], math.log(2)),
    ("cross_entropy", [0, 1e4, -1e4], [0.25, 0.25, 0.5], 0.25e4 + 1e4),
    ("binary_cross_entropy", [1e4, -1e4, 0], [0, 1, 0.5], 2e4 + math.log(2)),
    ("binary_cross_entropy", [1e4, -1e4, 1e4], [1, 0, 1], 0),
    ("binary_cross_entropy", [20, -20, 20], [1, 0, 1], 3 * math.log1p(math.exp(-20))),
    ("binary_cross_entropy", [1e30, -1e30, 0], [0.25, 1, 0], 0.75e30 + 1e30),
    ("half_sse", [1e10, -1e10, 0], [0, 0, 1], 1e20),
]


@pytest.mark.parametrize(("loss", "z", "y", "wanted"), LARGE)
def test_large_logits_are_finite_and_right(loss, z, y, wanted, dtype, backend):
    z, y = frozen([z], dtype), frozen([y], dtype)
    net = one_layer(loss, dtype, backend)
    value, gradients = net.value_and_grad(z, y, loss)
    # Three terms and their sum; z and y are rounded to the dtype before.
    assert abs(value - wanted) <= 8 * unit_roundoff(dtype) * wanted
    p = net.predict(z)
    assert np.all(np.abs(delta_of(loss, z, y, backend) - (p - y)) <= unit_roundoff(dtype))
    assert np.isfinite(p).all() and not np.isnan(gradients.flat).any()
