"""How far a gradient may lie from the exact one: a running error analysis.

For a sum of n products computed in any order, with or without fma, the error is at most
n u (|A||B|), u the unit roundoff (N. Higham, "Accuracy and Stability of Numerical Algorithms",
section 3.5). The bounds below carry such errors through the sweeps: each array x is followed by
dx, a bound on the error of every element, to first order in u. An activation or slope is taken
to be evaluated to within 8 u (1 + |z|).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from deltaprop.activations import IDENTITY, Activation
from deltaprop.backends import numpy as blas
from deltaprop.equations import Batch, Gradient, Layer
from deltaprop.losses import Loss
from deltaprop.scalar import Rule
from deltaprop.units import Wiring

Array = np.ndarray
EVALUATION = 8


def gradient_bounds(
    layers: Sequence[Layer], X: Array, batch: Batch, loss: Loss, u: float
) -> list[Gradient]:
    """A bound on the error of every element of dE/dW and dE/db; all arrays are float64."""
    a, da, z, dz = forward(layers, X, u)
    delta, ddelta = _output_delta(
        layers[-1].activation, batch, loss, (a[-1], da[-1], z[-1], dz[-1]), u
    )
    bounds: list[Gradient] = []
    for l in reversed(range(len(layers))):
        m = len(X)
        size = np.abs(a[l])
        dW = m * u * (delta.T @ size) + ddelta.T @ size + delta.T @ da[l]
        db = np.sum(m * u * delta + ddelta, axis=0)
        bounds.insert(0, Gradient(dW, db if layers[l].b is not None else None))
        if l > 0:
            W = np.abs(layers[l].W)
            e, de = delta @ W, ((len(W) + 1) * u * delta + ddelta) @ W
            delta, ddelta = _times_slope(layers[l - 1].activation, e, de, z[l], dz[l], u)
    return bounds


def _output_delta(
    g: Activation, batch: Batch, loss: Loss, outputs: tuple[Array, ...], u: float
) -> tuple[Array, Array]:
    """|delta| of the outputs and its error, from their a, da, z, dz."""
    a, da, z, dz = outputs
    weights = np.ones((1, 1)) if batch.weights is None else np.abs(batch.weights)
    c = loss.delta_scale(batch.samples, batch.outputs) * weights
    r = np.abs(a - batch.Y)
    return _times_slope(IDENTITY if loss.link else g, r * c, (da + 4 * u * r) * c, z, dz, u)


def _times_slope(
    g: Activation, e: Array, de: Array, z: Array, dz: Array, u: float
) -> tuple[Array, Array]:
    """|e g'(z)| and its error, e >= 0."""
    slope, dslope = evaluate(slope_at(g), z, dz, u)
    return e * np.abs(slope), de * np.abs(slope) + e * dslope


def forward(
    layers: Sequence[Layer], X: Array, u: float
) -> tuple[list[Array], list[Array], list[Array], list[Array]]:
    """a and da, z and dz of every layer; a[0] is X, and so is z[0], which belongs to no layer."""
    a, da, zs, dzs = [X], [np.zeros_like(X)], [X], [np.zeros_like(X)]
    for W, b, g in layers:
        bias = 0.0 if b is None else np.abs(b)
        z = a[-1] @ W.T + (0.0 if b is None else b)
        size = np.abs(a[-1]) @ np.abs(W.T) + bias
        dz = (W.shape[1] + 1) * u * size + da[-1] @ np.abs(W.T)
        value, dvalue = _softmax(z, dz, u) if g.rowwise else evaluate(rule(g.value), z, dz, u)
        for array, x in ((a, value), (da, dvalue), (zs, z), (dzs, dz)):
            array.append(x)
    return a, da, zs, dzs


def _softmax(z: Array, dz: Array, u: float) -> tuple[Array, Array]:
    value = blas.softmax(z)
    largest = np.max(dz + EVALUATION * u * (1 + np.abs(z)), axis=1, keepdims=True)
    return value, value * (2 * largest + (z.shape[1] + EVALUATION) * u)


def rule(f: Rule) -> Callable[[Array], Array]:
    """The function of an array that a rule of one number stands for."""
    return lambda x: blas.apply(f, x)


def slope_at(g: Activation) -> Callable[[Array], Array]:
    """g' as a function of z, whatever it is taken from: a ReLU's a is 0 beside its kink."""
    value, slope = rule(g.value), rule(g.slope)
    return slope if g.slope_of == "z" else lambda z: slope(value(z))


def evaluate(f: Callable[[Array], Array], x: Array, dx: Array, u: float) -> tuple[Array, Array]:
    """f(x) and how far it moves while x moves by dx, kinks included."""
    y = f(x)
    spread = np.maximum(np.abs(f(x + dx) - y), np.abs(f(x - dx) - y))
    return y, spread + EVALUATION * u * (1 + np.abs(x))


def unit_gradient_bounds(
    wiring: Wiring, parameters: Array, X: Array, batch: Batch, loss: Loss, u: float
) -> Array:
    """As `gradient_bounds`, flat, for a graph of units on NumPy's arrays; all are float64."""
    a, da, z, dz = forward_units(wiring, parameters, X, u)
    outputs = unit_outputs(wiring, a, da, z, dz, u)
    delta, ddelta = np.zeros_like(z), np.zeros_like(z)
    for part in reversed(wiring.parts):
        rows, g = part.rows, part.activation
        if part.columns is not None:
            own = tuple(x[:, part.columns] for x in outputs)
            targets = replace(batch, Y=batch.Y[:, part.columns])
            d, dd = _output_delta(g, targets, loss, own, u)
            delta[rows], ddelta[rows] = d.T, dd.T
        if part.outgoing is not None:
            w = np.abs(parameters[part.leaving])
            e = blas.edge_sums(delta, part.outgoing, w)
            de = blas.edge_sums(ddelta, part.outgoing, w) + (part.outgoing.longest + 1) * u * e
            d, dd = _times_slope(g, e, de, z[rows], dz[rows], u)
            delta[rows] += d
            ddelta[rows] += dd + u * delta[rows]

    def gradient(delta: Array, a: Array) -> Array:
        out = np.empty(len(wiring.target))
        blas.edge_gradient(delta, a, wiring.target, wiring.source, out)
        return out

    size = np.abs(a)
    bound: Array = len(X) * u * gradient(delta, size)
    bound += gradient(ddelta, size) + gradient(delta, da)
    return bound


def forward_units(
    wiring: Wiring, parameters: Array, X: Array, u: float
) -> tuple[Array, Array, Array, Array]:
    """a and da, z and dz of every unit; inputs have no z. The last a is the 1 of the biases."""
    a, da = np.ones((wiring.units + 1, len(X))), np.zeros((wiring.units + 1, len(X)))
    z, dz = np.zeros_like(a), np.zeros_like(a)
    a[: wiring.inputs] = X.T
    for part in wiring.parts:
        rows, fan, w = part.rows, part.incoming, parameters[part.weights]
        b = 0.0 if part.biases is None else parameters[part.biases, None]
        z[rows] = blas.edge_sums(a, fan, w) + b
        size = blas.edge_sums(np.abs(a), fan, np.abs(w)) + np.abs(b)
        dz[rows] = (fan.longest + 1) * u * size + blas.edge_sums(da, fan, np.abs(w))
        a[rows], da[rows] = evaluate(rule(part.activation.value), z[rows], dz[rows], u)
    return a, da, z, dz


def unit_outputs(
    wiring: Wiring, a: Array, da: Array, z: Array, dz: Array, u: float
) -> tuple[Array, ...]:
    """a, da, z, dz of the outputs, samples as rows; a softmax takes the whole row."""
    last = [part for part in wiring.parts if part.columns is not None]
    found = tuple(np.empty((a.shape[1], wiring.outputs)) for _ in range(4))
    for part in last:
        for x, rows in zip(found, (a, da, z, dz)):
            x[:, part.columns] = rows[part.rows].T
    if last[0].activation.rowwise:
        return (*_softmax(found[2], found[3], u), *found[2:])
    return found
