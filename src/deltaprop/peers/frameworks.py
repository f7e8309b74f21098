"""The step by PyTorch, by torch.compile and by JAX; tensors are made beforehand.

PyTorch: functions of bare tensors, autograd, `torch.optim.SGD` in its fused form, which is the
fastest of its three. Compiled: the loss and its gradient as one graph, the same optimiser. JAX:
the whole step is one compiled function, whose parameters are given up to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deltaprop.peers.by_hand import Runner, flat
from deltaprop.peers.case import Case, Task

Model = Callable[..., Any]


def pytorch(task: Task) -> Runner:
    return _torch(task, lambda f: f)


def torch_compile(task: Task) -> Runner:
    """Compiled anew for these sizes; one part that cannot be compiled is an error."""
    import torch

    # What was compiled for other sizes counts towards a limit, beyond which nothing is compiled.
    torch._dynamo.reset()
    return _torch(task, lambda f: torch.compile(f, dynamic=False, fullgraph=True))


def _torch(task: Task, compiled: Callable[[Model], Model]) -> Runner:
    import torch

    case = task.case
    W, b = ([torch.from_numpy(x).requires_grad_() for x in xs] for xs in zip(*task.layers))
    X = torch.from_numpy(task.X)
    Y = torch.from_numpy(task.labels if case.loss == "cross_entropy" else task.Y)
    outputs, error = _torch_model(case)

    if case.inference:
        predict = compiled(outputs)

        def prediction() -> Any:
            with torch.inference_mode():
                return predict(W, b, X)

        return Runner(prediction, lambda a: np.asarray(a.numpy()))

    optimizer = torch.optim.SGD([x for layer in zip(W, b) for x in layer], task.rate, fused=True)
    loss = compiled(error)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(W, b, X, Y).backward()
        optimizer.step()

    return Runner(step, lambda _: flat((w.detach(), c.detach()) for w, c in zip(W, b)))


def _torch_model(case: Case) -> tuple[Model, Model]:
    """The outputs of W, b and X, and E of W, b, X and Y."""
    import torch
    from torch.nn import functional as F

    functions = {
        "logistic": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "identity": lambda z: z,
        "softmax": lambda z: torch.softmax(z, dim=1),
    }
    hidden, last, scale = functions[case.activation], functions[case.output], 0.5 / case.m

    def net(W: Any, b: Any, a: Any) -> Any:
        for w, c in zip(W[:-1], b[:-1]):
            a = hidden(F.linear(a, w, c))
        return F.linear(a, W[-1], b[-1])

    def outputs(W: Any, b: Any, X: Any) -> Any:
        return last(net(W, b, X))

    def error(W: Any, b: Any, X: Any, Y: Any) -> Any:
        if case.loss == "cross_entropy":
            return F.cross_entropy(net(W, b, X), Y)
        return F.mse_loss(outputs(W, b, X), Y, reduction="sum") * scale

    return outputs, error


def jax_jit(task: Task) -> Runner:
    """W is (n_in, n), as JAX's libraries have it."""
    import jax

    case, eta = task.case, task.rate
    if case.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    outputs, error = _jax_model(case)
    here = jax.devices("cpu")[0]
    X, Y = (jax.device_put(x, here) for x in (task.X, task.Y))
    parameters = [
        (jax.device_put(np.ascontiguousarray(W.T), here), jax.device_put(b, here))
        for W, b in task.layers
    ]

    if case.inference:
        predict = jax.jit(outputs)
        return Runner(lambda: predict(parameters, X).block_until_ready(), np.asarray)

    def descend(parameters: Any, X: Any, Y: Any) -> Any:
        gradient = jax.grad(error)(parameters, X, Y)
        return jax.tree.map(lambda w, g: w - eta * g, parameters, gradient)

    compiled = jax.jit(descend, donate_argnums=0)

    def step() -> None:
        nonlocal parameters
        parameters = compiled(parameters, X, Y)
        jax.block_until_ready(parameters)

    return Runner(step, lambda _: flat((np.asarray(W).T, b) for W, b in parameters))


def _jax_model(case: Case) -> tuple[Model, Model]:
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
