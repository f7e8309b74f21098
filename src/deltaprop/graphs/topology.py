"""The shape of a graph: checked, and put in the order of evaluation.

Units are numbered as they were declared, inputs first. A unit's level is the length of the
longest path that leads to it; units of one level do not feed each other. Everything here is
array work on all edges at once: its cost grows as units + edges.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from deltaprop.activations import Activation
from deltaprop.contract import Fan, Kernels
from deltaprop.errors import GraphError, nearest
from deltaprop.names import SHOWN, as_name, listed
from deltaprop.units import Part, Wiring

Integers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Topology:
    """Units and edges. Edge e leads from unit source[e] to unit target[e].

    `activations` and `biased` belong to the units after the inputs; `outputs` are numbers of
    units in the order of the columns of Y.
    """

    names: Sequence[Hashable]
    inputs: int
    outputs: Integers
    activations: Sequence[Activation]
    biased: Integers
    source: Integers
    target: Integers

    @property
    def units(self) -> int:
        """Inputs included."""
        return len(self.names)

    def named(self, units: Integers) -> list[Any]:
        """The names of those units."""
        return [self.names[int(i)] for i in units]

    @cached_property
    def number(self) -> dict[Hashable, int]:
        """The number of each unit by name."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def output_activations(self) -> Sequence[Activation]:
        """The activations that outputs have, each once."""
        found = [self.activations[i] for i in self.outputs - self.inputs]
        return list(dict.fromkeys(found))

    def row_of(self, name: Hashable) -> int:
        """The row of a unit in arrays in the order of evaluation.

        KeyError for an unknown one, TypeError for what is no name: True is not 1.
        """
        name = as_name(name)
        if name not in self.number:
            hint = nearest(name, map(str, self.names))
            raise KeyError(f"unknown unit {name!r}{hint}")
        return int(self.order.row[self.number[name]])

    def position(self, key: Hashable) -> int:
        """Where the parameter of an edge (source, target), or of a unit's bias, lies.

        KeyError where there is none, TypeError for any other key.
        """
        order = self.order
        if isinstance(key, (tuple, list)):
            if not isinstance(key, tuple) or len(key) != 2:
                raise TypeError(f"an edge is named by a tuple (source, target), got {key!r}")
            into = np.searchsorted(order.target_row, [self.row_of(key[1]), self.row_of(key[1]) + 1])
            self.row_of(key[0])
            sources = self.source[order.edge[slice(*into)]]
            found = np.flatnonzero(sources == self.number[key[0]])
            if not found.size:
                raise KeyError(f"no edge leads from {key[0]!r} to {key[1]!r}")
            return int(into[0] + found[0])
        place = np.flatnonzero(order.biased == self.row_of(key))
        if not place.size:
            raise KeyError(f"unit {key!r} has no bias")
        return len(order.edge) + int(place[0])

    def is_like(self, other: Topology) -> bool:
        """Whether rows and parameters of the two are in the same places and mean the same."""
        if self is other:
            return True
        listed = ("names", "inputs", "activations")
        arrays = ("outputs", "biased", "source", "target")
        return all(getattr(self, key) == getattr(other, key) for key in listed) and all(
            np.array_equal(getattr(self, key), getattr(other, key)) for key in arrays
        )

    @cached_property
    def levels(self) -> Integers:
        """The level of each unit; inputs have 0. Raises `GraphError` where there is a cycle."""
        missing = np.bincount(self.target, minlength=self.units)
        out = _by(self.source, self.target, self.units)
        level = np.zeros(self.units, np.int64)
        ready = np.flatnonzero(missing == 0)
        seen, depth = len(ready), 0
        while ready.size:
            depth += 1
            reached, count = np.unique(out.peers_of(ready), return_counts=True)
            missing[reached] -= count
            ready = reached[missing[reached] == 0]
            level[ready] = depth
            seen += len(ready)
        if seen < self.units:
            raise GraphError(f"the graph has a cycle: {self._cycle(missing > 0)}")
        return level

    def _cycle(self, held: np.ndarray) -> str:
        """A cycle among the units that wait for each other, as names."""
        before = _by(self.target, self.source, self.units)
        place: dict[int, int] = {}
        unit = int(np.flatnonzero(held)[0])
        while unit not in place:
            place[unit] = len(place)
            sources = before.peers_of(np.array([unit]))
            unit = int(sources[held[sources]][0])
        path = list(place)[place[unit] :][::-1]
        names = [str(self.names[i]) for i in (path[-1], *path)]
        if len(names) > 2 * SHOWN:
            names = [*names[:SHOWN], f"... {len(names) - 2 * SHOWN} more ...", *names[-SHOWN:]]
        return " -> ".join(names)

    def check(self) -> None:
        """Raises `GraphError`, with the units' names, where there is no forward sweep.

        Warns of units that lead to no output: they have a sweep, but no gradient.
        """
        self._check_edges()
        self._check_outputs()
        _ = self.levels
        fed = self._reached(np.arange(self.inputs), _by(self.source, self.target, self.units))
        self._require(fed, self.outputs, "no path leads from an input to output")
        units = np.arange(self.inputs, self.units)
        self._require(fed, units, "no input reaches unit")
        used = self._reached(self.outputs, _by(self.target, self.source, self.units))
        idle = units[~used[units]]
        if idle.size:
            warnings.warn(
                f"no output is reached from unit {listed(self.named(idle))}: the gradient is 0",
                stacklevel=2,
            )

    def _check_edges(self) -> None:
        into = self.target < self.inputs
        if into.any():
            e = int(np.flatnonzero(into)[0])
            raise GraphError(f"an edge leads into an input: {self.edge_name(e)}")
        key = self.source * self.units + self.target
        order = np.argsort(key, kind="stable")
        same = np.flatnonzero(np.diff(key[order]) == 0)
        if same.size:
            raise GraphError(f"an edge is there twice: {self.edge_name(int(order[same[0]]))}")

    def _check_outputs(self) -> None:
        if not len(self.outputs):
            raise GraphError("the graph has no outputs")
        rowwise = np.array([False] * self.inputs + [g.rowwise for g in self.activations])
        if not rowwise.any():
            return
        name = next(g.name for g in self.activations if g.rowwise)
        hidden = np.setdiff1d(np.flatnonzero(rowwise), self.outputs)
        if hidden.size:
            raise GraphError(f"{name!r} is for outputs; got it for {listed(self.named(hidden))}")
        others = self.outputs[~rowwise[self.outputs]]
        if others.size:
            raise GraphError(
                f"{name!r} is for all outputs or none; {listed(self.named(others))} "
                "have another activation"
            )
        leading = np.unique(self.source[rowwise[self.source]])
        if leading.size:
            raise GraphError(
                f"edges lead on from {listed(self.named(leading))}, whose activation {name!r} "
                "is for outputs that lead nowhere"
            )

    def edge_name(self, e: int) -> str:
        """Edge number e as it is written: 'x1' -> 'h'."""
        return f"{self.names[self.source[e]]!r} -> {self.names[self.target[e]]!r}"

    def _reached(self, units: Integers, edges: _Adjacency) -> np.ndarray:
        """Whether each unit can be reached from `units`."""
        reached = np.zeros(self.units, bool)
        reached[units] = True
        while units.size:
            peers = np.unique(edges.peers_of(units))
            units = peers[~reached[peers]]
            reached[units] = True
        return reached

    def _require(self, reached: np.ndarray, units: Integers, message: str) -> None:
        lost = units[~reached[units]]
        if lost.size:
            raise GraphError(f"{message} {listed(self.named(lost))}")

    @cached_property
    def order(self) -> Order:
        """The order of evaluation."""
        return Order.of(self)


@dataclass(frozen=True)
class _Adjacency:
    """For each unit, the units at the other end of its edges."""

    start: Integers
    peer: Integers

    def peers_of(self, units: Integers) -> Integers:
        """The peers of all those units, one unit after the other."""
        count = self.start[units + 1] - self.start[units]
        peers: Integers = self.peer[_ranges(self.start[units], count)]
        return peers


def _ranges(first: Integers, count: Integers) -> Integers:
    """first[0], first[0] + 1, ... (count[0] of them), first[1], ..."""
    begins = np.cumsum(count) - count
    numbers: Integers = np.arange(int(count.sum())) + np.repeat(first - begins, count)
    return numbers


def _by(end: Integers, other: Integers, units: int) -> _Adjacency:
    """Edges sorted by one end."""
    order = np.argsort(end, kind="stable")
    return _Adjacency(_starts(end, units), other[order])


def _starts(end: Integers, units: int) -> Integers:
    """Where the edges of each unit start once they are sorted by it."""
    return np.concatenate([[0], np.cumsum(np.bincount(end, minlength=units))]).astype(np.int64)


@dataclass(frozen=True)
class Order:
    """The order of evaluation: rows are sorted by level, role, activation, and number.

    `unit[row]` and `row[unit]` translate. Weights are sorted by the target's row, then by
    the number of the source; `edge` gives for each the number of the edge it was declared
    as, `target_row` the row it leads to. Biases come after all weights, `biased` by row.
    """

    unit: Integers
    row: Integers
    edge: Integers
    target_row: Integers
    parts: Sequence[slice]
    biased: Integers

    @staticmethod
    def of(graph: Topology) -> Order:
        """The order of evaluation of a graph."""
        n_in, units = graph.inputs, graph.units
        numbers: dict[Activation, int] = {}
        kind = [numbers.setdefault(g, len(numbers)) for g in graph.activations]
        role = np.zeros(units, np.int64)
        role[graph.outputs] = 1 + np.isin(graph.outputs, graph.source)
        key = np.stack(
            [
                graph.biased.astype(np.int64),
                np.array(kind, np.int64),
                role[n_in:],
                graph.levels[n_in:],
            ]
        )
        sorted_units = np.lexsort(key)
        unit = np.concatenate([np.arange(n_in), n_in + sorted_units])
        row = np.empty(units, np.int64)
        row[unit] = np.arange(units)
        change = np.flatnonzero(np.any(np.diff(key[:, sorted_units]), axis=0)) + 1
        borders = n_in + np.concatenate([[0], change, [units - n_in]])
        parts = [slice(int(i), int(j)) for i, j in pairwise(borders)]
        edge = np.lexsort([graph.source, row[graph.target]])
        biased = n_in + np.flatnonzero(graph.biased[sorted_units])
        return Order(unit, row, edge, row[graph.target[edge]], parts, biased)


def wire(graph: Topology, k: Kernels) -> Wiring:
    """The graph as a backend's kernels take it."""
    order, units, there = graph.order, graph.units, k.arrays.asarray
    source = order.row[graph.source[order.edge]].astype(np.int32)
    target = order.row[graph.target[order.edge]].astype(np.int32)
    into = _starts(target, units)
    # Outgoing edges in ascending number of the target.
    leaving = np.lexsort([graph.target[order.edge], source])
    out_of = _starts(source, units)
    ends = target[leaving]

    def fan(start: Integers, peer: Integers, rows: slice) -> Fan:
        starts = start[rows.start : rows.stop + 1]
        peers = np.ascontiguousarray(peer[starts[0] : starts[-1]])
        return Fan(there(starts - starts[0]), there(peers), int(np.diff(starts).max(initial=0)))

    def leaving_from(rows: slice) -> Any:
        return there(leaving[out_of[rows.start] : out_of[rows.stop]])

    def part(rows: slice) -> Part:
        biases = np.searchsorted(order.biased, [rows.start, rows.stop]) + len(source)
        is_output = np.isin(order.unit[rows], graph.outputs)
        columns = _columns(graph.outputs, order.unit[rows]) if is_output[0] else None
        passes_back = columns is None or out_of[rows.stop] > out_of[rows.start]
        return Part(
            rows,
            graph.activations[order.unit[rows.start] - graph.inputs],
            fan(into, source, rows),
            slice(int(into[rows.start]), int(into[rows.stop])),
            slice(*map(int, biases)) if biases[0] < biases[1] else None,
            fan(out_of, ends, rows) if passes_back else None,
            leaving_from(rows) if passes_back else None,
            there(columns) if isinstance(columns, np.ndarray) else columns,
        )

    inputs = slice(0, graph.inputs)
    return Wiring(
        graph.inputs,
        units,
        len(graph.outputs),
        [part(rows) for rows in order.parts],
        there(np.concatenate([target, order.biased.astype(np.int32)])),
        there(np.concatenate([source, np.full(len(order.biased), units, np.int32)])),
        fan(out_of, ends, inputs),
        leaving_from(inputs),
    )


def _columns(outputs: Integers, units: Integers) -> Integers | slice:
    """Which outputs those units are; all of them in their order are a slice."""
    if np.array_equal(outputs, units):
        return slice(None)
    place = np.argsort(outputs)
    return place[np.searchsorted(outputs[place], units)]
