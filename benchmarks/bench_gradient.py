"""Whole gradients, on every backend here and by PyTorch and JAX where they are installed.

The nets are those of `deltaprop bench`: logistic units, float32, half_mse. A rival's gradient
is checked within the same error bound as the numpy backend's.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import HERE
from deltaprop.bench import NETS, SLOW, batch_for, operations
from deltaprop.check import error_bounds

RIVALS = [name for name in ("torch", "jax") if importlib.util.find_spec(name)]


def ours(name: str, net: dp.MLP, X: np.ndarray, Y: np.ndarray) -> Callable[[], Any]:
    here = net.to(name)
    return lambda: here.value_and_grad(X, Y)[1].flat


def by_torch(net: dp.MLP, X: np.ndarray, Y: np.ndarray) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    modules: list[Any] = []
    for W, b, _ in net.layers:
        linear = torch.nn.Linear(W.shape[1], W.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W))
            linear.bias.copy_(torch.from_numpy(b))
        modules += [linear, torch.nn.Sigmoid()]
    model, x, y = torch.nn.Sequential(*modules), torch.from_numpy(X), torch.from_numpy(Y)

    def gradient() -> np.ndarray:
        model.zero_grad(set_to_none=True)
        (((model(x) - y) ** 2).sum() / (2 * len(x))).backward()
        return np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])

    return gradient


def by_jax(net: dp.MLP, X: np.ndarray, Y: np.ndarray) -> Callable[[], Any]:
    import jax

    def loss(layers: Any, x: Any, y: Any) -> Any:
        for W, b in layers:
            x = jax.nn.sigmoid(x @ W.T + b)
        return ((x - y) ** 2).sum() / (2 * len(x))

    layers = [(jax.numpy.asarray(W), jax.numpy.asarray(b)) for W, b, _ in net.layers]
    x, y, step = jax.numpy.asarray(X), jax.numpy.asarray(Y), jax.jit(jax.grad(loss))

    def gradient() -> np.ndarray:
        return np.concatenate([np.asarray(g).ravel() for pair in step(layers, x, y) for g in pair])

    return gradient


@pytest.mark.parametrize("name", HERE + RIVALS)
@pytest.mark.parametrize("sizes, m", NETS, ids=lambda x: str(x).replace(" ", ""))
def bench_gradient(benchmark: Any, sizes: tuple[int, ...], m: int, name: str) -> None:
    work = operations(sizes, m)
    if work > SLOW.get(name, work):
        pytest.skip(f"{name} is made to be read, not for nets of this size")
    net, X, Y = batch_for(sizes, m, "float32")
    rivals = {"torch": by_torch, "jax": by_jax}
    gradient = rivals[name](net, X, Y) if name in rivals else ours(name, net, X, Y)

    wide = net.to("numpy", "float64")
    wanted = wide.value_and_grad(X.astype(float), Y.astype(float))[1].flat
    got = dp.check.to_numpy(gradient())
    bounds = error_bounds(net, X, Y, "half_mse", None)
    difference = np.abs(got - wanted)
    assert np.all(difference <= bounds.flat), name

    benchmark.group = f"{'-'.join(map(str, sizes))}, batch {m}"
    benchmark(gradient)
    benchmark.extra_info["largest difference from float64"] = float(difference.max())
    if benchmark.stats is not None:
        benchmark.extra_info["GFLOP/s"] = work / benchmark.stats.stats.median / 1e9
