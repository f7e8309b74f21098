"""Which mistakes explain a gradient: every one is made, and what it gives is compared.

A mistake explains a gradient if every element agrees to within a bound on the rounding, nothing
less. Of the explanations that fit the most parameters those of the fewest mistakes are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from deltaprop.diagnosis.mistakes import (
    FACTORS,
    FORMS,
    RIGHT,
    SWEEP_MISTAKES,
    THROUGH_GRADIENT,
    UPDATED,
    Asked,
    Equations,
    Factor,
    SweepMistake,
    Swept,
    Task,
    sweep,
    updated,
)
from deltaprop.diagnosis.rounded import Rounded

MARGIN = 4
"""The given and the wanted both keep the error bound, which makes 2; a derivation by hand takes
other steps than ours, a scale by itself or inputs rounded to its dtype: twice that."""

KNOWN = 10
"""A learning rate counts as found if it is this many times its own error bound."""

MOST = 4
"""How many mistakes beside one of the sweep an explanation may have."""


class Part(Protocol):
    """A mistake of one gradient or a factor: what is wrong, and the right equation."""

    @property
    def text(self) -> str: ...

    @property
    def hint(self) -> str: ...


Parts = frozenset[Part]
Options = Mapping[str, Sequence[Parts]]
Given = Mapping[str, np.ndarray]


# ------------------------------------------------------------------------------ comparison


def alike(given: np.ndarray, wanted: Rounded) -> np.ndarray | None:
    """`given` in the shape of `wanted`, if rows and columns of one say the same; or None."""
    if given.shape == wanted.x.shape:
        return given
    flat = wanted.x.ndim < 2 and given.size == wanted.x.size == max(given.shape, default=1)
    return given.reshape(wanted.x.shape) if flat else None


def over_bound(given: np.ndarray, wanted: Rounded) -> np.ndarray:
    """|given - wanted| over what rounding may do; inf where nothing bounds it."""
    error, allowed = np.abs(given - wanted.x), MARGIN * wanted.dx
    ratio = np.where(error == 0, 0, error / allowed)
    return np.where(np.isfinite(allowed) & np.isfinite(error), ratio, np.inf)


def agrees(given: np.ndarray, wanted: Rounded) -> bool:
    """Whether every element is what is wanted."""
    return bool(np.all(over_bound(given, wanted) <= 1))


def factors(task: Asked) -> dict[Parts, float]:
    """Mistaken factors, products over `FACTORS`; of those with one value, the fewest at a time."""
    m, n = task.batch.Y.shape
    w = task.batch.weights
    total = np.float64(m if w is None else np.sum(w))
    sets: dict[Parts, float] = {}
    for chosen in product(*((None, *group) for group in FACTORS)):
        parts: Parts = frozenset(factor for factor in chosen if factor is not None)
        sets[parts] = float(math.prod(f.value(m, n, total) for f in chosen if f is not None))

    def same(value: float) -> str:
        return f"{value:.12g}"  # m (1/m) may not be 1 to the last bit

    fewest: dict[str, int] = {}
    for parts, value in sets.items():
        fewest[same(value)] = min(len(parts), fewest.get(same(value), len(parts)))
    return {s: v for s, v in sets.items() if np.isfinite(v) and len(s) == fewest[same(v)]}


# ----------------------------------------------------------------------------- explanations


@dataclass(frozen=True)
class Slip:
    """A mistake of the sweep in the layers `at`; a learning rate where it has one."""

    mistake: SweepMistake
    at: tuple[int, ...]
    equations: Equations
    eta: float | None = None


S = TypeVar("S", bound=Any)


@dataclass(frozen=True)
class Explanation(Generic[S]):
    """At most one mistake of the sweep, and what else is wrong with each gradient.

    `parts` is None for a gradient that is not explained.
    """

    slip: S | None
    parts: Mapping[str, Parts | None]

    @property
    def every_part(self) -> Parts:
        """The mistakes that are not of the sweep."""
        return frozenset().union(*(parts for parts in self.parts.values() if parts))

    @property
    def places(self) -> int:
        """In how many layers, or units, the mistake of the sweep is made."""
        return len(self.slip.at) if self.slip else 0

    @property
    def rank(self) -> tuple[int, int]:
        """How many gradients are left unexplained, and by how many mistakes."""
        missing = sum(parts is None for parts in self.parts.values())
        return missing, len(self.every_part) + (self.slip is not None)


def layer_of(name: str) -> int:
    """The layer whose parameter "0.W" is."""
    return int(name.partition(".")[0])


def kind_of(name: str) -> str:
    """W or b."""
    return name.rpartition(".")[2]


class Search:
    """Looks for what explains gradients `given` by name, float64, of a task."""

    def __init__(self, task: Task, given: Given) -> None:
        self.task, self.given = task, given
        self.factors = factors(task)
        self.values = np.array(list(self.factors.values()))
        self.right = self._swept(None)
        self.right_names = [name for name in given if self._is_right(name)]

    def right_gradient(self, name: str) -> Rounded:
        """The right gradient of a parameter, with a bound on its rounding."""
        form = next(form for form in FORMS if form.of == kind_of(name) and not form.text)
        return form.make(self.right[layer_of(name)])[0]

    def _is_right(self, name: str) -> bool:
        wanted = self.right_gradient(name)
        given = alike(self.given[name], wanted)
        return given is not None and agrees(given, wanted)

    def best(self) -> list[Explanation[Slip]]:
        """The simplest explanations of the most gradients; they give the same numbers."""
        found: list[Explanation[Slip]] = []
        for slip in self._slips():
            found += fewest(slip, self._options(self._swept(slip)))
        rank = min(explanation.rank for explanation in found)
        return _in_fewest_layers([e for e in found if e.rank == rank])

    def _swept(self, slip: Slip | None) -> list[Swept]:
        equations = [RIGHT] * len(self.task.layers)
        if slip is not None:
            for l in slip.at:
                equations[l] = slip.equations
        return sweep(self.task, equations)

    def _slips(self) -> Iterator[Slip | None]:
        yield None
        for mistake in SWEEP_MISTAKES:
            for at in mistake.places(self.task):
                yield Slip(mistake, at, mistake.equations)
        if self.task.top > 0:
            yield from self._updates()

    def _options(self, swept: Sequence[Swept]) -> Options:
        """What else would have to be wrong with each gradient, given this sweep."""
        options = {}
        for name, given in self.given.items():
            fits = list(self._fits(name, given, swept[layer_of(name)]))
            if frozenset() in fits:
                fits = [frozenset()]
            contradicted = name in self.right_names and frozenset() not in fits
            options[name] = [] if contradicted else fits
        return options

    def _fits(self, name: str, given: np.ndarray, swept: Swept) -> Iterator[Parts]:
        for form in FORMS:
            if form.of != kind_of(name):
                continue
            for wanted in form.make(swept):
                own = alike(given, wanted)
                if own is not None:
                    parts = frozenset([form] if form.text else [])
                    yield from (parts | scale for scale in self._scales(own, wanted))

    def _scales(self, given: np.ndarray, wanted: Rounded) -> Iterator[Parts]:
        """The mistaken factors between the two; all of them are tried on the largest element."""
        i = np.argmax(np.abs(wanted.x))
        c = self.values
        scaled = Rounded(c * wanted.x.flat[i], np.abs(c) * wanted.dx.flat[i], wanted.u)
        near = over_bound(given.flat[i], scaled) <= 1
        for (parts, value), fits in zip(self.factors.items(), near):
            if fits and agrees(given, wanted.times(value)):
                yield parts
                if not parts:
                    return

    # ----------------------------------------------------------- weights already updated

    def _updates(self) -> Iterator[Slip]:
        """delta (W - eta dE/dW): what the layer below the output gets is affine in eta."""
        below = self.task.top - 1
        through = sweep(self.task, [THROUGH_GRADIENT] * (self.task.top + 1))
        given = self.given[f"{below}.W"]
        for form in (form for form in FORMS if form.of == "W"):
            constant, linear = (form.make(s[below])[0] for s in (self.right, through))
            own = alike(given, constant)
            if own is None:
                continue
            for value in self.factors.values():
                eta = learning_rate(own, constant.times(value), linear.times(value))
                if eta is not None:
                    at = tuple(range(self.task.top))
                    yield Slip(UPDATED, at, updated(eta), float(eta.x) / self._output_factor())

    def _output_factor(self) -> float:
        """What the output's dW, which W was updated by, is multiplied by mistake."""
        name = f"{self.task.top}.W"
        fits = self._fits(name, self.given[name], self.right[self.task.top])
        scales = (frozenset(x for x in parts if isinstance(x, Factor)) for parts in fits)
        return self.factors[next(scales, frozenset())]


def learning_rate(given: np.ndarray, constant: Rounded, linear: Rounded) -> Rounded | None:
    """eta with given = constant - eta linear, by least squares, if all elements agree.

    None if it is not told from 0, or if `linear` is a multiple of `constant`: any wrong factor
    would look like an eta then.
    """
    g0, g1 = constant.x, linear.x
    square = np.sum(g1 * g1)
    eta = np.sum((g0 - given) * g1) / square
    error = np.sum(np.abs(g1) * (constant.dx + np.abs(eta) * linear.dx)) / square
    multiple = constant.times(np.sum(g0 * g1) / np.sum(g0 * g0))
    found = Rounded(np.asarray(eta), np.asarray(error), constant.u)
    told = np.isfinite(eta) and np.abs(eta) > KNOWN * error
    if not told or agrees(np.zeros_like(g0), multiple - linear):
        return None
    return found if agrees(given, constant - linear * found) else None


# -------------------------------------------------------------------------------- simplest


def fewest(slip: S | None, options: Options) -> list[Explanation[S]]:
    """The smallest sets of mistakes that explain the most gradients beside this sweep."""
    pool = list(dict.fromkeys(x for fits in options.values() for parts in fits for x in parts))
    found: list[Explanation[S]] = []
    for size in range(min(MOST, len(pool)) + 1):
        for chosen in combinations(pool, size):
            found.append(Explanation(slip, _choice(options, frozenset(chosen))))
    rank = min(explanation.rank for explanation in found)
    best = [explanation for explanation in found if explanation.rank == rank]
    return list({e.every_part: e for e in best}.values())


def _choice(options: Options, allowed: Parts) -> dict[str, Parts | None]:
    return {
        name: min((parts for parts in fits if parts <= allowed), key=len, default=None)
        for name, fits in options.items()
    }


def _in_fewest_layers(explanations: Sequence[Explanation[Slip]]) -> list[Explanation[Slip]]:
    """Of explanations by one mistake of the sweep, the one in the fewest layers."""
    kept: dict[tuple[str, Parts], Explanation[Slip]] = {}
    for e in explanations:
        key = (e.slip.mistake.text if e.slip else "", e.every_part)
        if key not in kept or e.places < kept[key].places:
            kept[key] = e
    return list(kept.values())
