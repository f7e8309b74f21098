"""A program as a user writes it: it runs, and a strict type checker knows what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, assert_type

import numpy as np

import deltaprop as dp


def layers() -> float:
    """Trains a layered net; its last loss."""
    X = np.random.default_rng(0).random((64, 4), dtype=np.float32)
    Y = X[:, :1] * X[:, 1:2]
    net = dp.MLP([4, 8, 1], activation="tanh", seed=0, backend="cpu")
    loss, grads = net.value_and_grad(X, Y, loss="half_mse")
    assert_type(loss, float)
    assert_type(grads, dp.Parameters)
    assert_type(grads[0], dp.Gradient)
    assert grads[0].W.shape == (8, 4)
    gradient = grads.flat.copy()

    trace = net.forward(X)
    back = net.backward(trace, Y, loss="half_mse")
    assert_type(trace, dp.Trace)
    assert_type(back, dp.Back)
    assert_type(net.layers, list[dp.Layer])
    assert np.array_equal(back.gradients.flat, gradient)
    assert bool(dp.gradcheck(net, X[:3], Y[:3]))

    rate = dp.schedules.CosineDecay(1e-2, steps=6)
    history = net.fit(
        X,
        Y,
        epochs=3,
        optimizer=dp.Adam(rate, clip_norm=1.0),
        validation=0.25,
        callbacks=[lambda net, history: False],
    )
    assert_type(history, dp.History)
    assert_type(net.train_step(X, Y, learning_rate=0.1), float)
    assert history.loss[-1] < history.loss[0]
    return net.loss(X, Y)


def units(names: Sequence[str]) -> float:
    """The gradient of an edge of a graph of units."""
    g = dp.Graph(inputs=names, outputs=["y"], dtype="float64", backend="cpu")
    g.unit("y", activation="logistic", bias=0.1)
    for name in names:
        g.edge(name, "y", 0.5)
    X, Y = np.ones((1, len(names))), np.zeros((1, 1))
    loss, grads = g.value_and_grad(X, Y)
    assert_type(loss, float)
    assert_type(grads, dp.UnitParameters)
    assert_type(g.explain((names[0], "y"), X, Y), dp.Explanation)
    return grads[names[0], "y"]


def many() -> Any:
    """A net out of an ensemble, and what the machine has."""
    nets = dp.Ensemble.of([dp.MLP([2, 3, 1], seed=seed) for seed in range(2)])
    assert_type(nets, dp.Ensemble)
    assert_type(nets.member(1), dp.MLP)
    assert_type(dp.backends(), list[dp.BackendInfo])
    assert_type(dp.activation("twice", "2*z"), dp.Activation)
    assert_type(dp.__version__, str)
    return nets.parameters


if TYPE_CHECKING:
    print(dp.MPL)  # type: ignore[attr-defined]
    layers() + ""  # type: ignore[operator]
    dp.MLP([1, 1]).fit(np.ones((1, 1)), np.ones(1), epoch=3)  # type: ignore[call-arg]
    dp.MLP([1, 1]).fit(np.ones((1, 1)), np.ones(1), epochs="3")  # type: ignore[arg-type]


if __name__ == "__main__":
    print(f"loss {layers():.4f}, dE/dw {units(['x1', 'x2']):.4f}, {many().shape} parameters")
