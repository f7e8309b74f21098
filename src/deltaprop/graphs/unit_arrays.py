"""Numbers of a graph, found by the names of its units: activations, deltas, gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from deltaprop.contract import Array
from deltaprop.graphs.blueprint import as_number
from deltaprop.graphs.topology import Topology
from deltaprop.names import Name


class Rows(Mapping[Name, Array]):
    """An array with a row of m samples for each unit: `rows["h"]` (m,), and `rows.array`."""

    def __init__(self, array: Array, graph: Topology, first: int) -> None:
        self.array, self.graph, self._first = array, graph, first

    def __getitem__(self, name: Name) -> Array:
        row = self.graph.row_of(name)
        if row < self._first:
            raise KeyError(f"{name!r} is an input")
        return self.array[row - self._first]

    def __iter__(self) -> Iterator[Name]:
        order = self.graph.order.unit[self._first :]
        return iter(self.graph.named(order))

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        return f"Rows({len(self)} units x {self.array.shape[1]} samples)"


class UnitParameters:
    """Numbers for the edges and biases of a graph: parameters, or their gradients.

    `["x1", "h"]` is the number of the edge from x1 to h, `["h"]` that of the bias of h. Setting
    one changes `flat`, in which the edges' come first; `edges` and `biased` name them in order.
    """

    def __init__(self, flat: Array, graph: Topology) -> None:
        self.flat, self._graph = flat, graph

    def __getitem__(self, key: Name | tuple[Name, Name]) -> float:
        return float(self.flat[self._graph.position(key)])

    def __setitem__(self, key: Name | tuple[Name, Name], value: float) -> None:
        position, what = self._graph.position(key), f"the number of {key!r}"
        number = as_number(what, value)
        largest = float(np.finfo(f"f{self.flat.dtype.itemsize}").max)
        if abs(number) > largest:
            raise ValueError(f"{what} must be finite in {self.flat.dtype}, got {value}")
        self.flat[position] = number

    @property
    def weights(self) -> Array:
        """Those of the edges (edges,), a view."""
        return self.flat[: len(self._graph.source)]

    @property
    def biases(self) -> Array:
        """Those of the biases, a view."""
        return self.flat[len(self._graph.source) :]

    @property
    def edges(self) -> list[tuple[Name, Name]]:
        """(source, target) of each weight."""
        graph, edge = self._graph, self._graph.order.edge
        return list(zip(graph.named(graph.source[edge]), graph.named(graph.target[edge])))

    @property
    def biased(self) -> list[Name]:
        """The unit of each bias."""
        return self._graph.named(self._graph.order.unit[self._graph.order.biased])

    def named(self) -> Iterator[tuple[str, Array]]:
        """("weights", ...) and ("biases", ...), as far as there are any."""
        yield "weights", self.weights
        if len(self.biases):
            yield "biases", self.biases

    def where(self, position: int) -> str:
        """What the number at a position of `flat` belongs to: "x1 -> h", or "bias of h"."""
        edges = len(self._graph.source)
        if position < edges:
            e = self._graph.order.edge[position]
            return f"{self._graph.edge_name(int(e))}"
        return f"bias of {self.biased[position - edges]!r}"

    def __repr__(self) -> str:
        return f"UnitParameters({len(self.weights)} edges, {len(self.biases)} biases)"


@dataclass(frozen=True)
class GraphTrace:
    """What the forward sweep saw: `z["h"]` and `a["h"]` (m,) of each unit; inputs have an a."""

    z: Rows
    a: Rows


@dataclass(frozen=True)
class GraphBack:
    """What the backward sweep saw: `delta["h"]` = dE/dz and `slope["h"]` = g'(z), each (m,).

    `gradients["x1", "h"]` is dE/dw of an edge, `gradients["h"]` dE/db. An output whose slope has
    cancelled (softmax with cross-entropy, logistic with binary cross-entropy) shows it still.
    """

    delta: Rows
    slope: Rows
    gradients: UnitParameters
    input_gradient: Array
