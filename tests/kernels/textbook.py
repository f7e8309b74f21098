"""Activations and losses as a textbook has them, with many digits, and no part of deltaprop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

mpmath.mp.dps = 40

EVALUATION = 8
"""A rule is evaluated to within EVALUATION u (1 + |z|): what deltaprop.bounds assumes."""

VALUES: dict[str, Callable[[Any], Any]] = {
    "identity": lambda z: z,
    "logistic": lambda z: 1 / (1 + mpmath.exp(-z)),
    "tanh": mpmath.tanh,
    "relu": lambda z: z if z > 0 else mpmath.mpf(0),
    "leaky_relu": lambda z: z if z > 0 else z / 100,
    "elu": lambda z: z if z > 0 else mpmath.expm1(z),
    "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "gelu": lambda z: z * mpmath.ncdf(z),
    "gelu_tanh": lambda z: (
        z / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + 0.044715 * z**3)))
    ),
    "mish": lambda z: z * mpmath.tanh(mpmath.log1p(mpmath.exp(z))),
    "squareplus": lambda z: (z + mpmath.sqrt(z * z + 4)) / 2,
    "hard_sigmoid": lambda z: min(max((z + 3) / 6, mpmath.mpf(0)), mpmath.mpf(1)),
    "sine": mpmath.sin,
    "softmax": lambda z: z,  # its unit-wise part
}


def value(name: str, z: np.ndarray) -> np.ndarray:
    """g(z), as fractions."""
    return _each(VALUES[name], z)


def slope(name: str, z: np.ndarray) -> np.ndarray:
    """g'(z), differentiated numerically, as fractions."""
    return _each(lambda x: mpmath.diff(VALUES[name], x), z)


def softmax(z: Sequence[Any]) -> list[Any]:
    """One row."""
    e = [mpmath.exp(z_k) for z_k in z]
    return [e_k / mpmath.fsum(e) for e_k in e]


def error(loss: str, a: Sequence[Any], y: Sequence[Any]) -> Any:
    """E of one sample with outputs a and targets y."""
    if loss in ("half_sse", "half_mse"):
        return sum((a_k - y_k) ** 2 for a_k, y_k in zip(a, y)) / 2
    if loss == "mse":
        return sum((a_k - y_k) ** 2 for a_k, y_k in zip(a, y)) / len(a)
    if loss == "cross_entropy":
        return -sum(y_k * mpmath.log(a_k) for a_k, y_k in zip(a, y))
    if loss == "binary_cross_entropy":
        return -sum(
            y_k * mpmath.log(a_k) + (1 - y_k) * mpmath.log(1 - a_k) for a_k, y_k in zip(a, y)
        )
    raise KeyError(f"no textbook formula of the loss {loss!r} here: add it")


def number(x: Any) -> Any:
    """A NumPy number for mpmath."""
    return mpmath.mpf(float(x))


def fraction(x: Any) -> Fraction:
    """A number of mpmath as a fraction, to its 40 digits."""
    return Fraction(mpmath.nstr(x, mpmath.mp.dps))


def _each(f: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: fraction(f(number(v))), otypes=[object])(x)


def trained(optimizer: Any, eta: float, w: np.ndarray, gradients: Sequence[np.ndarray]) -> Any:
    """w after steps of an optimizer, with these gradients, as fractions."""
    name, mpf = type(optimizer).__name__, mpmath.mpf
    h = {
        key: x if isinstance(x, bool) else mpf(x)
        for key, x in optimizer.__dict__.items()
        if key not in ("learning_rate", "clip_norm")
    }
    eta, decay = mpf(eta), h["weight_decay"]
    root = np.vectorize(mpmath.sqrt, otypes=[object])
    w = np.array([number(x) for x in w])
    m, v = 0 * w, 0 * w
    for t, given in enumerate(gradients, start=1):
        g = np.array([number(x) for x in given])
        if name == "AdamW":
            w = w - eta * decay * w
        else:
            g = g + decay * w
        if name == "SGD":
            w = w - eta * g
        elif name == "Momentum":
            v = h["momentum"] * v + g
            w = w - eta * (g + h["momentum"] * v if h["nesterov"] else v)
        elif name == "RMSProp":
            v = h["alpha"] * v + (1 - h["alpha"]) * g**2
            w = w - eta * g / (root(v) + h["eps"])
        elif name in ("Adam", "AdamW"):
            m = h["beta1"] * m + (1 - h["beta1"]) * g
            v = h["beta2"] * v + (1 - h["beta2"]) * g**2
            m_hat, v_hat = m / (1 - h["beta1"] ** t), v / (1 - h["beta2"] ** t)
            w = w - eta * m_hat / (root(v_hat) + h["eps"])
        else:
            raise KeyError(f"no textbook formula of the optimizer {name} here: add it")
    return np.array([fraction(x) for x in w])
