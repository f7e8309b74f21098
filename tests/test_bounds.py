"""The error bound of gradients: it holds, it is not absurdly wide, it sees a wrong kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import deltaprop as dp
from deltaprop.backends import load
from deltaprop.bounds import gradient_bounds
from deltaprop.equations import Batch, Layer
from tasks import UNITWISE, task, use
from test_activations import FORMULAS
from values import frozen, unit_roundoff

Given = tuple[np.ndarray, np.ndarray, str]


def numbers(x: np.ndarray) -> np.ndarray:
    """An array of mpmath numbers."""
    return np.vectorize(lambda v: mpf(float(v)), otypes=[object])(x)


def each(f: Callable[[mpf], mpf], x: np.ndarray) -> np.ndarray:
    return np.vectorize(f, otypes=[object])(x)


def softmax(z: np.ndarray) -> np.ndarray:
    e = each(mp.exp, z)
    return e / e.sum(axis=1, keepdims=True)


def exact_gradient(net: dp.MLP, X: np.ndarray, Y: np.ndarray, loss: str) -> list[np.ndarray]:
    """dE/dW and dE/db of every layer, in 50 digits."""
    a, zs = [numbers(X)], []
    for W, b, g in net.layers:
        z = a[-1] @ numbers(W).T + (0 if b is None else numbers(b))
        zs.append(z)
        a.append(softmax(z) if g.rowwise else each(FORMULAS[g.name], z))
    m, n = Y.shape
    scale = {"half_sse": mpf(1), "mse": mpf(2) / (m * n)}.get(loss, mpf(1) / m)
    delta = (a[-1] - numbers(Y)) * scale
    gradients: list[np.ndarray] = []
    for l in reversed(range(len(net.layers))):
        W, b, g = net.layers[l]
        if l < len(net.layers) - 1 or not dp.LOSSES[loss].link:
            delta = delta * each(lambda z, name=g.name: mp.diff(FORMULAS[name], z), zs[l])
        gradients[:0] = [delta.T @ a[l]] + ([] if b is None else [delta.sum(axis=0)])
        delta = delta @ numbers(W)
    return gradients


def bounds_of(net: dp.MLP, given: Given) -> list[np.ndarray]:
    X, Y, loss = given
    wide = [
        Layer(W.astype(float), None if b is None else b.astype(float), g) for W, b, g in net.layers
    ]
    batch = Batch(Y.astype(float), None, len(X), Y.shape[1])
    u = unit_roundoff(net.dtype.name)
    each_layer = gradient_bounds(wide, X.astype(float), batch, dp.LOSSES[loss], u)
    return [x for layer in each_layer for x in layer if x is not None]


def errors_of(net: dp.MLP, given: Given, backend: str) -> list[np.ndarray]:
    with mp.workdps(50):
        exact = exact_gradient(net, *given)
        _, gradients = net.to(backend).value_and_grad(*given)
        return [
            np.abs(numbers(got) - wanted).astype(float)
            for (_, got), wanted in zip(gradients.named(), exact)
        ]


def assert_within(net: dp.MLP, given: Given, backend: str) -> None:
    for error, bound in zip(errors_of(net, given, backend), bounds_of(net, given)):
        assert error.shape == bound.shape
        assert np.all(error <= bound)


def random_net(activation: str, loss: str, dtype: str, seed: int = 0) -> tuple[dp.MLP, Given]:
    return task((6, 9, 4, 3), activation, loss, m=11, dtype=dtype, seed=seed)


both = pytest.mark.parametrize("name", ["numpy", "reference"])


@both
@pytest.mark.parametrize("activation", UNITWISE)
@pytest.mark.parametrize("loss", ["half_mse", "cross_entropy"])
def test_the_bound_holds_for_random_nets(activation, loss, dtype, name):
    assert_within(*random_net(activation, loss, dtype), name)


# ------------------------------------------------------------------------ adversarial nets


def saturated(net: dp.MLP, X: np.ndarray) -> np.ndarray:
    net.parameters[...] *= 40
    return X


def cancelling(net: dp.MLP, X: np.ndarray) -> np.ndarray:
    """Weights in pairs that nearly cancel, on inputs that are nearly equal."""
    W, close = net.layers[0].W, net.dtype.type(1 + 1e-3)
    W[:, 1::2] = -W[:, ::2] * close
    W *= 1000
    x = np.array(X)
    x[:, 1::2] = x[:, ::2]
    return x


def at_the_kink(net: dp.MLP, X: np.ndarray) -> np.ndarray:
    """Pre-activations that are 0 but for rounding: a sum of thirds."""
    W, b = net.layers[0].W, net.layers[0].b
    W[...] = net.dtype.type(1 / 3)
    b[...] = -np.linspace(1.9, 2.1, len(b))
    b[len(b) // 2] = -2
    return np.ones_like(X)


def unequal_scales(net: dp.MLP, X: np.ndarray) -> np.ndarray:
    powers = 2.0 ** np.linspace(-12, 12, X.shape[1])
    return (X * powers).astype(X.dtype)


ADVERSARIAL = (saturated, cancelling, at_the_kink, unequal_scales)


@both
@pytest.mark.parametrize("activation", UNITWISE)
@pytest.mark.parametrize("make", ADVERSARIAL)
def test_the_bound_holds_for_adversarial_nets(make, activation, dtype, name):
    net, (X, Y, loss) = random_net(activation, "half_mse", dtype)
    assert_within(net, (frozen(make(net, X), dtype), Y, loss), name)


@both
@pytest.mark.parametrize("loss", [name for name, loss in dp.LOSSES.items() if loss.link])
@pytest.mark.parametrize("make", ADVERSARIAL)
def test_the_bound_holds_for_adversarial_logits(make, loss, dtype, name):
    net, (X, Y, _) = random_net("tanh", loss, dtype)
    assert_within(net, (frozen(make(net, X), dtype), Y, loss), name)


def test_the_bound_holds_where_the_gradient_is_subnormal(dtype):
    net, given = random_net("tanh", "half_mse", dtype)
    f = np.finfo(dtype)
    for weight in (f.tiny, 1000 * f.smallest_subnormal, 10 * f.smallest_subnormal):
        report = dp.crosscheck(net, *given, frozen(np.full(11, weight), dtype), backends=["numpy"])
        assert report, str(report)


# ------------------------------------------------------------------------------- tightness


@pytest.mark.parametrize("activation", UNITWISE)
def test_the_bound_is_within_four_orders_of_magnitude(activation, dtype):
    """Of the largest error in a net of three layers: each layer adds worst cases to worst cases."""
    net, given = random_net(activation, "half_mse", dtype)
    for error, bound in zip(errors_of(net, given, "numpy"), bounds_of(net, given)):
        assert np.max(error) >= np.max(bound) / 10**4


def a_thousandth_more(x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(map(a_thousandth_more, x))
    return None if x is None else np.multiply(x, x.dtype.type(1.001), out=x)


@pytest.mark.parametrize("activation", UNITWISE)
@pytest.mark.parametrize(
    "kernel", ["dense_forward", "output_delta", "hidden_delta", "weight_gradient", "bias_gradient"]
)
def test_a_kernel_that_is_a_thousandth_off_is_seen(kernel, activation, dtype, monkeypatch):
    net, given = random_net(activation, "half_mse", dtype)
    assert dp.crosscheck(net, *given, backends=["numpy"])
    right = getattr(load("numpy"), kernel)
    use(monkeypatch, "numpy", **{kernel: lambda *args: a_thousandth_more(right(*args))})
    assert not dp.crosscheck(net, *given, backends=["numpy"])
