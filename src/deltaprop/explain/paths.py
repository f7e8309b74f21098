"""A gradient of a graph as the chain rule writes it: products along paths, and their sum.

    dE/dw_ji = sum over samples  delta_j a_i
    delta_j  = sum over the paths j -> k -> ... -> y  of
               dE/da_y g'(z_y) w ... g'(z_k) w_kj g'(z_j)

The path of length zero counts: j may be an output itself. Where the slope of an output has
cancelled, dE/dz_y stands for dE/da_y g'(z_y). A bias is the weight of an edge from a 1.

Everything here is plain arithmetic on the numbers of one sweep, in float64; no kernel is called.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from deltaprop.names import Name

Array = np.ndarray[Any, np.dtype[np.float64]]
Weight = Name | tuple[Name, Name]
"""An edge (source, target), or the bias of a unit."""

SYMBOLS = {
    "dE/da": "dE/da({})",
    "dE/dz": "dE/dz({})",
    "slope": "g'(z({}))",
    "w": "w({} -> {})",
    "a": "a({})",
    "delta": "delta({})",
    "more": "({} more)",
}


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor of a product: what it is, of which units, and its value (m,) for each sample."""

    kind: str
    units: tuple[Name, ...]
    values: Array

    @property
    def symbol(self) -> str:
        """As it is written: g'(z(h))."""
        return SYMBOLS[self.kind].format(*self.units)


@dataclass(frozen=True, eq=False)
class Path:
    """The product along one path: `units` from the weight's source to an output.

    `factors` are in the order of the chain rule, the output's first.
    """

    units: tuple[Name, ...]
    factors: tuple[Factor, ...]

    @cached_property
    def products(self) -> Array:
        """The product (m,) for each sample."""
        return product(self.factors)

    @cached_property
    def product(self) -> float:
        """The path's part of the gradient: the sum over the samples."""
        return total(self.products)


@dataclass(frozen=True, eq=False)
class Delta:
    """delta_j = own + g'(z_j) * (sum over successors k of w_kj delta_k), for each sample.

    `own` are the factors of an output's own error, empty for other units; `terms` are the
    pairs w_kj, delta_k, empty for a unit that leads nowhere.
    """

    unit: Name
    own: tuple[Factor, ...]
    slope: Factor
    terms: tuple[tuple[Factor, Factor], ...]

    @cached_property
    def values(self) -> Array:
        """delta_j (m,)."""
        values = product(self.own) if self.own else np.zeros_like(self.slope.values)
        for w, delta in self.terms:
            values = values + self.slope.values * (w.values * delta.values)
        return values

    @property
    def factor(self) -> Factor:
        """delta_j as a factor of another product."""
        return Factor("delta", (self.unit,), self.values)


@dataclass(frozen=True, eq=False)
class UnitNumbers:
    """What a unit saw: z, a, g'(z) and its target, each (m,); None where it has none."""

    name: Name
    activation: str
    z: Array | None
    a: Array
    slope: Array | None
    y: Array | None


@dataclass(frozen=True)
class Sweep:
    """The numbers of one forward and backward sweep, by name.

    `error` is dE/da of each output, or dE/dz where the slope has `cancelled`; `leads` gives the
    successors of a unit with their weights; `names` are the units without the inputs, each
    after all that lead to it.
    """

    names: Sequence[Name]
    a: Mapping[Name, Array]
    slope: Mapping[Name, Array]
    error: Mapping[Name, Array]
    cancelled: bool
    leads: Mapping[Name, Sequence[tuple[Name, float]]]

    def successors(self, unit: Name) -> Sequence[tuple[Name, float]]:
        """(unit, weight) for each edge that leads on."""
        return self.leads.get(unit, ())

    def reached(self, unit: Name) -> list[Name]:
        """That unit and all it leads to, in the order of evaluation."""
        found = {unit}
        order = []
        for name in self.names:
            if name in found:
                found.update(k for k, _ in self.successors(name))
                order.append(name)
        return order

    def count_paths(self, unit: Name) -> int:
        """How many paths lead from a unit to an output: counted, not walked."""
        count: dict[Name, int] = {}
        for j in reversed(self.reached(unit)):
            count[j] = (j in self.error) + sum(count[k] for k, _ in self.successors(j))
        return count[unit]

    def walk(self, unit: Name) -> Iterator[tuple[Name, ...]]:
        """The paths from a unit to an output, one by one."""
        waiting: list[tuple[Name, ...]] = [(unit,)]
        while waiting:
            path = waiting.pop()
            if path[-1] in self.error:
                yield path
            waiting += [(*path, k) for k, _ in reversed(self.successors(path[-1]))]

    def own_error(self, unit: Name) -> tuple[Factor, ...]:
        """dE/da_y g'(z_y) of an output, or dE/dz_y."""
        kind = "dE/dz" if self.cancelled else "dE/da"
        first = Factor(kind, (unit,), self.error[unit])
        return (first,) if self.cancelled else (first, self.slope_factor(unit))

    def slope_factor(self, unit: Name) -> Factor:
        """g'(z_j)."""
        return Factor("slope", (unit,), self.slope[unit])

    def weight_factor(self, source: Name, target: Name, w: float) -> Factor:
        """w_kj, the same for each sample."""
        samples = len(next(iter(self.error.values())))
        return Factor("w", (source, target), np.broadcast_to(w, samples))

    def path(self, source: Name | None, units: tuple[Name, ...]) -> Path:
        """The factors along a path; without a source, of a bias."""
        factors = list(self.own_error(units[-1]))
        for j, k in reversed(list(pairwise(units))):
            w = dict(self.successors(j))[k]
            factors += [self.weight_factor(j, k, w), self.slope_factor(j)]
        if source is None:
            return Path(units, tuple(factors))
        return Path((source, *units), (*factors, Factor("a", (source,), self.a[source])))

    def deltas(self, unit: Name) -> list[Delta]:
        """delta of a unit and of all it leads to, the unit first."""
        found: dict[Name, Delta] = {}
        for j in reversed(self.reached(unit)):
            terms = [(self.weight_factor(j, k, w), found[k].factor) for k, w in self.successors(j)]
            own = self.own_error(j) if j in self.error else ()
            found[j] = Delta(j, own, self.slope_factor(j), tuple(terms))
        return list(found.values())[::-1]

    def size(self, unit: Name) -> Array:
        """The sum of |product| over all paths (m,): what rounding errors are relative to."""
        found: dict[Name, Array] = {}
        for j in reversed(self.reached(unit)):
            slope = np.abs(self.slope[j])
            found[j] = np.zeros_like(slope)
            if j in self.error:
                found[j] = np.abs(product(self.own_error(j)))
            for k, w in self.successors(j):
                found[j] = found[j] + slope * (abs(w) * found[k])
        return found[unit]

    def roundings(self, unit: Name) -> int:
        """At most so many roundings lie on the way of one product to the gradient.

        Of each edge a product and a sum, of each unit a slope, of each output its own error
        (the residual, two scales, the slope), of each sample a product and a sum.
        """
        units = self.reached(unit)
        edges = sum(len(self.successors(j)) for j in units)
        return 2 * edges + 5 * len(units) + 2 * len(self.slope[unit])


@dataclass(frozen=True, eq=False)
class Contributions:
    """A gradient dE/dw and the products that it is the sum of.

    Attributes
    ----------
    weight
        The edge (source, target), or the unit of the bias.
    loss, samples, weighted
        The name of the loss, m, and whether samples have weights: dE/da holds its sample's.
    count
        How many paths there are.
    cancelled
        Whether the slope of the outputs has cancelled against the loss.
    paths
        Each path with its factors and its product; empty if there were too many.
    deltas
        In that case delta of the weight's unit and of all the units it leads to.
    arriving
        a of the edge's source; None for a bias.
    units
        z, a, g'(z) and the target of each unit on the paths.
    total
        The sum over the paths and the samples.
    gradient
        dE/dw by backpropagation, in float64.
    rounding
        The most by which rounding can make the two differ.
    """

    weight: Weight
    loss: str
    samples: int
    weighted: bool
    count: int
    cancelled: bool
    paths: tuple[Path, ...]
    deltas: tuple[Delta, ...]
    arriving: Factor | None
    units: tuple[UnitNumbers, ...]
    total: float
    gradient: float
    rounding: float

    @property
    def unit(self) -> Name:
        """The unit that the weight leads to."""
        return self.weight[1] if isinstance(self.weight, tuple) else self.weight

    @property
    def difference(self) -> float:
        """`total` - `gradient`."""
        return self.total - self.gradient

    def __bool__(self) -> bool:
        """Whether the two agree to rounding."""
        return abs(self.difference) <= self.rounding


def product(factors: Iterable[Factor]) -> Array:
    """The product (m,) of factors, from the first to the last."""
    first, *others = factors
    values = first.values
    for factor in others:
        values = values * factor.values
    return values


def total(values: Iterable[float] | Array) -> float:
    """The sum, rounded once; of values that are not finite, as floats add up."""
    x = np.asarray(list(values) if not isinstance(values, np.ndarray) else values, np.float64)
    return math.fsum(x) if np.isfinite(x).all() else float(np.sum(x))
