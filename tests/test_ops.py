"""Every op beside its equation in NumPy and float64, on every backend."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest

import deltaprop as dp
from conftest import HERE, INFO, assert_same_bits, sample

M, N, N_IN = 70, 5, 300
ROUNDINGS = 40
"""How many eps a result may be off, for each unit of the size that its terms sum to."""

erf = np.vectorize(math.erf)


def logistic(z):
    return 1 / (1 + np.exp(-z))


def normal_cdf(z):
    return (1 + erf(z / np.sqrt(2))) / 2


def gelu_tanh_slope(z):
    t = np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))
    inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
    return (1 + t + z * (1 - t**2) * inner) / 2


def mish_slope(z):
    t = np.tanh(np.log1p(np.exp(z)))
    return t + z * (1 - t**2) * logistic(z)


EQUATIONS: dict[str, tuple[Callable, Callable]] = {
    "identity": (lambda z: z, np.ones_like),
    "logistic": (logistic, lambda z: logistic(z) * logistic(-z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "leaky_relu": (
        lambda z: np.where(z > 0, z, z / 100),
        lambda z: np.where(z > 0, 1, 0.01),
    ),
    "elu": (
        lambda z: np.where(z > 0, z, np.expm1(z)),
        lambda z: np.where(z > 0, 1, np.exp(z)),
    ),
    "softplus": (lambda z: np.log1p(np.exp(z)), logistic),
    "silu": (
        lambda z: z * logistic(z),
        lambda z: logistic(z) * (1 + z * logistic(-z)),
    ),
    "gelu": (
        lambda z: z * normal_cdf(z),
        lambda z: normal_cdf(z) + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi),
    ),
    "gelu_tanh": (
        lambda z: z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
        gelu_tanh_slope,
    ),
    "mish": (lambda z: z * np.tanh(np.log1p(np.exp(z))), mish_slope),
    "squareplus": (
        lambda z: (z + np.sqrt(z * z + 4)) / 2,
        lambda z: (1 + z / np.sqrt(z * z + 4)) / 2,
    ),
    "hard_sigmoid": (
        lambda z: np.clip(z / 6 + 0.5, 0, 1),
        lambda z: np.where(np.abs(z) < 3, 1 / 6, 0),
    ),
    "sine": (np.sin, np.cos),
}
UNIT_WISE = [name for name, g in dp.ACTIVATIONS.items() if not g.rowwise]
ON_EVERY_BACKEND = ["logistic", "leaky_relu", "gelu"]
CASES = [
    (backend, g)
    for backend in HERE
    for g in UNIT_WISE
    if backend in ("reference", "numpy") or g in ON_EVERY_BACKEND
]


def near(got: np.ndarray, wanted: np.ndarray, size: np.ndarray | float, dtype: str) -> None:
    """A new NumPy array of that dtype, off by a few roundings of terms of that size in sum."""
    assert type(got) is np.ndarray
    assert got.dtype == dtype
    assert got.shape == wanted.shape
    assert got.flags.c_contiguous
    assert got.flags.writeable
    off = np.abs(got.astype(np.float64) - wanted)
    assert np.all(off <= ROUNDINGS * np.finfo(dtype).eps * (size + np.abs(wanted))), off.max()


def draw(dtype: str, *shapes: tuple[int, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Arrays for the op, and the same ones in float64 for the equation."""
    arrays = [sample(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    return arrays, [x.astype(np.float64) for x in arrays]


def test_every_activation_has_its_equation_here() -> None:
    assert sorted(EQUATIONS) == sorted(UNIT_WISE)


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_activate_and_slope(backend: str, dtype: str, name: str) -> None:
    (value, slope), ((z,), (wide,)) = EQUATIONS[name], draw(dtype, (M, N))
    a = dp.ops.activate(z, name, backend=backend)
    near(a, value(wide), 1, dtype)
    s = {"a": a, "z": z}[dp.ACTIVATIONS[name].slope_of]
    near(dp.ops.slope(s, name, backend=backend), slope(wide), 1, dtype)


def test_arrays_of_any_shape_are_activated(backend: str, dtype: str) -> None:
    z = sample((2, 3, 4), dtype)
    wanted = dp.ops.activate(z.reshape(1, 24), "logistic", backend=backend)
    for shape in [(24,), (2, 3, 4), (1, 24, 1)]:
        a = dp.ops.activate(z.reshape(shape), "logistic", backend=backend)
        assert_same_bits(a, wanted.reshape(shape))
    alone = dp.ops.activate(np.array(z[0, 0, 0]), "logistic", backend=backend)
    assert alone.shape == ()
    assert alone == wanted[0, 0]


def test_dense_forward(backend: str, dtype: str) -> None:
    (a_in, W, b), (A, V, c) = draw(dtype, (M, N_IN), (N, N_IN), (N,))
    size = np.abs(A) @ np.abs(V).T + np.abs(c)
    z, a = dp.ops.dense_forward(a_in, W, b, "logistic", backend=backend)
    near(z, A @ V.T + c, size, dtype)
    near(a, logistic(A @ V.T + c), size, dtype)
    z, a = dp.ops.dense_forward(a_in, W, backend=backend)
    near(z, A @ V.T, size, dtype)
    assert_same_bits(a, z)
    assert not np.shares_memory(a, z)


def test_softmax_and_its_logarithm(backend: str, dtype: str) -> None:
    (z,), (wide,) = draw(dtype, (M, N_IN))
    p = np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)
    near(dp.ops.softmax(z, backend=backend), p, p * np.abs(wide), dtype)
    near(dp.ops.log_softmax(z, backend=backend), np.log(p), 1, dtype)


def test_sample_loss(backend: str, dtype: str) -> None:
    (s, Y), (S, T) = draw(dtype, (M, N), (M, N))
    e = dp.ops.sample_loss(s, Y, "half_mse", backend=backend)
    near(e, ((S - T) ** 2).sum(axis=1), 0, dtype)
    Y, T = np.abs(Y), np.abs(T)
    wanted = -(T * np.log(logistic(S)) + (1 - T) * np.log(logistic(-S))).sum(axis=1)
    e = dp.ops.sample_loss(s, Y, "binary_cross_entropy", backend=backend)
    near(e, wanted, (np.abs(S) * (1 + T)).sum(axis=1), dtype)
    log_p = dp.ops.log_softmax(s, backend=backend)
    e = dp.ops.sample_loss(log_p, Y, "cross_entropy", backend=backend)
    near(e, -(T * log_p.astype(np.float64)).sum(axis=1), 0, dtype)


def test_output_delta(backend: str, dtype: str) -> None:
    (a, Y, z, w), (A, T, Z, V) = draw(dtype, (M, N), (M, N), (M, N), (M,))
    size = np.abs(A) + np.abs(T)
    near(dp.ops.output_delta(a, Y, backend=backend), (A - T) / M, size / M, dtype)
    got = dp.ops.output_delta(a, Y, "half_sse", "gelu", z, w, backend=backend)
    slope = EQUATIONS["gelu"][1](Z)
    wanted = (A - T) * V[:, None] * slope
    near(got, wanted, size * np.abs(V[:, None]), dtype)
    got = dp.ops.output_delta(a, Y, "cross_entropy", "softmax", sample_weight=w, backend=backend)
    near(got, (A - T) * V[:, None] / M, size * np.abs(V[:, None]) / M, dtype)


def test_fused_delta(backend: str, dtype: str) -> None:
    (d, z), (D, Z) = draw(dtype, (M, N), (M, N))
    a = dp.ops.activate(z, "logistic", backend=backend)
    for s, name in ((a, "logistic"), (z, "gelu")):
        delta, db = dp.ops.fused_delta(d, s, name, backend=backend)
        wanted = D * EQUATIONS[name][1](Z)
        near(delta, wanted, np.abs(D), dtype)
        near(db, wanted.sum(axis=0), np.abs(D).sum(axis=0), dtype)


def test_softmax_delta(backend: str, dtype: str) -> None:
    (z, u), (_, U) = draw(dtype, (M, N), (M, N))
    a = dp.ops.softmax(z, backend=backend)
    A = a.astype(np.float64)
    size = A * (np.abs(U) + (A * np.abs(U)).sum(axis=1, keepdims=True))
    wanted = A * (U - (A * U).sum(axis=1, keepdims=True))
    near(dp.ops.softmax_delta(a, u, backend=backend), wanted, size, dtype)


def test_hidden_delta_and_input_gradient(backend: str, dtype: str) -> None:
    (delta, W, z), (D, V, Z) = draw(dtype, (M, N_IN), (N_IN, N), (M, N))
    size = np.abs(D) @ np.abs(V)
    a = dp.ops.activate(z, "logistic", backend=backend)
    got = dp.ops.hidden_delta(delta, W, a, backend=backend)
    near(got, (D @ V) * EQUATIONS["logistic"][1](Z), size, dtype)
    got = dp.ops.hidden_delta(delta, W, z, "gelu", backend=backend)
    near(got, (D @ V) * EQUATIONS["gelu"][1](Z), size, dtype)
    near(dp.ops.input_gradient(delta, W, backend=backend), D @ V, size, dtype)


def test_weight_and_bias_gradient(backend: str, dtype: str) -> None:
    (delta, a_in), (D, A) = draw(dtype, (M, N), (M, N_IN))
    got = dp.ops.weight_gradient(delta, a_in, backend=backend)
    near(got, D.T @ A, np.abs(D).T @ np.abs(A), dtype)
    near(dp.ops.bias_gradient(delta, backend=backend), D.sum(axis=0), np.abs(D).sum(axis=0), dtype)


def test_descend(backend: str, dtype: str) -> None:
    (w, g), (W, G) = draw(dtype, (3, N, 4), (3, N, 4))
    got = dp.ops.descend(w, g, 0.3, backend=backend)
    near(got, W - 0.3 * G, np.abs(W) + np.abs(G), dtype)
    assert_same_bits(dp.ops.descend(w, g, 0, backend=backend), w)
    assert_same_bits(w, sample((3, N, 4), dtype, 0), "w was changed")


def test_ops_are_the_equations_of_a_net(backend: str, dtype: str) -> None:
    net = dp.MLP([N, 4, 3], "logistic", "softmax", dtype=dtype, backend="reference")
    X, Y = sample((M, N), dtype), np.eye(3, dtype=dtype)[np.arange(M) % 3]
    (W, b, g), (V, c, _) = net.layers
    on = {"backend": backend}
    _, a = dp.ops.dense_forward(X, W, b, g, **on)
    z, _ = dp.ops.dense_forward(a, V, c, **on)
    delta = dp.ops.output_delta(dp.ops.softmax(z, **on), Y, "cross_entropy", "softmax", **on)
    below = dp.ops.hidden_delta(delta, V, a, g, **on)
    _, gradients = net.to(backend).value_and_grad(X, Y)
    assert_same_bits(dp.ops.weight_gradient(delta, a, **on), gradients[1].W)
    assert_same_bits(dp.ops.bias_gradient(delta, **on), gradients[1].b)
    assert_same_bits(dp.ops.weight_gradient(below, X, **on), gradients[0].W)
    assert_same_bits(dp.ops.bias_gradient(below, **on), gradients[0].b)
    fused = dp.ops.fused_delta(dp.ops.input_gradient(delta, V, **on), a, g, **on)
    assert_same_bits(fused[0], below)
    assert_same_bits(fused[1], gradients[0].b)
    if INFO[backend].exact:
        assert_same_bits(gradients.flat, net.value_and_grad(X, Y)[1].flat)


def test_every_op_names_its_backend_last() -> None:
    for name in dp.ops.__all__:
        *_, last = inspect.signature(getattr(dp.ops, name)).parameters.values()
        assert (last.name, last.default) == ("backend", None), name
