"""Backpropagation unit by unit as somebody derives it by hand, with places for mistakes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

import deltaprop as dp
from by_hand import IN_A, SLOPES, VALUES, delta_scale
from conftest import sample
from tasks import targets

Gradients = dict[Any, np.ndarray]
"""By edge (source, target) and by unit, for its bias."""

Batch = tuple[np.ndarray, np.ndarray, str]


@dataclass(frozen=True)
class Slips:
    """What goes wrong, in the units named; `left_out` are edges that no error comes back by."""

    no_slope: Collection[str] = ()
    slope_at_a: Collection[str] = ()
    formula_at_z: Collection[str] = ()
    a_for_slope: Collection[str] = ()
    left_out: Collection[tuple[str, str]] = ()
    no_own: Collection[str] = ()
    no_weight: Collection[str] = ()
    link_slope: Collection[str] = ()
    link_jacobian: bool = False
    no_sample_weights: bool = False
    no_bias: bool = False
    z_for_a: bool = False
    factor: float = 1


def outputs(g: dp.Graph) -> list[str]:
    return [str(g.topology.names[i]) for i in g.topology.outputs]


def activations(g: dp.Graph) -> dict[str, str]:
    names = g.topology.names[g.inputs :]
    return {str(name): f.name for name, f in zip(names, g.topology.activations)}


def edges(g: dp.Graph) -> list[tuple[str, str]]:
    t = g.topology
    return [(str(t.names[i]), str(t.names[j])) for i, j in zip(t.source, t.target)]


def biased(g: dp.Graph) -> list[str]:
    names = g.topology.names[g.inputs :]
    return [str(name) for name, has in zip(names, g.topology.biased) if has]


def in_order(g: dp.Graph) -> list[str]:
    """Every unit after the units that lead to it."""
    waiting, done = list(activations(g)), set(map(str, g.topology.names[: g.inputs]))
    found = []
    while waiting:
        ready = [u for u in waiting if all(i in done for i, j in edges(g) if j == u)]
        found += ready
        done |= set(ready)
        waiting = [u for u in waiting if u not in done]
    return found


def slope(kind: str, unit: str, z: Any, a: Any, slips: Slips) -> Any:
    if unit in slips.no_slope:
        return np.ones_like(z)
    if unit in slips.slope_at_a:
        return SLOPES[kind](a)
    if unit in slips.formula_at_z:
        return IN_A[kind](z)
    return a if unit in slips.a_for_slope else SLOPES[kind](z)


def gradients(g: dp.Graph, X: Any, Y: Any, loss: str, w: Any = None, **slip: Any) -> Gradients:
    """dE/dw of every edge and bias in the dtype of the graph, with the slips."""
    slips, kind, last = Slips(**slip), activations(g), outputs(g)
    with_bias = [] if slips.no_bias else biased(g)
    z = {str(name): X[:, i] for i, name in enumerate(g.topology.names[: g.inputs])}
    a = dict(z)
    order = in_order(g)
    for u in order:
        terms = [a[i] * g.dtype.type(g[i, j]) for i, j in edges(g) if j == u]
        z[u] = sum(terms) + g.dtype.type(g[u] if u in with_bias else 0)
        a[u] = z[u] if kind[u] == "softmax" else VALUES[kind[u]](z[u])
    if kind[last[0]] == "softmax":
        p = VALUES["softmax"](np.stack([z[u] for u in last], axis=1))
        a |= dict(zip(last, p.T))
    error = (np.stack([a[u] for u in last], 1) - Y) * g.dtype.type(
        slips.factor * delta_scale(loss, *Y.shape)
    )
    if w is not None and not slips.no_sample_weights:
        error = error * w[:, None]
    if slips.link_jacobian:
        p = np.stack([a[u] for u in last], axis=1)
        error = p * (error - (p * error).sum(axis=1, keepdims=True))
    delta: dict[str, Any] = {}
    for u in reversed(order):
        delta[u] = np.zeros_like(z[u])
        if u in last and u not in slips.no_own:
            own = error[:, last.index(u)]
            if dp.LOSSES[loss].link:
                delta[u] = own * (a[u] * (1 - a[u]) if u in slips.link_slope else 1)
            else:
                delta[u] = own * slope(kind[u], u, z[u], a[u], slips)
        for i, j in edges(g):
            if i == u and (i, j) not in slips.left_out:
                c = g.dtype.type(1 if u in slips.no_weight else g[i, j])
                delta[u] = delta[u] + c * delta[j] * slope(kind[u], u, z[u], a[u], slips)
    arriving = z if slips.z_for_a else a
    found: Gradients = {(i, j): delta[j] @ arriving[i] for i, j in edges(g)}
    return found | {u: delta[u].sum() for u in biased(g)}


def name(key: Any) -> str:
    return f"{key[0]} -> {key[1]}" if isinstance(key, tuple) else f"bias of {key}"


# ------------------------------------------------------------------------------------ graphs


def fork(activation: str, loss: str, dtype: str = "float64", ways: int = 2, m: int = 7) -> Any:
    """x1, x2 -> k -> h -> y1, y2, ...; x1 also past them. And (X, Y, loss)."""
    last = [f"y{i + 1}" for i in range(ways)]
    g = dp.Graph(["x1", "x2"], last, dtype=dtype, backend="reference", seed=1)
    g.unit("k", activation, bias=0.25)
    g.unit("h", activation, bias=-0.5)
    for i, y in enumerate(last):
        g.unit(y, dp.LOSSES[loss].link or activation, bias=None if i == 1 else 0.125)
        g.edge("h", y, 0.75 - 0.5 * i)
    for edge, weight in ((("x1", "k"), 0.5), (("x2", "k"), -1.5), (("k", "h"), 1.25)):
        g.edge(*edge, weight)
    g.edge("x1", "y1", 0.375)
    return g, (sample((m, 2), dtype, 3), targets(loss, m, ways, dtype, 4), loss)


def leading_on(loss: str, dtype: str = "float64") -> Any:
    """x -> h -> y1 -> y2, both outputs: y1 has an error of its own and one from y2."""
    kind = dp.LOSSES[loss].link or "tanh"
    g = dp.Graph(["x"], ["y1", "y2"], dtype=dtype, backend="reference")
    for unit, f in (("h", "logistic"), ("y1", kind), ("y2", kind)):
        g.unit(unit, f, bias=0.25)
    for i, j, weight in (("x", "h", 0.5), ("h", "y1", -1.25), ("y1", "y2", 0.75), ("h", "y2", 2.0)):
        g.edge(i, j, weight)
    return g, (sample((7, 1), dtype, 5), targets(loss, 7, 2, dtype, 6), loss)
