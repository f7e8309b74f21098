"""A graph as it is declared, unit by unit and edge by edge, before it computes anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deltaprop.activations import Activation
from deltaprop.errors import GraphError, nearest
from deltaprop.graphs.topology import Integers, Topology
from deltaprop.names import Name, as_name, listed


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

    A bias of None means that the unit has none. `drawn` marks the edges whose weight is not
    given: `values` draws it. A weight that is NaN has become so in training, and stays.
    """

    inputs: int
    outputs: list[Name]
    names: list[Name]
    activations: list[Activation] = field(default_factory=list)
    biases: list[float | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.number = {name: i for i, name in enumerate(self.names)}
        self._added: dict[tuple[int, int], float | None] = {}
        none = np.empty(0, np.int64)
        self.connect(none, none)

    def connect(
        self,
        source: Integers,
        target: Integers,
        weight: np.ndarray | Sequence[float | None] | None = None,
    ) -> None:
        """Declares all edges at once, between numbers of units (edges,).

        `weight` (edges,) has None where one is to be drawn; None for all of them.
        """
        self.source, self.target = np.asarray(source, np.int64), np.asarray(target, np.int64)
        if weight is None:
            self.weight, self.drawn = np.zeros(len(source)), np.ones(len(source), bool)
        else:
            self.weight, self.drawn = _given(weight)

    def copy(self) -> Blueprint:
        """Another one, to which other units may be added."""
        lists = self.names.copy(), self.activations.copy(), self.biases.copy()
        other = Blueprint(self.inputs, self.outputs.copy(), *lists)
        other.source, other.target = self.source.copy(), self.target.copy()
        other.weight, other.drawn = self.weight.copy(), self.drawn.copy()
        other._added = self._added.copy()
        return other

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
        value = None if weight is None else as_number(f"the weight of edge {edge}", weight)
        self._added[ends] = value

    def remove_edge(self, source: Any, target: Any) -> None:
        """Takes an edge back."""
        ends = self._unit(source), self._unit(target)
        self._settle()
        kept = (self.source != ends[0]) | (self.target != ends[1])
        if kept.all():
            raise GraphError(f"no edge leads from {source!r} to {target!r}")
        self._keep_edges(kept)

    def remove_unit(self, name: Any) -> None:
        """Takes a unit back, and every edge that leads to it or from it."""
        number = self._unit(name)
        if number < self.inputs:
            raise GraphError(f"{name!r} is an input: the columns of X stay as they are")
        self._settle()
        self._keep_edges((self.source != number) & (self.target != number))
        self.source -= self.source > number
        self.target -= self.target > number
        for of_units, place in (
            (self.names, number),
            (self.activations, number - self.inputs),
            (self.biases, number - self.inputs),
        ):
            del of_units[place]
        self.number = {name: i for i, name in enumerate(self.names)}

    def _keep_edges(self, kept: np.ndarray) -> None:
        self.source, self.target = self.source[kept], self.target[kept]
        self.weight, self.drawn = self.weight[kept], self.drawn[kept]

    def _settle(self) -> None:
        """Puts the edges that were added into the arrays."""
        if not self._added:
            return
        ends = np.array(list(self._added), np.int64)
        weight, drawn = _given(list(self._added.values()))
        self.source = np.concatenate([self.source, ends[:, 0]])
        self.target = np.concatenate([self.target, ends[:, 1]])
        self.weight = np.concatenate([self.weight, weight])
        self.drawn = np.concatenate([self.drawn, drawn])
        self._added = {}

    def _unit(self, name: Any) -> int:
        name = as_name(name)
        if name not in self.number:
            raise GraphError(f"unknown unit {name!r}{nearest(name, map(str, self.names))}")
        return self.number[name]

    def topology(self) -> Topology:
        """The graph that was declared, checked."""
        self._settle()
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
        self.weight = np.where(self.drawn, drawn, self.weight)
        self.drawn = np.zeros_like(self.drawn)
        order = graph.order
        biases = [self.biases[i] for i in order.unit[order.biased] - self.inputs]
        return np.concatenate([self.weight[order.edge], np.array(biases, np.float64)])

    def keep(self, graph: Topology, values: Sequence[float] | np.ndarray) -> None:
        """Takes parameters, in the order of evaluation, for declared ones."""
        order, values = graph.order, np.asarray(values, np.float64)
        self.weight[order.edge] = values[: len(order.edge)]
        for i, b in zip(order.unit[order.biased] - self.inputs, values[len(order.edge) :]):
            self.biases[i] = float(b)


def _given(weight: np.ndarray | Sequence[float | None]) -> tuple[np.ndarray, np.ndarray]:
    """Weights (edges,) in float64, and which of them are to be drawn."""
    if isinstance(weight, np.ndarray):
        return weight.astype(np.float64), np.zeros(len(weight), bool)
    drawn = np.array([w is None for w in weight], bool)
    return np.array([0.0 if w is None else w for w in weight], np.float64), drawn
