"""Which mistakes explain the gradient of a graph of units.

A mistake is made first in the topmost wrong unit of its place alone, where the deltas above are
right; only what gives numbers of that unit is swept through the graph. Comparison and ranking are
those of `search.py`. But a parameter is one number here, and among many mistakes one may give it
by chance: what so few digits agree on is no explanation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import lgamma, log

import numpy as np

from deltaprop.diagnosis.rounded import Rounded
from deltaprop.diagnosis.search import MARGIN, Explanation, Parts, factors, fewest, over_bound
from deltaprop.diagnosis.unit_mistakes import UNIT_FORMS, slips
from deltaprop.diagnosis.unit_sweep import (
    Seen,
    UnitSlip,
    UnitTask,
    gradient,
    parameter_names,
    sweep,
    unit_delta,
)

MANY = 1000
"""With more units and edges, mistakes are looked for only where the error begins."""

AT_A_TIME = 1 << 14
"""How many numbers are compared with all factors at a time."""

CHANCE = 1e-3
"""An explanation must be less likely than this to agree by chance."""

Found = Explanation[UnitSlip]
Fits = Mapping[Parts, float]
"""Mistakes that give a number, each with the probability that a random number agreed."""


class UnitSearch:
    """Looks for what explains gradients `given`, flat, float64, of a task."""

    def __init__(self, task: UnitTask, given: np.ndarray) -> None:
        self.task, self.given = task, given
        self.names = list(parameter_names(task.graph))
        self.factors = factors(task)
        every = np.arange(len(given))
        self.right_gradient = gradient(task, task.delta, task.seen.a, every)
        self.ratio = over_bound(given, self.right_gradient)
        self.right = self.ratio <= 1
        self.wrong = np.flatnonzero(~self.right)

    @cached_property
    def wrong_units(self) -> set[int]:
        """The rows of units into which a wrong gradient leads."""
        return set(self.task.wiring.target[self.wrong].tolist())

    @cached_property
    def begins(self) -> list[int]:
        """The wrong units that lead to right ones alone: there the mistake must be."""
        lead = self.task.successors
        return [r for r in sorted(self.wrong_units) if self.wrong_units.isdisjoint(lead(r))]

    def best(self) -> list[Found]:
        """The simplest explanations of the most gradients; they give the same numbers."""
        few = len(self.task.rows) + self.task.edges <= MANY
        tried = list(slips(self.task, self.task.rows if few else self.begins))
        found = list(self._explained(None, 1))
        for slip in tried:
            if self._may_explain(slip):
                found += self._explained(slip, len(tried))
        rank = min(explanation.rank for explanation in found)
        return _in_fewest_units([e for e in found if e.rank == rank])

    def spoilt(self, slip: UnitSlip | None) -> np.ndarray:
        """Which gradients the deltas that a mistake changes are in."""
        if slip is None:
            return np.zeros(len(self.given), bool)
        changed: np.ndarray = sweep(self.task, slip)[1][self.task.wiring.target]
        return changed

    def zeros(self) -> list[str]:
        """The right gradients that cannot be told from 0."""
        none = over_bound(np.zeros_like(self.given), self.right_gradient) <= 1
        return [self.names[i] for i in np.flatnonzero(none & self.right)]

    def _may_explain(self, slip: UnitSlip) -> bool:
        """Whether some number into its topmost wrong unit is what the mistake gives there."""
        rows = self.wrong_units.intersection(slip.at)
        if slip.everywhere or not rows:
            return slip.everywhere
        task, row = self.task, max(rows)
        new = unit_delta(task, row, slip, task.seen, task.delta)
        delta = Rounded(np.zeros_like(task.delta.x), np.zeros_like(task.delta.x), task.u)
        delta.x[row], delta.dx[row] = new.x, new.dx
        into = task.entering[row]
        return any(self._fits(delta, task.seen, into[~self.right[into]]))

    def _explained(self, slip: UnitSlip | None, tried: int) -> Iterator[Found]:
        """By a mistake of the sweep and what else is wrong, if no right gradient contradicts."""
        swept, changed, seen = sweep(self.task, slip)
        right = np.flatnonzero(self.right)
        if slip is not None:
            kept = gradient(self.task, swept, seen.a, right)
            if np.any(over_bound(self.given[right], kept) > 1):
                return
        fits = dict(zip(self.wrong.tolist(), self._fits(swept, seen, self.wrong)))
        options = {self.names[p]: list(fit) for p, fit in fits.items()}
        spoilt = changed[self.task.wiring.target[self.wrong]]
        by_slip = dict(zip(options, spoilt if slip else np.zeros_like(spoilt)))
        chance = {self.names[p]: fit for p, fit in fits.items()}
        alike: dict[tuple[Parts, ...], str] = {}
        first = {name: alike.setdefault(tuple(fit), name) for name, fit in options.items()}
        for e in fewest(slip, {name: options[name] for name in alike.values()}):
            whole = replace(e, parts={name: e.parts[like] for name, like in first.items()})
            yield self._told_from_chance(whole, chance, by_slip, tried)

    def _fits(self, delta: Rounded, seen: Seen, positions: np.ndarray) -> list[Fits]:
        """What else would have to be wrong with each of these gradients, given the deltas."""
        given, found = self.given[positions], [dict[Parts, float]() for _ in positions]
        for form in UNIT_FORMS:
            wanted = form.make(self.task, delta, seen.z, seen.a, positions)
            own: Parts = frozenset([form] if form.text else [])
            q = _chance(wanted)
            for scale, p in self._scaled(given, wanted):
                found[p][own | scale] = float(q[p])
        right: Parts = frozenset()
        return [{right: fits[right]} if right in fits else fits for fits in found]

    def _scaled(self, given: np.ndarray, wanted: Rounded) -> Iterator[tuple[Parts, int]]:
        """The mistaken factors, with the index of each number that they give."""
        scales = list(self.factors) if wanted.x.any() else [frozenset()]
        c = np.array([[self.factors[scale]] for scale in scales])
        for first in range(0, len(given), AT_A_TIME):
            some = slice(first, first + AT_A_TIME)
            scaled = Rounded(c * wanted.x[some], np.abs(c) * wanted.dx[some], wanted.u)
            for k, p in np.argwhere(over_bound(given[some], scaled) <= 1).tolist():
                yield scales[k], first + p

    def _told_from_chance(
        self, e: Found, chance: Mapping[str, Fits], by_slip: Mapping[str, bool], tried: int
    ) -> Found:
        """Without what may agree by chance.

        Gradients with the same mistakes confirm each other. A set of mistakes is chosen out of
        slips * forms * factors, and those that agree, out of all that are wrong.
        """
        kept: dict[str, Parts | None] = dict(e.parts)
        groups: dict[tuple[Parts, bool], list[str]] = {}
        for name, parts in e.parts.items():
            if parts is not None:
                groups.setdefault((parts, bool(by_slip[name])), []).append(name)
        for (parts, spoilt), members in groups.items():
            choices = tried if spoilt else 1
            choices *= len(self.factors) * len(UNIT_FORMS) if parts else 1
            agreed = np.sum(np.log([chance[name][parts] for name in members]))
            if log(choices) + _log_subsets(len(self.wrong), len(members)) + agreed > log(CHANCE):
                kept |= dict.fromkeys(members)
        return replace(e, parts=kept)


def _log_subsets(n: int, k: int) -> float:
    """ln of the number of ways to choose k out of n."""
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _chance(wanted: Rounded) -> np.ndarray:
    """How likely a random number of that size is to agree: the width of what may be."""
    size = np.abs(wanted.x)
    width = 2 * MARGIN * wanted.dx
    return np.where(width < size, width / np.where(size > 0, size, 1), np.where(width > 0, 1.0, 0))


def _in_fewest_units(explanations: Sequence[Found]) -> list[Found]:
    """Of explanations by one kind of mistake, those in the fewest units."""
    fewest_units: dict[tuple[str, Parts], int] = {}
    for e in explanations:
        key = (e.slip.kind if e.slip else "", e.every_part)
        fewest_units[key] = min(e.places, fewest_units.get(key, e.places))
    return [
        e
        for e in explanations
        if e.places == fewest_units[e.slip.kind if e.slip else "", e.every_part]
    ]
