"""The step by PyTorch, in the ways that are known to be fast; tensors are made beforehand.

Functions of bare tensors, autograd, `torch.optim.SGD` in its fused form, which is the fastest of
its three. Compiled: the loss and its gradient as one graph, the same optimiser. On a GPU products
are tuned, mode "max-autotune", which replays CUDA graphs of the two sweeps; and a whole step,
eager or compiled, is captured as one CUDA graph of its own, which leaves nothing to the host but to
launch it. float32 products are float32's there, not TF32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from deltaprop.peers.by_hand import Runner, flat
from deltaprop.peers.case import Case, Task

Model = Callable[..., Any]

WARM_UP = 3
"""Calls on a GPU before the first that counts: they compile, tune, record graphs, replay them."""
MODES = {"cpu": None, "cuda": "max-autotune"}


def pytorch(task: Task) -> Runner:
    return _runner(task, _as_it_is, _as_it_is)


def torch_graph(task: Task) -> Runner:
    """What `pytorch` does, as one CUDA graph."""
    return _runner(task, _as_it_is, _captured)


def torch_compile(task: Task) -> Runner:
    """Compiled anew for these sizes; one part that cannot be compiled is an error."""
    import torch

    # What was compiled for other sizes counts towards a limit, beyond which nothing is compiled.
    torch._dynamo.reset()
    device = task.case.device
    return _runner(task, _compiler(MODES[device]), _as_it_is if device == "cpu" else _warm)


def compiled_graph(task: Task) -> Runner:
    """What `torch_compile` does, as one CUDA graph."""
    return _runner(task, _compiler("max-autotune-no-cudagraphs"), _captured)


def _as_it_is(f: Model) -> Model:
    return f


def _compiler(mode: str | None) -> Callable[[Model], Model]:
    import torch

    return partial(torch.compile, dynamic=False, fullgraph=True, mode=mode)


def _warm(call: Model) -> Model:
    for _ in range(WARM_UP):
        call()
    return call


def _captured(call: Model) -> Model:
    """What a call launches, as one CUDA graph; its result is always in the same memory.

    First some calls on a stream that is not the default one, as PyTorch's notes on graphs ask for.
    """
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        _warm(call)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def _runner(
    task: Task, compiled: Callable[[Model], Model], prepared: Callable[[Model], Model]
) -> Runner:
    """`prepared` may call the step: the parameters are then what they were before."""
    import torch

    case, device = task.case, task.case.device
    torch.set_float32_matmul_precision("highest")
    W, b = (
        [torch.from_numpy(x).to(device).requires_grad_() for x in xs] for xs in zip(*task.layers)
    )
    X = torch.from_numpy(task.X).to(device)
    Y = torch.from_numpy(task.labels if case.loss == "cross_entropy" else task.Y).to(device)
    parameters = [x for layer in zip(W, b) for x in layer]
    if device == "cuda" and compiled is not _as_it_is:
        for x in (*parameters, X, Y):
            torch._dynamo.mark_static_address(x)  # a graph that is replayed need not copy it
    outputs, error = _model(case)
    finish = torch.cuda.synchronize if device == "cuda" else lambda: None

    if case.inference:
        predict = compiled(outputs)
        no_gradients = torch.inference_mode if device == "cpu" else torch.no_grad

        def prediction() -> Any:
            with no_gradients():
                return predict(W, b, X)

        return Runner(prepared(prediction), lambda a: np.asarray(a.cpu().numpy()), finish)

    optimizer = torch.optim.SGD(parameters, task.rate, fused=True)
    loss = compiled(error)

    def step() -> None:
        loss(W, b, X, Y).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    before = [x.detach().clone() for x in parameters]
    run = prepared(step)
    with torch.no_grad():
        for x, old in zip(parameters, before):
            x.copy_(old)
    return Runner(
        run, lambda _: flat((w.detach().cpu(), c.detach().cpu()) for w, c in zip(W, b)), finish
    )


def _model(case: Case) -> tuple[Model, Model]:
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
