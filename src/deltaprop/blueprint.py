"""A graph as it is declared, unit by unit and edge by edge, before it computes anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deltaprop.activations import Activation
from deltaprop.errors import GraphError, nearest
from deltaprop.topology import Integers, Topology, listed

Name = str | int
"""What a unit may be called."""


def as_name(name: Any) -> Name:
    """A unit's name, or TypeError."""
    if isinstance(name, str) and name:
        return name
    if isinstance(name, (int, np.integer)) and not isinstance(name, bool):
        return int(name)
    raise TypeError(f"a unit is named by a str or an int, got {name!r}")


def as_names(what: str, names: Any) -> list[Name]:
    """Names that are given together: none twice, at least one."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f"{what} must list the names of units, got {names!r}")
    found = [as_name(name) for name in names]
    if not found:
        raise ValueError(f"{what} must name at least one unit")
    if len(set(found)) < len(found):
        twice = [name for name in dict.fromkeys(found) if found.count(name) > 1]
        raise ValueError(f"{what} names {listed(twice)} more than once")
    return found


def as_number(what: str, value: Any) -> float:
    """A finite number, or an error."""
    if not isinstance(value, (int, float, np.floating, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{what} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{what} must be finite, got {value}")
    return float(value)


@dataclass
class Blueprint:
    """Units and edges in the order of their declaration, inputs first.

    A bias of None means that the unit has none; a weight of NaN is to be drawn.
    """

    inputs: int
    outputs: list[Name]
    names: list[Name]
    activations: list[Activation] = field(default_factory=list)
    biases: list[float | None] = field(default_factory=list)
    source: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    target: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    weight: np.ndarray = field(default_factory=lambda: np.empty(0))
    _added: dict[tuple[int, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.number = {name: i for i, name in enumerate(self.names)}

    def copy(self) -> Blueprint:
        """Another one, to which other units may be added."""
        arrays = self.source.copy(), self.target.copy(), self.weight.copy(), self._added.copy()
        lists = self.outputs, self.names.copy(), self.activations.copy(), self.biases.copy()
        return Blueprint(self.inputs, *lists, *arrays)

    @property
    def edges(self) -> int:
        """How many edges there are."""
        return len(self.source) + len(self._added)

    def unit(self, name: Any, g: Activation, bias: Any) -> None:
        """Declares a unit."""
        name = as_name(name)
        if name in self.number:
            kind = "an input" if self.number[name] < self.inputs else "a unit"
            raise GraphError(f"there is {kind} named {name!r} already")
        value = None if bias is None else as_number(f"the bias of unit {name!r}", bias)
        self.number[name] = len(self.names)
        self.names.append(name)
        self.activations.append(g)
        self.biases.append(value)

    def edge(self, source: Any, target: Any, weight: Any) -> None:
        """Declares an edge between units that are there."""
        ends = self._unit(source), self._unit(target)
        edge = f"{source!r} -> {target!r}"
        if ends[1] < self.inputs:
            raise GraphError(f"an edge leads into an input: {edge}")
        if ends in self._added or bool(np.any((self.source == ends[0]) & (self.target == ends[1]))):
            raise GraphError(f"an edge is there twice: {edge}")
        value = math.nan if weight is None else as_number(f"the weight of edge {edge}", weight)
        self._added[ends] = value

    def _unit(self, name: Any) -> int:
        name = as_name(name)
        if name not in self.number:
            raise GraphError(f"unknown unit {name!r}{nearest(name, map(str, self.names))}")
        return self.number[name]

    def topology(self) -> Topology:
        """The graph that was declared, checked."""
        if self._added:
            ends = np.array(list(self._added), np.int64)
            self.source = np.concatenate([self.source, ends[:, 0]])
            self.target = np.concatenate([self.target, ends[:, 1]])
            self.weight = np.concatenate([self.weight, list(self._added.values())])
            self._added = {}
        missing = [name for name in self.outputs if name not in self.number]
        if missing:
            raise GraphError(f"there is no unit for output {listed(missing)}")
        numbers = np.array([self.number[name] for name in self.outputs], np.int64)
        direct = [name for name, i in zip(self.outputs, numbers) if i < self.inputs]
        if direct:
            raise GraphError(f"an input cannot be an output as well: {listed(direct)}")
        graph = Topology(
            tuple(self.names),
            self.inputs,
            numbers,
            tuple(self.activations),
            np.array([b is not None for b in self.biases], bool),
            self.source,
            self.target,
        )
        graph.check()
        return graph

    def values(self, graph: Topology, seed: int) -> np.ndarray:
        """The parameters as they were declared, in the order of evaluation; others are drawn.

        Drawn weights are uniform in +-sqrt(6 / (edges into the target + edges out of the
        source)), from PCG64(seed): Glorot and Bengio's equation 16 for a layered net.
        """
        fan_in = np.bincount(graph.target, minlength=graph.units)[graph.target]
        fan_out = np.bincount(graph.source, minlength=graph.units)[graph.source]
        random = np.random.Generator(np.random.PCG64(seed))
        drawn = random.uniform(-1, 1, len(self.weight)) * np.sqrt(6 / (fan_in + fan_out))
        self.weight = np.where(np.isnan(self.weight), drawn, self.weight)
        order = graph.order
        biases = [self.biases[i] for i in order.unit[order.biased] - self.inputs]
        return np.concatenate([self.weight[order.edge], np.array(biases, np.float64)])

    def keep(self, graph: Topology, values: Sequence[float] | np.ndarray) -> None:
        """Takes parameters, in the order of evaluation, for declared ones."""
        order, values = graph.order, np.asarray(values, np.float64)
        self.weight[order.edge] = values[: len(order.edge)]
        for i, b in zip(order.unit[order.biased] - self.inputs, values[len(order.edge) :]):
            self.biases[i] = float(b)
