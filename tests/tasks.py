"""Nets with a batch for them, and backends with a wrong kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import sample
from deltaprop.backends import load
from values import frozen

UNITWISE = [name for name, g in dp.ACTIVATIONS.items() if not g.rowwise]


LOSSES = list(dp.LOSSES)


def dtype_in_turn(*turns: int) -> str:
    """Of what is counted here, any combination that leaves one out is met by both dtypes."""
    return ("float32", "float64")[sum(turns) % 2]


def targets(loss: str, m: int, n: int, dtype: str, seed: int) -> np.ndarray:
    Y = np.abs(sample((m, n), "float64", seed))
    if dp.LOSSES[loss].link == "softmax":
        Y = Y / Y.sum(axis=1, keepdims=True)
    return frozen(Y / (1 + Y) if dp.LOSSES[loss].link == "logistic" else Y, dtype)


def task(
    sizes: tuple[int, ...],
    activation: str | tuple[str, ...],
    loss: str,
    m: int,
    *,
    output: str | None = None,
    bias: bool = True,
    dtype: str = "float64",
    seed: int = 0,
) -> tuple[dp.MLP, tuple[np.ndarray, np.ndarray, str]]:
    """A net on the reference, biases not 0, and (X, Y, loss) for it."""
    output = dp.LOSSES[loss].link or output or activation
    net = dp.MLP(sizes, activation, output, bias=bias, seed=seed, dtype=dtype, backend="reference")
    for layer in net.layers:
        if bias:
            layer.b[...] = sample(layer.b.shape, dtype, seed + 1) / 2
    X = sample((m, sizes[0]), dtype, seed + 2)
    return net, (X, targets(loss, m, sizes[-1], dtype, seed + 3), loss)


def use(patch: pytest.MonkeyPatch, backend: str, **kernels: Any) -> None:
    """From now on, nets on that backend have these kernels in place of its own."""
    wrong = replace(load(backend), sweeps=None, **kernels)
    for module in ("mlp", "graph"):
        patch.setattr(
            f"deltaprop.{module}.load_backend",
            lambda name=None, work=0: wrong if name == backend else load(name, work),
        )
