"""Nets and batches for tests with arrays of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import deltaprop as dp
from conftest import assert_same_bits, sample
from foreign import CPU, Tensor
from graphs import two_paths

M = 130


def layers() -> dp.MLP:
    return dp.MLP([2, 5, 3], "tanh", "softmax", dtype="float64", backend="cpu", seed=1)


def members() -> dp.MLP:
    return dp.MLP([2, 5, 3], "gelu", dtype="float64", backend="cpu", ensemble=2)


def graph() -> dp.Graph:
    return two_paths().to("cpu")


NETS = {"MLP": layers, "ensemble": members, "graph": graph}


def batch_of(net: Any, dtype: str = "float64") -> tuple[np.ndarray, ...]:
    """X, Y and sample weights."""
    Y = np.abs(sample((M, net.outputs), dtype, 2))
    return sample((M, 2), dtype, 1), Y / Y.sum(axis=1, keepdims=True), np.abs(sample(M, dtype))


def tensors(*arrays: np.ndarray, place: tuple[int, int] = CPU) -> list[Tensor]:
    return [Tensor(x, place) for x in arrays]


def assert_like(got: Any, wanted: Any) -> None:
    """A tensor with those bits; a number where NumPy's arrays give one."""
    if isinstance(wanted, float):
        assert type(got) is float and got == wanted
    else:
        assert type(got) is Tensor
        assert_same_bits(got.memory, wanted)


def addresses(net: Any, call: Callable[[], Any]) -> list[int]:
    """Where the arrays are that the net's sweep is given, and the gradient it returns."""
    sweep, seen = net._sweep, []

    def watched(X: Any, batch: Any, loss: Any) -> Any:
        error, gradient = sweep(X, batch, loss)
        arrays = X, batch.Y, batch.weights, gradient
        seen.extend(getattr(x, "memory", x).ctypes.data for x in arrays)
        return error, gradient

    net._sweep = watched
    call()
    del net._sweep
    return seen
