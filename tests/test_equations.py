"""The worked equations of backpropagation, unit by unit, against every backend.

Each gradient is written out as the derivation has it, in plain numbers. Numbers that a unit
does not use are weights of 0. In float64: other dtypes are held to the same equations by bits
and bounds elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any

import numpy as np

import deltaprop as dp
from conftest import sample
from deltaprop.check import to_numpy
from values import frozen, unit_roundoff

ROUNDINGS = 64
"""More than lie on the longest path of any net here, elementary functions included."""


def g(z: float) -> float:
    return 1 / (1 + exp(-z))


def net_of(backend: str, layers: Sequence[tuple[Any, Any]], activation: str = "logistic") -> dp.MLP:
    """The net of these W and b: hidden layers with an activation, a linear output."""
    sizes = [len(layers[0][0][0]), *(len(W) for W, _ in layers)]
    bias = layers[0][1] is not None
    net = dp.MLP(sizes, activation, bias=bias, dtype="float64", backend="reference")
    for layer, (W, b) in zip(net.layers, layers):
        layer.W[...] = W
        if bias:
            layer.b[...] = b
    return net.to(backend)


def assert_near(got: Any, wanted: Any, size: Any = None) -> None:
    """Within the roundings of terms of that size; without one, nothing cancels."""
    size = np.abs(wanted) if size is None else size
    error = np.abs(np.asarray(got) - np.asarray(wanted))
    assert np.all(error <= ROUNDINGS * unit_roundoff("float64") * np.asarray(size))


def row(*numbers: float) -> np.ndarray:
    return frozen([numbers], "float64")


def test_a_chain_of_single_units(backend):
    """The derivative by a weight is the product along the path from it to the error."""
    x, y, w1, w2, w3 = 0.8, 3.0, 0.7, -1.3, 1.9
    net = net_of(backend, [([[w1]], None), ([[w2]], None), ([[w3]], None)])
    o1 = g(w1 * x)
    o2 = g(w2 * o1)
    o = w3 * o2

    E, gradients = net.value_and_grad(row(x), row(y), "half_sse")

    assert_near(E, (o - y) ** 2 / 2)
    assert_near(gradients[2].W, (o - y) * o2)
    assert_near(gradients[1].W, (o - y) * w3 * o2 * (1 - o2) * o1)
    assert_near(gradients[0].W, (o - y) * w3 * o2 * (1 - o2) * w2 * o1 * (1 - o1) * x)


def test_two_units_that_feed_one(backend):
    """Each path has the other's factor (o - y), and its own weights."""
    x1, x2, y, w1, w2, v1, v2 = 0.5, 1.1, -2.0, 1.2, 0.4, 0.9, 0.3
    net = net_of(backend, [([[w1, 0], [0, w2]], None), ([[v1, v2]], None)])
    u1, u2 = g(w1 * x1), g(w2 * x2)
    o = v1 * u1 + v2 * u2

    _, gradients = net.value_and_grad(row(x1, x2), row(y), "half_sse")

    assert_near(gradients[1].W, [[(o - y) * u1, (o - y) * u2]])
    assert_near(gradients[0].W[0, 0], (o - y) * v1 * u1 * (1 - u1) * x1)
    assert_near(gradients[0].W[1, 1], (o - y) * v2 * u2 * (1 - u2) * x2)


def test_one_unit_that_feeds_two(backend):
    """The error that reaches the unit is the sum over both paths."""
    x, y1, y2, w, p, q, v1, v2 = 1.4, -1.0, -2.0, 0.6, 0.8, 1.5, 1.1, 0.7
    hidden = [([[w]], None), ([[p], [q]], None), ([[v1, 0], [0, v2]], None)]
    net = net_of(backend, hidden)
    u = g(w * x)
    s, t = g(p * u), g(q * u)
    e1, e2 = v1 * s - y1, v2 * t - y2
    first_path = e1 * v1 * s * (1 - s) * p
    second_path = e2 * v2 * t * (1 - t) * q

    E, gradients = net.value_and_grad(row(x), row(y1, y2), "half_sse")

    assert_near(E, (e1**2 + e2**2) / 2)
    assert_near(gradients[0].W, (first_path + second_path) * u * (1 - u) * x)
    assert_near(gradients[1].W, [[e1 * v1 * s * (1 - s) * u], [e2 * v2 * t * (1 - t) * u]])


def test_the_layered_net_in_matrices(backend):
    """With columns as samples: dZ = (A - Y)/m, dW = dZ A^T, db = dZ 1, dX = W^T dZ."""
    m, sizes = 7, (4, 5, 3)
    X, Y = sample((sizes[0], m), "float64", 1), sample((sizes[2], m), "float64", 2)
    W1, W2 = sample(sizes[1::-1], "float64", 3), sample(sizes[2:0:-1], "float64", 4)
    b1, b2 = sample((sizes[1], 1), "float64", 5), sample((sizes[2], 1), "float64", 6)
    A1 = 1 / (1 + np.exp(-(W1 @ X + b1)))
    A2 = W2 @ A1 + b2
    dZ2 = (A2 - Y) / m
    dZ1 = (W2.T @ dZ2) * A1 * (1 - A1)
    size2 = (np.abs(W2) @ A1 + np.abs(b2) + np.abs(Y)) / m
    size1 = np.abs(W2.T) @ size2

    net = net_of(backend, [(W1, b1[:, 0]), (W2, b2[:, 0])])
    E, gradients = net.value_and_grad(X.T, Y.T, "half_mse")
    back = net.backward(net.forward(X.T), Y.T, "half_mse", input_gradient=True)

    assert_near(E, np.sum((A2 - Y) ** 2) / (2 * m), np.sum(size2**2) * m)
    assert_near(gradients[1].W, dZ2 @ A1.T, size2 @ A1.T)
    assert_near(gradients[1].b, dZ2.sum(axis=1), size2.sum(axis=1))
    assert_near(gradients[0].W, dZ1 @ X.T, size1 @ np.abs(X.T))
    assert_near(gradients[0].b, dZ1.sum(axis=1), size1.sum(axis=1))
    assert_near(back.input_gradient.T, W1.T @ dZ1, np.abs(W1.T) @ size1)
    assert_near(back.delta[2].T, dZ2, size2)
    assert_near(back.delta[1].T, dZ1, size1)


def test_the_delta_recursion_of_sigmoid_units(backend):
    """delta_j = (sum_l w_jl delta_l) o_j (1 - o_j), and dE/dw_ij = o_i delta_j."""
    net = dp.MLP([3, 4, 5, 2], "logistic", "logistic", seed=3, dtype="float64", backend=backend)
    x, y = sample((1, 3), "float64", 7), frozen([[2.0, -1.0]], "float64")
    trace = net.forward(x)
    back = net.backward(trace, y, "half_sse")
    o = [a[0].tolist() for a in trace.a]
    W = [to_numpy(layer.W).tolist() for layer in net.layers]

    wanted = [(o_k - y_k) * o_k * (1 - o_k) for o_k, y_k in zip(o[3], y[0].tolist())]
    assert_near(back.delta[3][0], wanted)
    for layer in (2, 1):
        next_delta = wanted
        terms = [
            [W[layer][k][j] * next_delta[k] for k in range(len(next_delta))]
            for j in range(len(o[layer]))
        ]
        wanted = [sum(t) * o_j * (1 - o_j) for t, o_j in zip(terms, o[layer])]
        size = [sum(map(abs, t)) * o_j * (1 - o_j) for t, o_j in zip(terms, o[layer])]
        assert_near(back.delta[layer][0], wanted, size)
        into = [[o_i * delta_j for o_i in o[layer - 1]] for delta_j in wanted]
        sizes = [[abs(o_i) * size_j for o_i in o[layer - 1]] for size_j in size]
        assert_near(back.gradients[layer - 1].W, into, sizes)


def test_gradient_descent(backend):
    """w <- w - eta dE/dw for every W and b, and E goes down."""
    net = net_of(backend, [([[0.5, -0.25]], [0.1]), ([[0.75], [-1.5]], [0.2, -0.3])])
    X, Y = sample((6, 2), "float64", 8), sample((6, 2), "float64", 9)
    before = to_numpy(net.parameters).tolist()
    E, gradients = net.value_and_grad(X, Y, "half_mse")

    returned = net.train_step(X, Y, "half_mse", learning_rate=0.25)

    assert returned == E
    wanted = [w - 0.25 * d for w, d in zip(before, gradients.flat.tolist())]
    assert_near(to_numpy(net.parameters), wanted, np.abs(before) + 1)
    assert net.loss(X, Y, "half_mse") < E


def test_the_error_by_the_input(backend):
    """dE/dx_i = sum_j w_ji delta_j, for a single layer: (o - y) o (1 - o) w_i."""
    w1, w2, x1, x2, y = 0.4, -1.7, 1.5, 0.3, 2.0
    net = dp.MLP([2, 1], output="logistic", bias=False, dtype="float64", backend="reference")
    net.layers[0].W[...] = [[w1, w2]]
    o = g(w1 * x1 + w2 * x2)
    delta = (o - y) * o * (1 - o)

    net = net.to(backend)
    back = net.backward(net.forward(row(x1, x2)), row(y), "half_sse", input_gradient=True)

    assert_near(back.input_gradient, [[delta * w1, delta * w2]])
