"""The step by JAX: one compiled function, whose parameters are given up to it.

On a GPU float32 products have precision "highest": they are float32's, not TF32.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from deltaprop.peers.by_hand import Runner, flat
from deltaprop.peers.case import Case, Task

Model = Callable[..., Any]
PLATFORMS = {"cpu": "cpu", "cuda": "gpu"}


def jax_jit(task: Task) -> Runner:
    """W is (n_in, n), as JAX's libraries have it."""
    # JAX would take most of a GPU's memory when it starts.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    case = task.case
    if case.device == "cuda":
        jax.config.update("jax_default_matmul_precision", "highest")
    if case.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    here = jax.devices(PLATFORMS[case.device])[0]
    X, Y = (jax.device_put(x, here) for x in (task.X, task.Y))
    parameters = [
        (jax.device_put(np.ascontiguousarray(W.T), here), jax.device_put(b, here))
        for W, b in task.layers
    ]
    predict, step = _compiled(case)
    # A GPU's work is waited for at the end of a slice, a CPU's at the end of a call.
    done = jax.block_until_ready if case.device == "cpu" else lambda x: x

    if case.inference:
        last = X

        def prediction() -> Any:
            nonlocal last
            last = done(predict(parameters, X))
            return last

        return Runner(prediction, np.asarray, lambda: jax.block_until_ready(last))

    rate = jax.device_put(np.array(task.rate, case.dtype), here)

    def descend() -> None:
        nonlocal parameters
        parameters = done(step(parameters, X, Y, rate))

    return Runner(
        descend,
        lambda _: flat((np.asarray(W).T, b) for W, b in parameters),
        lambda: jax.block_until_ready(parameters),
    )


@lru_cache(1)
def _compiled(case: Case) -> tuple[Model, Model]:
    """A prediction and a step of eta dE/dw, compiled once for a case."""
    import jax

    outputs, error = _model(case)

    def step(parameters: Any, X: Any, Y: Any, eta: Any) -> Any:
        gradient = jax.grad(error)(parameters, X, Y)
        return jax.tree.map(lambda w, g: w - eta * g, parameters, gradient)

    return jax.jit(outputs), jax.jit(step, donate_argnums=0)


def _model(case: Case) -> tuple[Model, Model]:
    """The outputs of parameters and X, and E of parameters, X and Y."""
    import jax
    import jax.numpy as jnp

    functions = {
        "logistic": jax.nn.sigmoid,
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "identity": lambda z: z,
        "softmax": jax.nn.softmax,
    }
    hidden, last, m = functions[case.activation], functions[case.output], case.m

    def net(parameters: Any, a: Any) -> Any:
        for W, b in parameters[:-1]:
            a = hidden(a @ W + b)
        W, b = parameters[-1]
        return a @ W + b

    def outputs(parameters: Any, X: Any) -> Any:
        return last(net(parameters, X))

    def error(parameters: Any, X: Any, Y: Any) -> Any:
        if case.loss == "cross_entropy":
            return -jnp.sum(Y * jax.nn.log_softmax(net(parameters, X))) / m
        return jnp.sum((outputs(parameters, X) - Y) ** 2) * (0.5 / m)

    return outputs, error
