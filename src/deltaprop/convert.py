"""Graphs from what others have: arrays of edges, layered nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deltaprop.activations import Activation, activation_named
from deltaprop.arrays import check_count
from deltaprop.blueprint import Blueprint, Name, as_names, as_number
from deltaprop.graph import Graph
from deltaprop.mlp import MLP
from deltaprop.scalar import DTYPES


def from_arrays(
    source: Any,
    target: Any,
    weight: Any = None,
    *,
    inputs: Sequence[int] | int,
    outputs: Sequence[int],
    activation: str | Activation | Mapping[int, str | Activation] = "logistic",
    output: str | Activation = "identity",
    bias: Any = 0.0,
    seed: int = 0,
    dtype: Any = None,
    backend: str | None = None,
) -> Graph:
    """A graph from edges: edge e leads from unit source[e] to unit target[e].

    Parameters
    ----------
    source, target
        (edges,) integers from 0: units are named by numbers.
    weight
        (edges,) numbers; without them they are drawn (Glorot uniform, PCG64(seed)).
    inputs
        The units that are inputs, the columns of X; a number n stands for 0, ..., n - 1.
    outputs
        The units that are outputs, the columns of Y.
    activation
        Of the units that are no outputs; one, or {unit: activation} for those that have another
        than "logistic".
    output
        Activation of the outputs, unless `activation` names theirs.
    bias
        One for all units, None for none, or an array (units,) by number; those of inputs
        are not looked at.
    dtype
        Without one, that of `weight` if it is float32 or float64, else float32.
    """
    ends = [_integers(name, x) for name, x in (("source", source), ("target", target))]
    if ends[0].shape != ends[1].shape:
        raise ValueError(
            f"source and target must be of one length, got {len(ends[0])} and {len(ends[1])}"
        )
    weights = _weights(weight, len(ends[0]))
    if isinstance(inputs, (int, np.integer)):
        inputs = range(check_count("inputs", inputs))
    first, last = as_names("inputs", inputs), as_names("outputs", outputs)
    known = np.unique(np.concatenate([*ends, np.array(last)]))
    others = np.setdiff1d(known, np.array(first))
    names: list[Name] = [*first, *others.tolist()]
    number = np.zeros(int(max(known[-1], *first)) + 1, np.int64)
    number[np.array(names, np.int64)] = np.arange(len(names))
    blueprint = Blueprint(
        len(first),
        last,
        names,
        _activations(others.tolist(), set(last), activation, output),
        _biases(others, bias),
        number[ends[0]],
        number[ends[1]],
        weights.astype(np.float64),
    )
    if dtype is None:
        dtype = weights.dtype if weight is not None and weights.dtype.name in DTYPES else "float32"
    return Graph.from_blueprint(blueprint, seed=seed, dtype=dtype, backend=backend)


def _integers(name: str, x: Any) -> np.ndarray:
    """(edges,) whole numbers from 0."""
    x = np.asarray(x)
    if x.ndim != 1 or x.dtype.kind not in "iu" or not x.size:
        raise TypeError(
            f"{name} must be a list of integers, one for each edge, got {x.dtype} {x.shape}"
        )
    if x.min() < 0:
        raise ValueError(f"{name} must be 0 or more, got {x.min()}")
    numbers: np.ndarray = x.astype(np.int64)
    return numbers


def _weights(weight: Any, edges: int) -> np.ndarray:
    """(edges,) numbers, NaN where one is to be drawn."""
    if weight is None:
        return np.full(edges, np.nan)
    weights: np.ndarray = np.asarray(weight)
    if weights.dtype.kind not in "biuf":
        raise TypeError(f"weight must be numbers, got {weights.dtype}")
    if weights.shape != (edges,):
        raise ValueError(f"weight must have shape ({edges},), one an edge, got {weights.shape}")
    if not np.isfinite(weights).all():
        raise ValueError("weight must be finite")
    return weights


def _activations(
    units: list[int],
    outputs: set[Any],
    activation: str | Activation | Mapping[int, str | Activation],
    output: str | Activation,
) -> list[Activation]:
    given = activation if isinstance(activation, Mapping) else {}
    hidden = activation_named("logistic" if isinstance(activation, Mapping) else activation)
    last = activation_named(output)
    unknown = given.keys() - set(units)
    if unknown:
        raise ValueError(f"activation names units that are not there: {sorted(unknown)[:6]}")
    own = {unit: activation_named(g) for unit, g in given.items()}
    return [own.get(unit, last if unit in outputs else hidden) for unit in units]


def _biases(units: np.ndarray, bias: Any) -> list[float | None]:
    if bias is None:
        return [None] * len(units)
    values = np.asarray(bias)
    if values.ndim == 0:
        return [as_number("bias", values.item())] * len(units)
    if values.ndim != 1 or values.dtype.kind not in "biuf" or len(values) <= units.max():
        raise ValueError(
            f"bias must be one number, or one for each unit 0 to {units.max()}, "
            f"got {values.dtype} {values.shape}"
        )
    return [as_number("bias", x) for x in values[units].tolist()]


def from_layers(net: MLP) -> Graph:
    """The same net as a graph, whose results have the same bits.

    Inputs are x1, x2, ...; unit i of hidden layer l is "h<l>.<i>", outputs are y1, y2, ...;
    all count from 1. The weights come in the order of `net.parameters`, biases after all weights.
    """
    last = len(net.sizes) - 1

    def names(l: int) -> list[Name]:
        letter = {0: "x", last: "y"}.get(l, f"h{l}.")
        return [f"{letter}{i + 1}" for i in range(net.sizes[l])]

    to_numpy = net.kernels.arrays.to_numpy
    layers = [(to_numpy(W), None if b is None else to_numpy(b), g) for W, b, g in net.layers]
    first = np.cumsum([0, *net.sizes])
    source, target = [], []
    for l, (W, _, _) in enumerate(layers):
        j, i = np.indices(W.shape).reshape(2, -1)
        source.append(first[l] + i)
        target.append(first[l + 1] + j)
    blueprint = Blueprint(
        net.sizes[0],
        names(last),
        [name for l in range(last + 1) for name in names(l)],
        [g for W, _, g in layers for _ in W],
        [None if b is None else float(b[j]) for W, b, _ in layers for j in range(len(W))],
        np.concatenate(source),
        np.concatenate(target),
        np.concatenate([W.reshape(-1) for W, _, _ in layers]).astype(np.float64),
    )
    return Graph.from_blueprint(blueprint, dtype=net.dtype, backend=net.backend)
