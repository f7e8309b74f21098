"""The backward sweep unit by unit, right or mistaken, with bounds on its rounding.

    delta_i = (own error + sum over j of w(i->j) delta_j) * g'(z_i)      j: all units i leads to
    dE/dw(i->j) = sum over the samples of delta_j a_i

A unit is a row of z, a and delta, in the order of evaluation; samples are columns. The equations
are those of `mistakes.py`, of which a mistake replaces one; a path forgotten is a term missing in
the sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from deltaprop import bounds
from deltaprop.activations import Activation
from deltaprop.backends import numpy as blas
from deltaprop.diagnosis.mistakes import RIGHT, Asked, Equations, Slope
from deltaprop.diagnosis.rounded import Rounded, exact
from deltaprop.graphs.topology import Topology
from deltaprop.units import Wiring


@dataclass(frozen=True)
class Terms:
    """Which terms a delta sums: its own error as an output, and which of its edges."""

    own: bool
    paths: np.ndarray


@dataclass(frozen=True)
class UnitSlip:
    """A mistake of the sweep in the units `at`, rows.

    `terms` says what the deltas sum that do not sum everything. Two slips of one `kind` are the
    same mistake in different places.
    """

    kind: str
    text: str
    hint: str
    at: tuple[int, ...]
    equations: Equations = RIGHT
    terms: Mapping[int, Terms] = field(default_factory=dict)

    @property
    def everywhere(self) -> bool:
        """Whether it changes what all deltas start from."""
        e = self.equations
        return e.z_bias is not RIGHT.z_bias or e.output is not RIGHT.output


@dataclass(frozen=True)
class UnitTask(Asked):
    """What the gradient of a graph of units is taken of; `parameters` as in the graph."""

    graph: Topology
    wiring: Wiring
    parameters: np.ndarray

    @property
    def rows(self) -> range:
        """Every unit that is no input."""
        return range(self.graph.inputs, self.graph.units)

    @cached_property
    def column(self) -> dict[int, int]:
        """The column of Y of each output."""
        rows = self.graph.order.row[self.graph.outputs]
        return {int(row): k for k, row in enumerate(rows)}

    @property
    def hidden(self) -> Sequence[int]:
        """The units that are no outputs."""
        return [row for row in self.rows if row not in self.column]

    @property
    def outputs(self) -> Sequence[int]:
        """The outputs."""
        return sorted(self.column)

    @property
    def sloped(self) -> Sequence[int]:
        """All units, but for outputs that lead nowhere and whose link cancels the slope."""
        cancelled = self.column if self.loss.link else {}
        return [row for row in self.rows if row not in cancelled or len(self.leaving[row])]

    @property
    def leading(self) -> Sequence[int]:
        """The units that lead on."""
        return [row for row in self.rows if len(self.leaving[row])]

    @property
    def biased(self) -> bool:
        """Whether there are biases."""
        return self.edges < len(self.parameters)

    @property
    def edges(self) -> int:
        """How many of the parameters are weights."""
        return len(self.graph.source)

    @cached_property
    def leaving(self) -> list[np.ndarray]:
        """Where the weights of the edges out of each row are, in the order units were declared."""
        source, target = (x[: self.edges] for x in (self.wiring.source, self.wiring.target))
        order = np.lexsort([self.graph.order.unit[target], source])
        return _cut(order, source, self.graph.units)

    @cached_property
    def entering(self) -> list[np.ndarray]:
        """Where the weights of the edges into each row, and its bias, are."""
        order = np.argsort(self.wiring.target, kind="stable")
        return _cut(order, self.wiring.target, self.graph.units)

    @cached_property
    def part(self) -> dict[int, tuple[int, slice, Activation]]:
        """The number, rows and activation of the part of each row."""
        parts = enumerate(self.wiring.parts)
        return {
            row: (p, part.rows, part.activation)
            for p, part in parts
            for row in range(part.rows.start, part.rows.stop)
        }

    def name(self, row: int) -> str:
        """The name of a unit."""
        return str(self.graph.names[int(self.graph.order.unit[row])])

    def successors(self, row: int) -> np.ndarray:
        """The rows that a unit leads to."""
        return np.asarray(self.wiring.target[self.leaving[row]])

    @cached_property
    def seen(self) -> Seen:
        """The right forward sweep."""
        return Seen.of(self, RIGHT)

    @cached_property
    def delta(self) -> Rounded:
        """The right deltas."""
        return sweep(self, None)[0]


def _cut(order: np.ndarray, ends: np.ndarray, rows: int) -> list[np.ndarray]:
    """For each row, where it stands in `ends`, which `order` sorts."""
    return np.split(order, np.cumsum(np.bincount(ends, minlength=rows))[:-1])


@dataclass(frozen=True)
class Seen:
    """A forward sweep: z, a (units + 1, m); a of the outputs and dE/da (m, n_out).

    Where the loss cancels the slope `error` is dE/dz. The last row of z and a is the 1 of the
    biases; z of an input is the input.
    """

    task: UnitTask
    z: Rounded
    a: Rounded
    outputs: Rounded
    error: Rounded
    slopes: dict[tuple[Slope, int], Rounded] = field(default_factory=dict)

    @staticmethod
    def of(task: UnitTask, equations: Equations) -> Seen:
        """The forward sweep, and the error, by these equations."""
        parameters, wiring, u = task.parameters.copy(), task.wiring, task.u
        b = equations.z_bias(parameters[task.edges :])
        parameters[task.edges :] = 0 if b is None else b
        a, da, z, dz = bounds.forward_units(wiring, parameters, task.X, u)
        top, dtop, *_ = bounds.unit_outputs(wiring, a, da, z, dz, u)
        z[: wiring.inputs], z[-1] = task.X.T, 1
        outputs = Rounded(top, dtop, u)
        error = equations.output(task, outputs)
        return Seen(task, Rounded(z, dz, u), Rounded(a, da, u), outputs, error)

    def slope(self, rule: Slope, row: int) -> Rounded:
        """What stands for g'(z) of a unit (m,)."""
        p, rows, g = self.task.part[row]
        if (rule, p) not in self.slopes:
            self.slopes[rule, p] = rule(g, self.z[rows], self.a[rows])
        return self.slopes[rule, p][row - rows.start]


def unit_delta(
    task: UnitTask, row: int, slip: UnitSlip | None, seen: Seen, delta: Rounded
) -> Rounded:
    """delta (m,) of one unit, from those of the units it leads to."""
    there = slip is not None and (row in slip.at or slip.everywhere)
    equations = slip.equations if slip and there else RIGHT
    terms = slip.terms.get(row) if slip else None
    total = exact(np.zeros(len(task.X)), task.u)
    if row in task.column and (terms is None or terms.own):
        total = total + _own(task, row, equations, seen)
    leaving = task.leaving[row] if terms is None else task.leaving[row][terms.paths]
    if len(leaving):
        w = exact(task.parameters[leaving, None], task.u)
        ends = delta[task.wiring.target[leaving]].T
        e = equations.down(ends, w, seen.a[row])[:, 0]
        total = total + equations.delta(e, seen.slope(equations.slope, row))
    return total


def _own(task: UnitTask, row: int, equations: Equations, seen: Seen) -> Rounded:
    """What an output's own error adds to its delta."""
    column = task.column[row]
    if task.loss.link:
        return equations.link(seen.error, seen.outputs)[:, column]
    return equations.delta(seen.error[:, column], seen.slope(equations.slope, row))


def sweep(task: UnitTask, slip: UnitSlip | None) -> tuple[Rounded, np.ndarray, Seen]:
    """delta (units, m), which of its rows the slip changes, and the forward sweep."""
    anew = slip is None or slip.everywhere
    seen = Seen.of(task, slip.equations) if slip and anew else task.seen
    shape = (task.graph.units, len(task.X))
    start = exact(np.zeros(shape), task.u) if anew else task.delta
    delta = Rounded(start.x.copy(), start.dx.copy(), task.u)
    changed = np.full(task.graph.units, anew)
    for row in reversed(task.rows):
        if anew or (slip and row in slip.at) or changed[task.successors(row)].any():
            changed[row] = True
            new = unit_delta(task, row, slip, seen, delta)
            delta.x[row], delta.dx[row] = new.x, new.dx
    return delta, changed, seen


def gradient(task: UnitTask, delta: Rounded, x: Rounded, positions: np.ndarray) -> Rounded:
    """sum over the samples of delta_j x_i, of the parameters at those positions.

    The last row of x belongs to the biases.
    """
    ends = task.wiring.target[positions], task.wiring.source[positions]

    def summed(delta: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.asarray(blas.edge_gradient(delta, x, *ends, None))

    size, width = np.abs(delta.x), np.abs(x.x)
    bound = len(task.X) * task.u * summed(size, width)
    bound += summed(delta.dx, width + x.dx) + summed(size, x.dx)
    return Rounded(summed(delta.x, x.x), bound, task.u)


def parameter_names(graph: Topology) -> Iterator[str]:
    """What each parameter is called: "x1 -> h", "bias of h"."""
    order = graph.order
    for e in order.edge.tolist():
        yield f"{graph.names[graph.source[e]]} -> {graph.names[graph.target[e]]}"
    for unit in graph.named(order.unit[order.biased]):
        yield f"bias of {unit}"
