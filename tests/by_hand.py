"""Backpropagation as somebody derives it by hand: loops and NumPy, with places for mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

import deltaprop as dp
from conftest import sample

Pairs = list[tuple[np.ndarray, np.ndarray | None]]
SIZES = {1: (3, 2), 2: (3, 4, 2), 3: (3, 4, 4, 2), 4: (3, 4, 4, 5, 2)}

ROOT = math.sqrt(2 / math.pi)


def s(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def phi(z: Any) -> Any:
    return np.exp(-z * z / 2) / z.dtype.type(math.sqrt(2 * math.pi))


def Phi(z: Any) -> Any:
    return np.vectorize(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2)(z).astype(z.dtype)


def mish_slope(z: Any) -> Any:
    t = np.tanh(np.log(1 + np.exp(z)))
    return t + z * (1 - t * t) * s(z)


def gelu_tanh_slope(z: Any) -> Any:
    t, k = np.tanh(ROOT * (z + 0.044715 * z**3)), ROOT * (1 + 3 * 0.044715 * z**2)
    return (1 + t) / 2 + z / 2 * (1 - t * t) * k


VALUES: dict[str, Callable[[Any], Any]] = {
    "identity": lambda z: z,
    "logistic": s,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, z * z.dtype.type(0.01)),
    "elu": lambda z: np.where(z > 0, z, np.exp(z) - 1),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "silu": lambda z: z * s(z),
    "gelu": lambda z: z * Phi(z),
    "gelu_tanh": lambda z: z / 2 * (1 + np.tanh(ROOT * (z + 0.044715 * z**3))),
    "mish": lambda z: z * np.tanh(np.log(1 + np.exp(z))),
    "squareplus": lambda z: (z + np.sqrt(z * z + 4)) / 2,
    "hard_sigmoid": lambda z: np.clip(z / 6 + z.dtype.type(0.5), 0, 1),
    "sine": np.sin,
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}

# As functions of z, and where textbooks write them so, as functions of a.
SLOPES: dict[str, Callable[[Any], Any]] = {
    "identity": np.ones_like,
    "logistic": lambda z: s(z) * (1 - s(z)),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: (z > 0).astype(z.dtype),
    "leaky_relu": lambda z: np.where(z > 0, 1, 0.01).astype(z.dtype),
    "elu": lambda z: np.where(z > 0, 1, np.exp(z)),
    "softplus": s,
    "silu": lambda z: s(z) * (1 + z * (1 - s(z))),
    "gelu": lambda z: Phi(z) + z * phi(z),
    "gelu_tanh": gelu_tanh_slope,
    "mish": mish_slope,
    "squareplus": lambda z: (1 + z / np.sqrt(z * z + 4)) / 2,
    "hard_sigmoid": lambda z: np.where(np.abs(z) < 3, 1 / 6, 0).astype(z.dtype),
    "sine": np.cos,
}
IN_A: dict[str, Callable[[Any], Any]] = {
    "logistic": lambda a: a * (1 - a),
    "tanh": lambda a: 1 - a * a,
    "elu": lambda a: np.where(a > 0, 1, a + 1),
}


@dataclass(frozen=True)
class Slips:
    """What goes wrong, in the layers named."""

    no_slope: Collection[int] = ()
    slope_at_a: Collection[int] = ()
    formula_at_z: Collection[int] = ()
    a_for_slope: Collection[int] = ()
    link_slope: bool = False
    link_jacobian: bool = False
    W_transposed: Collection[int] = ()
    no_W: Collection[int] = ()
    eta: float = 0
    factor: float = 1
    no_weights: bool = False
    no_bias: bool = False
    z_for_a: Collection[int] = ()


def delta_scale(loss: str, m: int, n: int) -> float:
    return {"half_sse": 1.0, "mse": 2 / (m * n)}.get(loss, 1 / m)


def slope(name: str, z: Any, a: Any, l: int, slips: Slips) -> Any:
    if l in slips.no_slope:
        return np.ones_like(z)
    if l in slips.slope_at_a:
        return SLOPES[name](a)
    if l in slips.formula_at_z:
        return IN_A[name](z)
    return a if l in slips.a_for_slope else SLOPES[name](z)


def gradients(net: dp.MLP, X: Any, Y: Any, loss: str, w: Any = None, **slips: Any) -> Pairs:
    """[(dW, db), ...] in the dtype of the net, with the slips."""
    slip = Slips(**slips)
    names = [g.name for g in net.activations]
    W, b = [layer.W for layer in net.layers], [layer.b for layer in net.layers]
    top = len(W) - 1
    z, a = [X], [X]
    for l, name in enumerate(names):
        z.append(a[l] @ W[l].T + (0 if b[l] is None or slip.no_bias else b[l]))
        a.append(VALUES[name](z[-1]))
    delta = (a[-1] - Y) * net.dtype.type(slip.factor * delta_scale(loss, *Y.shape))
    if w is not None and not slip.no_weights:
        delta = delta * w[:, None]
    if not dp.LOSSES[loss].link:
        delta = delta * slope(names[top], z[-1], a[-1], top, slip)
    if slip.link_slope:
        delta = delta * a[-1] * (1 - a[-1])
    if slip.link_jacobian:
        delta = np.stack([(np.diag(p) - np.outer(p, p)) @ d for p, d in zip(a[-1], delta)])
    found: Pairs = []
    for l in reversed(range(top + 1)):
        dW = delta.T @ (z if l in slip.z_for_a else a)[l]
        found.insert(0, (dW, None if b[l] is None else delta.sum(axis=0)))
        if l > 0:
            V = W[l] - net.dtype.type(slip.eta) * dW
            V = V.T if l - 1 in slip.W_transposed else V
            delta = delta if l - 1 in slip.no_W else delta @ V
            delta = delta * slope(names[l - 1], z[l], a[l], l - 1, slip)
    return found


def scaled(pairs: Pairs, c: float) -> Pairs:
    return [(W * W.dtype.type(c), None if b is None else b * b.dtype.type(c)) for W, b in pairs]


def named(pairs: Pairs) -> dict[str, np.ndarray]:
    return {
        f"{l}.{kind}": x
        for l, pair in enumerate(pairs)
        for kind, x in zip("Wb", pair)
        if x is not None
    }


def positive(m: int, dtype: str) -> np.ndarray:
    return np.abs(sample(m, dtype, 9)) + np.ones(1, dtype)
