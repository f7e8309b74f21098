"""Ensembles for tests, and the same nets one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.check import to_numpy

SIZES, N, M = [3, 5, 2], 3, 65
P = 3 * 5 + 5 + 5 * 2 + 2
WAYS = {"shared": False, "each its own": True}


def ensemble(backend: str, dtype: str = "float32", **options: Any) -> dp.Ensemble:
    """Tanh nets with parameters that are all random, biases too."""
    net = dp.MLP(SIZES, "tanh", dtype=dtype, backend=backend, ensemble=N, **options)
    assert isinstance(net, dp.Ensemble)
    net.parameters[...] = net.kernels.arrays.asarray(sample((N, P), dtype, 7))
    return net


def alone(backend: str, dtype: str = "float32", **options: Any) -> list[dp.MLP]:
    """The members of `ensemble`, made one by one."""
    nets = []
    for row in sample((N, P), dtype, 7):
        net = dp.MLP(SIZES, "tanh", dtype=dtype, backend=backend, **options)
        net.parameters[...] = net.kernels.arrays.asarray(row)
        nets.append(net)
    return nets


def batch(dtype: str, m: int = M, each: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X, Y and sample weights; Y has rows that sum to 1, which goes with any loss."""
    lead = (N,) if each else ()
    Y = np.abs(sample((*lead, m, 2), dtype, 2))
    Y /= Y.sum(axis=-1, keepdims=True)
    return sample((*lead, m, 3), dtype, 1), Y, np.abs(sample((*lead, m), dtype, 3))


def own(x: Any, e: int, ndim: int) -> Any:
    """What member e gets of x, which has that many axes where it is shared."""
    return x if x is None or x.ndim == ndim else x[e]


def assert_same(got: Any, wanted: Any, backend: str) -> None:
    """The same bits; from BLAS, which may sum by how memory is aligned, nearly so."""
    got, wanted = to_numpy(got), to_numpy(wanted)
    if backend != "numpy":
        assert_same_bits(got, wanted)
        return
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=100 * np.finfo(got.dtype).eps)


def assert_as_alone(net: dp.Ensemble, nets: list[dp.MLP], X: Any, Y: Any, w: Any, *options) -> None:
    """Losses and gradients of all members and of each net alone."""
    losses, gradients = net.value_and_grad(X, Y, options[0], w, *options[1:])
    assert type(losses) is np.ndarray
    assert_same(net.loss(X, Y, options[0], w), losses, net.backend)
    wanted_losses, wanted = [], []
    for e, one in enumerate(nets):
        rows = own(Y, e, 1 if Y.dtype.kind == "i" else 2)
        given = own(X, e, 2), rows, options[0], own(w, e, 1)
        loss, gradient = one.value_and_grad(*given, *options[1:])
        wanted_losses.append(loss)
        wanted.append(gradient.flat)
    assert_same(losses, np.array(wanted_losses, net.dtype), net.backend)
    assert_same(gradients.flat, np.stack(wanted), net.backend)
