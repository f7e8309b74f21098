"""Deltaprop's own step, and the same one by hand in NumPy.

`train_step` returns the loss as well; the step by hand does not compute it, nor does JAX's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.peers.case import Task

Array = np.ndarray


@dataclass(frozen=True)
class Runner:
    """A call that is timed, and its result in numbers.

    run
        One training step, or one prediction; what a GPU does of it may end later.
    answer
        Of what `run` returned: after a step all parameters, laid out as an `MLP` has them; else
        the outputs (m, n).
    finish
        Waits until everything is done that was begun; nothing where `run` itself does.
    """

    run: Callable[[], Any]
    answer: Callable[[Any], Array]
    finish: Callable[[], Any] = lambda: None


def flat(layers: Iterable[tuple[Any, Any]]) -> Array:
    """W (n, n_in) and b of every layer in one array, as an `MLP` has them."""
    return np.concatenate([np.asarray(x).reshape(-1) for layer in layers for x in layer])


def deltaprop(task: Task, backend: str = "cpu") -> Runner:
    """X and Y are where the backend computes before it begins."""
    net, loss = task.net.to(backend), task.case.loss
    here = net.kernels.arrays
    X, Y = here.asarray(task.X), here.asarray(task.Y)
    if task.case.inference:
        return Runner(lambda: net.predict(X), here.to_numpy, _finish(net.backend))
    return Runner(
        lambda: net.train_step(X, Y, loss=loss, learning_rate=task.rate),
        lambda _: np.array(here.to_numpy(net.parameters)),
        _finish(net.backend),
    )


def _finish(backend: str) -> Callable[[], Any]:
    if backend != "cuda":
        return lambda: None
    import cupy

    return lambda: cupy.cuda.get_current_stream().synchronize()


def logistic(z: Array) -> Array:
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1
    np.reciprocal(z, out=z)
    return z


def softmax(z: Array) -> Array:
    z -= np.max(z, axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= np.sum(z, axis=1, keepdims=True)
    return z


VALUES: dict[str, Callable[[Array], Array]] = {
    "logistic": logistic,
    "tanh": lambda z: np.tanh(z, out=z),
    "relu": lambda z: np.maximum(z, 0, out=z),
    "identity": lambda z: z,
    "softmax": softmax,
}
"""a = g(z), which may overwrite z."""
SLOPES: dict[str, Callable[[Array], Any]] = {
    "logistic": lambda a: a * (1 - a),
    "tanh": lambda a: 1 - a * a,
    "relu": lambda a: a > 0,
    "identity": lambda a: 1,
    "softmax": lambda a: 1,  # cross-entropy's: dE/dz = (a - y) / m
}
"""g' by a."""


def by_numpy(task: Task) -> Runner:
    """The derivation's own lines: rows are samples, delta = dE/dz."""
    layers, X, Y = task.layers, task.X, task.Y
    g = [*[task.case.activation] * (len(layers) - 1), task.case.output]
    eta, m = task.rate, len(X)

    def forward() -> list[Array]:
        a = [X]
        for (W, b), name in zip(layers, g):
            z = a[-1] @ W.T
            z += b
            a.append(VALUES[name](z))
        return a

    def step() -> None:
        a = forward()
        delta = (a[-1] - Y) * SLOPES[g[-1]](a[-1])
        delta *= 1 / m
        for l in reversed(range(len(layers))):
            W, b = layers[l]
            dW, db = delta.T @ a[l], delta.sum(axis=0)
            if l > 0:
                delta = delta @ W
                delta *= SLOPES[g[l - 1]](a[l])
            dW *= eta
            db *= eta
            W -= dW
            b -= db

    if task.case.inference:
        return Runner(lambda: forward()[-1], np.asarray)
    return Runner(step, lambda _: flat(layers))
