"""How far a gradient may lie from the exact one: a running error analysis.

For a sum of n products computed in any order, with or without fma, the error is at most
n u (|A||B|), u the unit roundoff (N. Higham, "Accuracy and Stability of Numerical Algorithms",
section 3.5). The bounds below carry such errors through the sweeps: each array x is followed by
dx, a bound on the error of every element, to first order in u. An activation or slope is taken
to be evaluated to within 8 u (1 + |z|).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deltaprop.activations import IDENTITY, Activation
from deltaprop.backends import numpy as blas
from deltaprop.equations import Batch, Gradient, Layer
from deltaprop.losses import Loss
from deltaprop.scalar import Rule

Array = np.ndarray
EVALUATION = 8


def gradient_bounds(
    layers: Sequence[Layer], X: Array, batch: Batch, loss: Loss, u: float
) -> list[Gradient]:
    """A bound on the error of every element of dE/dW and dE/db; all arrays are float64."""
    a, da, z, dz = _forward(layers, X, u)
    g = IDENTITY if loss.link else layers[-1].activation
    weights = np.ones((1, 1)) if batch.weights is None else np.abs(batch.weights)
    c = loss.delta_scale(batch.samples, batch.Y.shape[1]) * weights
    r = np.abs(a[-1] - batch.Y)
    slope, dslope = _evaluate(_slope_at(g), z[-1], dz[-1], u)
    delta = r * c * np.abs(slope)
    ddelta = c * ((da[-1] + 4 * u * r) * np.abs(slope) + r * dslope)

    bounds: list[Gradient] = []
    for l in reversed(range(len(layers))):
        m = len(X)
        size = np.abs(a[l])
        dW = m * u * (delta.T @ size) + ddelta.T @ size + delta.T @ da[l]
        db = np.sum(m * u * delta + ddelta, axis=0)
        bounds.insert(0, Gradient(dW, db if layers[l].b is not None else None))
        if l > 0:
            W = np.abs(layers[l].W)
            slope, dslope = _evaluate(_slope_at(layers[l - 1].activation), z[l], dz[l], u)
            e, de = delta @ W, ((len(W) + 1) * u * delta + ddelta) @ W
            delta, ddelta = e * np.abs(slope), de * np.abs(slope) + e * dslope
    return bounds


def _forward(
    layers: Sequence[Layer], X: Array, u: float
) -> tuple[list[Array], list[Array], list[Array], list[Array]]:
    """a and da, z and dz; z[0] belongs to no layer."""
    a, da, zs, dzs = [X], [np.zeros_like(X)], [X], [np.zeros_like(X)]
    for W, b, g in layers:
        bias = 0.0 if b is None else np.abs(b)
        z = a[-1] @ W.T + (0.0 if b is None else b)
        size = np.abs(a[-1]) @ np.abs(W.T) + bias
        dz = (W.shape[1] + 1) * u * size + da[-1] @ np.abs(W.T)
        if g.rowwise:
            value = blas.softmax(z)
            largest = np.max(dz + EVALUATION * u * (1 + np.abs(z)), axis=1, keepdims=True)
            dvalue = value * (2 * largest + (z.shape[1] + EVALUATION) * u)
        else:
            value, dvalue = _evaluate(_rule(g.value), z, dz, u)
        for array, x in ((a, value), (da, dvalue), (zs, z), (dzs, dz)):
            array.append(x)
    return a, da, zs, dzs


def _rule(f: Rule) -> Callable[[Array], Array]:
    return lambda x: blas.apply(f, x)


def _slope_at(g: Activation) -> Callable[[Array], Array]:
    """g' as a function of z, whatever it is taken from: a ReLU's a is 0 beside its kink."""
    value, slope = _rule(g.value), _rule(g.slope)
    return slope if g.slope_of == "z" else lambda z: slope(value(z))


def _evaluate(f: Callable[[Array], Array], x: Array, dx: Array, u: float) -> tuple[Array, Array]:
    """f(x) and how far it moves while x moves by dx, kinks included."""
    y = f(x)
    spread = np.maximum(np.abs(f(x + dx) - y), np.abs(f(x - dx) - y))
    return y, spread + EVALUATION * u * (1 + np.abs(x))
