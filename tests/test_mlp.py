"""MLP: what a net is made of and what its methods return, on every backend."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.check import to_numpy
from deltaprop.fma import fma

SIZES, M = [3, 4, 2], 5


def new_net(backend: str, dtype: str, **options) -> dp.MLP:
    """A small logistic net, its biases not 0."""
    net = dp.MLP(SIZES, dtype=dtype, backend=backend, **options)
    for _, b, _ in net.layers:
        if b is not None:
            b[...] = 0.25
    return net


def new_batch(dtype: str, m: int = M) -> tuple[np.ndarray, np.ndarray]:
    return sample((m, SIZES[0]), dtype, 1), sample((m, SIZES[-1]), dtype, 2)


def textbook(net: dp.MLP, X: np.ndarray, Y: np.ndarray, w: np.ndarray | None = None):
    """z, a, delta, loss, gradients and dE/dX of a logistic net and half_mse, in float64."""
    layers = [[to_numpy(x).astype(np.float64) for x in layer[:2]] for layer in net.layers]
    z, a = [None], [X.astype(np.float64)]
    for W, b in layers:
        z.append(a[-1] @ W.T + b)
        a.append(1 / (1 + np.exp(-z[-1])))
    a[-1] = z[-1]
    w = np.ones((len(X), 1)) if w is None else w.astype(np.float64).reshape(-1, 1)
    delta = [(a[-1] - Y) * w / len(X)]
    for l in range(len(layers) - 1, 0, -1):
        delta.insert(0, delta[0] @ layers[l][0] * a[l] * (1 - a[l]))
    gradients = [x for d, below in zip(delta, a) for x in (d.T @ below, d.sum(axis=0))]
    loss = float(np.sum(w * (a[-1] - Y) ** 2) / (2 * len(X)))
    return z, a, [None, *delta], loss, gradients, delta[0] @ layers[0][0]


def assert_near(got, wanted) -> None:
    """Within a hundred roundings of the largest element: all sums here have a few terms."""
    assert got.shape == wanted.shape
    tolerance = 100 * float(np.finfo(got.dtype).eps) * max(1.0, float(np.max(np.abs(wanted))))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


def test_layers_have_the_shapes_and_activations_asked_for(backend: str, dtype: str) -> None:
    net = dp.MLP([7, 5, 4, 3], ["tanh", "logistic"], "softmax", dtype=dtype, backend=backend)
    assert net.sizes == (7, 5, 4, 3)
    assert [g.name for g in net.activations] == ["tanh", "logistic", "softmax"]
    for (n_in, n), (W, b, g), named in zip(pairwise(net.sizes), net.layers, net.activations):
        assert (W.shape, b.shape, g) == ((n, n_in), (n,), named)
        assert W.dtype == b.dtype == net.dtype == dtype
        assert not np.any(to_numpy(b))
    assert net.parameters.shape == (7 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3,)
    assert net.backend == backend


def test_without_bias_layers_have_none(backend: str, dtype: str) -> None:
    net = new_net(backend, dtype, bias=False)
    assert [b for _, b, _ in net.layers] == [None, None]
    assert net.parameters.shape == (3 * 4 + 4 * 2,)
    X, Y = new_batch(dtype)
    _, gradients = net.value_and_grad(X, Y)
    assert [b for _, b in gradients] == [None, None]
    hand = to_numpy(net.layers[0].W).astype(np.float64)
    assert_near(net.forward(X).z[1], X @ hand.T)


def test_a_seed_gives_the_same_glorot_weights_everywhere(backend: str, dtype: str) -> None:
    draw = np.random.Generator(np.random.PCG64(7))
    net = dp.MLP(SIZES, seed=7, dtype=dtype, backend=backend)
    for W, _, _ in net.layers:
        limit = np.sqrt(6 / sum(W.shape))
        assert_same_bits(to_numpy(W), draw.uniform(-limit, limit, W.shape).astype(dtype))
    other = dp.MLP(SIZES, seed=8, dtype=dtype, backend=backend)
    assert dp.digest(net.parameters) != dp.digest(other.parameters)


def test_layers_view_the_one_buffer(backend: str, dtype: str) -> None:
    net = new_net(backend, dtype)
    in_order = [x for W, b, _ in net.layers for x in (W, b)]
    assert_same_bits(
        to_numpy(net.parameters), np.concatenate([to_numpy(x).reshape(-1) for x in in_order])
    )
    X, _ = new_batch(dtype)
    before = net.predict(X)
    net.layers[1].W[1, 2] = 3
    assert to_numpy(net.parameters)[3 * 4 + 4 + 1 * 4 + 2] == 3
    assert np.any(net.predict(X)[:, 1] != before[:, 1])
    net.parameters[...] = 0
    assert not np.any(to_numpy(net.layers[0].W))
    assert not np.any(net.predict(X))


def test_the_trace_holds_z_and_a_of_every_layer(backend: str, dtype: str) -> None:
    net, (X, Y) = new_net(backend, dtype), new_batch(dtype)
    trace = net.forward(X)
    z, a, *_ = textbook(net, X, Y)
    assert len(trace.z) == len(trace.a) == len(SIZES)
    assert trace.z[0] is None
    assert_same_bits(trace.a[0], X)
    for l in range(1, len(SIZES)):
        assert type(trace.z[l]) is type(trace.a[l]) is np.ndarray
        assert_near(trace.z[l], z[l])
        assert_near(trace.a[l], a[l])
    assert_same_bits(net.predict(X), trace.a[-1])


def test_backward_gives_deltas_gradients_and_input_gradient(backend: str, dtype: str) -> None:
    net, (X, Y) = new_net(backend, dtype), new_batch(dtype)
    _, _, delta, _, gradients, dX = textbook(net, X, Y)
    trace = net.forward(X)
    back = net.backward(trace, Y)
    assert back.delta[0] is None
    assert back.input_gradient is None
    for got, wanted in zip(back.delta[1:], delta[1:], strict=True):
        assert_near(got, wanted)
    for (_, got), wanted in zip(back.gradients.named(), gradients, strict=True):
        assert_near(got, wanted)
    assert_same_bits(back.gradients.flat, net.value_and_grad(X, Y)[1].flat)
    with_input = net.backward(trace, Y, input_gradient=True)
    assert_near(with_input.input_gradient, dX)
    assert_same_bits(with_input.gradients.flat, back.gradients.flat)


def test_value_and_grad_returns_a_float_and_one_buffer(backend: str, dtype: str) -> None:
    net, (X, Y) = new_net(backend, dtype), new_batch(dtype)
    loss, gradients = net.value_and_grad(X, Y, loss="half_mse")
    assert type(loss) is float
    assert loss == net.loss(X, Y) == net.loss(X, Y, "half_mse")
    *_, wanted, _, _ = textbook(net, X, Y)
    assert_near(np.array(loss, dtype), np.array(wanted))
    assert isinstance(gradients, dp.Parameters)
    assert len(gradients) == 2
    assert [name for name, _ in gradients.named()] == ["0.W", "0.b", "1.W", "1.b"]
    in_order = [gradients[0].W, gradients[0].b, gradients[1].W, gradients[1].b]
    assert type(gradients.flat) is np.ndarray
    assert_same_bits(gradients.flat, np.concatenate([x.reshape(-1) for x in in_order]))
    again = net.value_and_grad(X, Y)[1]
    again.flat[...] = 0
    assert np.any(gradients.flat), "two calls share memory"


def test_a_train_step_is_the_update_by_hand(backend: str, dtype: str) -> None:
    net, (X, Y) = new_net(backend, dtype), new_batch(dtype)
    w = to_numpy(net.parameters).copy()
    loss, gradients = net.value_and_grad(X, Y)
    eta = np.dtype(dtype).type(0.3)
    exact = backend != "numpy"
    wanted = fma(-eta, gradients.flat, w) if exact else w - eta * gradients.flat
    assert net.train_step(X, Y, learning_rate=0.3) == loss
    assert_same_bits(to_numpy(net.parameters), wanted)


def test_weights_scale_each_sample(backend: str, dtype: str) -> None:
    net, (X, Y) = new_net(backend, dtype), new_batch(dtype)
    weights = np.array([0, 1, 0.5, 3, 2], dtype)
    *_, loss, gradients, _ = textbook(net, X, Y, weights)
    got_loss, got = net.value_and_grad(X, Y, sample_weight=weights)
    assert_near(np.array(got_loss, dtype), np.array(loss))
    assert net.loss(X, Y, sample_weight=weights) == got_loss
    for (_, x), wanted in zip(got.named(), gradients, strict=True):
        assert_near(x, wanted)
    assert_same_bits(
        net.backward(net.forward(X), Y, sample_weight=weights).gradients.flat, got.flat
    )
    net.train_step(X, Y, learning_rate=0.5, sample_weight=weights)
    stepped = new_net(backend, dtype)
    wanted = dp.ops.descend(to_numpy(stepped.parameters), got.flat, 0.5, backend=backend)
    assert_same_bits(to_numpy(net.parameters), wanted)


def test_labels_are_rows_of_one_and_zeros(backend: str, dtype: str) -> None:
    net = dp.MLP(SIZES, output="softmax", dtype=dtype, backend=backend)
    X, labels = new_batch(dtype)[0], np.array([0, 1, 1, 0, 1], np.uint8)
    loss, gradients = net.value_and_grad(X, labels)
    rows_loss, rows_gradients = net.value_and_grad(X, np.eye(2, dtype=dtype)[labels])
    assert loss == rows_loss == net.loss(X, labels, "cross_entropy")
    assert_same_bits(gradients.flat, rows_gradients.flat)
    p = net.predict(X).astype(np.float64)
    assert_near(np.array(loss, dtype), -np.mean(np.log(p[range(M), labels])))


@pytest.mark.parametrize("part", [64, 128, 192, 640])
def test_a_batch_in_parts_has_the_same_gradient(backend: str, dtype: str, part: int) -> None:
    net, (X, Y) = new_net(backend, dtype), new_batch(dtype, 300)
    weights = np.abs(sample(300, dtype, 3))
    loss, whole = net.value_and_grad(X, Y, None, weights)
    in_parts_loss, in_parts = net.value_and_grad(X, Y, None, weights, micro_batch=part)
    if backend == "numpy":
        *_, wanted_loss, gradients, _ = textbook(net, X, Y, weights)
        assert_near(np.array(in_parts_loss, dtype), np.array(wanted_loss))
        assert_near(in_parts.flat, np.concatenate([x.reshape(-1) for x in gradients]))
    else:
        assert in_parts_loss == loss
        assert_same_bits(in_parts.flat, whole.flat)


def test_to_makes_a_copy_elsewhere(backend: str, dtype: str) -> None:
    net, (X, _) = new_net("reference", dtype, bias=True), new_batch(dtype)
    copied = net.to(backend)
    assert (copied.backend, copied.dtype, copied.sizes) == (backend, net.dtype, net.sizes)
    assert copied.activations == net.activations
    assert_same_bits(to_numpy(copied.parameters), net.parameters)
    copied.parameters[...] = 0
    assert np.any(net.parameters)
    assert not np.any(copied.predict(X))
    other = {"float32": "float64", "float64": "float32"}[dtype]
    there = net.to(backend, other)
    assert_same_bits(to_numpy(there.parameters), net.parameters.astype(other))
    assert there.to().backend == backend
    assert there.predict(X.astype(other)).dtype == other


def test_a_deep_copy_is_a_net_of_its_own(backend: str, dtype: str) -> None:
    net, (X, Y) = new_net(backend, dtype), new_batch(dtype)
    wanted = net.predict(X)
    copied = copy.deepcopy(net)
    copied.train_step(X, Y)
    assert_same_bits(net.predict(X), wanted)
    assert_same_bits(to_numpy(copied.parameters)[:12], to_numpy(copied.layers[0].W).reshape(-1))
    assert np.all(copied.predict(X) != wanted)


def test_gradients_survive_a_pickle(dtype: str) -> None:
    gradients = new_net("numpy", dtype).value_and_grad(*new_batch(dtype))[1]
    again = pickle.loads(pickle.dumps(gradients))
    again.flat[...] = 1
    assert again[1].W.shape == gradients[1].W.shape
    assert np.all(again[1].W == 1)


def test_repr_says_what_the_net_is(backend: str, dtype: str) -> None:
    shown = repr(new_net(backend, dtype))
    for part in ("3-4-2", "logistic", "identity", dtype, repr(backend)):
        assert part in shown
    gradients = new_net("numpy", dtype).value_and_grad(*new_batch(dtype))[1]
    assert "4x3, 2x4" in repr(gradients)
    assert "26 numbers" in repr(gradients)
