"""Whole gradients: against differences, against complex steps, and every backend bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deltaprop as dp
from conftest import EXACT, assert_same_bits, sample
from deltaprop.backends import load
from deltaprop.bounds import gradient_bounds
from deltaprop.equations import Batch
from tasks import UNITWISE, task, use
from values import frozen, unit_roundoff

# Every activation with every loss; where the loss asks for an output, in the hidden layers only.
PAIRS = [(g, loss) for g in UNITWISE for loss in dp.LOSSES]


# --------------------------------------------------------------------------- differences


@pytest.mark.parametrize(("activation", "loss"), PAIRS)
@pytest.mark.parametrize("bias", [True, False])
def test_gradient_is_the_central_difference(activation, loss, bias):
    """The reference's gradient, and differences of the numpy backend's losses."""
    net, given = task((3, 4, 5, 2), activation, loss, m=6, bias=bias)
    _, gradients = net.value_and_grad(*given)
    report = dp.gradcheck(net.to("numpy"), *given, gradients=gradients)
    assert report, str(report)


def test_gradcheck_keeps_quiet_on_a_net_that_has_learnt():
    """The loss is a millionth then, and its rounding is that of numbers of size 1."""
    X = sample((20, 3), "float64")
    labels = (X[:, 0] > 0).astype(np.int64)
    net = dp.MLP([3, 4, 2], "tanh", "softmax", dtype="float64", backend="numpy")
    for _ in range(3000):
        loss = net.train_step(X, labels, learning_rate=5.0)
    assert loss < 1e-4
    report = dp.gradcheck(net, X, labels)
    assert report, str(report)


WRONG: dict[str, Callable[[np.ndarray], None]] = {
    "sign": lambda flat: np.negative(flat, out=flat),
    "factor m": lambda flat: np.multiply(flat, 6, out=flat),
    "one element by 1%": lambda flat: flat.__setitem__(7, flat[7] * 1.01),
    "the largest by 1 in a million": lambda flat: flat.__setitem__(
        np.argmax(np.abs(flat)), flat[np.argmax(np.abs(flat))] * (1 + 1e-6)
    ),
    "a missing bias gradient": lambda flat: flat.__setitem__(-1, 0),
    "a NaN": lambda flat: flat.__setitem__(0, math.nan),
}


@pytest.mark.parametrize("loss", dp.LOSSES)
@pytest.mark.parametrize("wrong", WRONG)
def test_gradcheck_sees_a_wrong_gradient(wrong, loss):
    net, given = task((3, 4, 2), "tanh", loss, m=6)
    net = net.to("numpy")
    _, gradients = net.value_and_grad(*given)
    assert dp.gradcheck(net, *given, gradients=gradients)
    WRONG[wrong](gradients.flat)
    assert not dp.gradcheck(net, *given, gradients=gradients)


# ------------------------------------------------------------------------- complex steps


def _logistic(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _where(z: np.ndarray, left: np.ndarray) -> np.ndarray:
    return np.where(z.real > 0, z, left)


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    """Phi(x + ih) = Phi(x) + ih phi(x) for an h whose square vanishes."""
    phi = np.exp(-(z.real**2) / 2) / math.sqrt(2 * math.pi)
    cdf = np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2)(z.real)
    return cdf + 1j * z.imag * phi


COMPLEX: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z,
    "logistic": _logistic,
    "tanh": np.tanh,
    "relu": lambda z: _where(z, 0 * z),
    "leaky_relu": lambda z: _where(z, 0.01 * z),
    "elu": lambda z: _where(z, np.exp(z) - 1),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "silu": lambda z: z * _logistic(z),
    "gelu": lambda z: z * _normal_cdf(z),
    "gelu_tanh": lambda z: z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "mish": lambda z: z * np.tanh(np.log(1 + np.exp(z))),
    "squareplus": lambda z: (z + np.sqrt(z * z + 4)) / 2,
    "hard_sigmoid": lambda z: np.where(z.real < 3, _where(z + 3, 0 * z) / 6, 1),
    "sine": np.sin,
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}
COMPLEX_LOSS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "half_sse": lambda a, y: ((a - y) ** 2).sum() / 2,
    "half_mse": lambda a, y: ((a - y) ** 2).sum() / (2 * len(y)),
    "mse": lambda a, y: ((a - y) ** 2).mean(),
    "cross_entropy": lambda a, y: -(y * np.log(a)).sum() / len(y),
    "binary_cross_entropy": lambda a, y: -(y * np.log(a) + (1 - y) * np.log(1 - a)).sum() / len(y),
}


def complex_loss(net: dp.MLP, flat: np.ndarray, X: np.ndarray, Y: np.ndarray, loss: str) -> Any:
    """E of complex parameters, by nothing of deltaprop but the order of its buffer."""
    a: np.ndarray = X
    for (W, b), g in zip(dp.Parameters(flat, net.shapes), net.activations):
        a = COMPLEX[g.name](a @ W.T + b)
    return COMPLEX_LOSS[loss](a, Y)


@pytest.mark.parametrize(("activation", "loss"), PAIRS)
def test_gradient_is_the_complex_step(activation, loss):
    """dE/dw = Im E(w + ih) / h, with no difference and so no cancellation."""
    net, (X, Y, _) = task((4, 3, 5, 2), activation, loss, m=7)
    value, gradients = net.value_and_grad(X, Y, loss)
    wanted = np.empty(net.parameters.size)
    for i in range(wanted.size):
        flat = net.parameters.astype(complex)
        flat[i] += 1e-200j
        E = complex_loss(net, flat, X, Y, loss)
        wanted[i] = E.imag / 1e-200
    # Both sides round: each keeps the bound of the error analysis.
    u = unit_roundoff("float64")
    bounds = gradient_bounds(net.layers, X, Batch(Y, None, len(X), Y.shape[1]), dp.LOSSES[loss], u)
    for got, exact, bound in zip(gradients, dp.Parameters(wanted, net.shapes), bounds):
        assert np.all(np.abs(got.W - exact.W) <= 2 * bound.W)
        assert np.all(np.abs(got.b - exact.b) <= 2 * bound.b)
    assert value == pytest.approx(E.real, rel=1e-13)


# -------------------------------------------------------------------------- every backend


@st.composite
def tasks(draw: Any) -> tuple[dp.MLP, tuple[Any, ...]]:
    """Any net of up to four layers and up to 40 units, any batch of up to 200 samples."""
    sizes = tuple(draw(st.lists(st.integers(1, 40), min_size=2, max_size=5)))
    hidden = tuple(draw(st.sampled_from(UNITWISE)) for _ in sizes[2:])
    m = draw(st.one_of(st.sampled_from([1, 63, 64, 65, 128, 129]), st.integers(2, 200)))
    dtype, seed = draw(st.sampled_from(["float32", "float64"])), draw(st.integers(0, 1000))
    net, (X, Y, loss) = task(
        sizes,
        hidden,
        draw(st.sampled_from(list(dp.LOSSES))),
        m,
        output=draw(st.sampled_from(UNITWISE)),
        bias=draw(st.booleans()),
        dtype=dtype,
        seed=seed,
    )
    weights = np.abs(sample(m, dtype, seed)) if draw(st.booleans()) else None
    if loss == "cross_entropy" and draw(st.booleans()):
        Y = np.argmax(Y, axis=1)
    return net, (X, Y, loss, weights)


def assert_all_agree(net: dp.MLP, given: tuple[Any, ...]) -> None:
    value, gradients = net.value_and_grad(*given)
    for name in EXACT:
        other_value, other = net.to(name).value_and_grad(*given)
        assert other_value == value or math.isnan(value), name
        assert_same_bits(other.flat, gradients.flat, name)
    report = dp.crosscheck(net, *given, backends=["numpy"])
    assert report, str(report)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(tasks())
def test_any_net_has_the_same_bits_everywhere(net_and_batch):
    assert_all_agree(*net_and_batch)


@pytest.mark.parametrize("sizes", [(257, 3, 513), (1, 300, 2), (600, 1)])
def test_sums_of_several_leaves_have_the_same_bits_everywhere(sizes, dtype):
    net, given = task(sizes, "tanh", "half_mse", m=193, dtype=dtype)
    assert_all_agree(net, given)


def test_nan_in_a_sample_stays_in_its_rows_and_warns_of_nothing(dtype, backend):
    net, (X, Y, loss) = task((3, 4, 2), "logistic", "half_mse", m=5, dtype=dtype)
    with_nan = np.array(X)
    with_nan[2, 1] = math.nan
    back = {}
    for name, x in (("without", X), ("with", frozen(with_nan, dtype))):
        there = net.to(backend)
        back[name] = there.backward(there.forward(x), Y, loss, input_gradient=True)
        value, gradients = there.value_and_grad(x, Y, loss)
        assert math.isnan(value) == (name == "with")
    others = [0, 1, 3, 4]
    for l in (1, 2):
        assert np.isnan(back["with"].delta[l][2]).all()
        assert_same_bits(back["with"].delta[l][others], back["without"].delta[l][others])
    assert np.isnan(back["with"].input_gradient[2]).all()
    assert np.isnan(gradients.flat).all()


# ------------------------------------------------------------------------------ crosscheck


def test_crosscheck_sees_one_wrong_bit(monkeypatch, exact):
    net, given = task((3, 4, 2), "tanh", "half_mse", m=6, dtype="float32")
    assert dp.crosscheck(net, *given, backends=[exact])
    right = load(exact).bias_gradient

    def last_bit_off(delta: Any, out: Any) -> Any:
        db = right(delta, out)
        db.view(np.int32)[0] ^= 1
        return db

    use(monkeypatch, exact, bias_gradient=last_bit_off)
    report = dp.crosscheck(net, *given, backends=[exact])
    assert not report
    assert [row.differences for row in report.rows] == [
        {"0.W": 0, "0.b": 1, "1.W": 0, "1.b": 0},
    ]
    assert "BAD" in str(report)


def test_crosscheck_sees_an_error_above_the_bound(monkeypatch):
    net, given = task((3, 4, 2), "tanh", "half_mse", m=6, dtype="float32")
    right = load("numpy").weight_gradient

    def a_thousandth_off(delta: Any, a_in: Any, out: Any) -> Any:
        dW = right(delta, a_in, out)
        dW *= np.float32(1.001)
        return dW

    use(monkeypatch, "numpy", weight_gradient=a_thousandth_off)
    assert not dp.crosscheck(net, *given, backends=["numpy"])
