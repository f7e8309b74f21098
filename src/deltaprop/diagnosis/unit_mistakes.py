"""The classic mistakes in a graph of units: those of layers, made in units, and paths forgotten.

    delta_i = (own error + sum over j of w(i->j) delta_j) * g'(z_i)      j: all units i leads to

There are as many mistakes in a single place as units and edges together, and few in many places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deltaprop.diagnosis.mistakes import RIGHT, SWEEP_MISTAKES, SweepMistake, wrong
from deltaprop.diagnosis.rounded import Rounded
from deltaprop.diagnosis.unit_sweep import Terms, UnitSlip, UnitTask, gradient
from deltaprop.diagnosis.verdicts import SCALES

SHOWN = 4
"""How many terms of a sum are written out."""

NO_WEIGHT = wrong(
    "the errors come back without the weights",
    "delta{l} = {own}{e} * g'(z{l})",
    lambda task: task.leading,
    down=lambda delta, W, a: delta.sum(axis=1, keepdims=True),
)
OF_UNITS = (
    *(m for m in SWEEP_MISTAKES if m.equations.down is RIGHT.down),
    NO_WEIGHT,
)
"""Those mistakes of layers that a unit can have, and one more."""


def slips(task: UnitTask, rows: Sequence[int]) -> Iterator[UnitSlip]:
    """Every mistake of the sweep in one of these units, or in one of them among others."""
    for mistake in OF_UNITS:
        yield from _made(task, mistake, set(rows))
    yield from _one_delta_lacks_terms(task, rows)
    yield from _all_deltas_lack_a_path(task, rows)


# ------------------------------------------------------------------------ mistakes of layers


def _made(task: UnitTask, mistake: SweepMistake, rows: set[int]) -> Iterator[UnitSlip]:
    """In each of these units, in all that are hidden, in all outputs, in all."""
    every = tuple(mistake.where(task))
    groups = {
        every: "every unit",
        tuple(row for row in every if row not in task.column): "every hidden unit",
        tuple(row for row in every if row in task.column): "every output",
    }
    places = {(row,): f"unit {task.name(row)}" for row in every if row in rows}
    for at, whose in (places | {at: w for at, w in groups.items() if at not in places}).items():
        if not rows.isdisjoint(at):
            hint = mistake.hint.format(**symbols(task, at))
            slip = UnitSlip(mistake.text, f"{whose}: {mistake.text}", hint, at, mistake.equations)
            if not slip.everywhere:
                yield slip
            elif at == every:
                yield replace(slip, text=mistake.text)


# --------------------------------------------------------------------------- paths forgotten

FORGOTTEN = "a path is forgotten"


def _one_delta_lacks_terms(task: UnitTask, rows: Sequence[int]) -> Iterator[UnitSlip]:
    """One term of a delta is left out, or only one is kept; the own error is a term, too."""
    for row in rows:
        own, k = row in task.column, len(task.leaving[row])
        if own + k < 2:
            continue
        delta, hint = f"delta of {task.name(row)}", right_delta(task, row)
        told = {}
        if own:
            told["leaves out its own error"] = Terms(False, np.ones(k, bool))
            told["counts only its own error"] = Terms(True, np.zeros(k, bool))
        for i, end in enumerate(task.successors(row)):
            one = np.arange(k) == i
            path = f"the path through {task.name(int(end))}"
            told[f"leaves out {path}"] = Terms(own, ~one)
            told[f"counts only {path}"] = Terms(False, one)
        for text, terms in _different(told).items():
            yield UnitSlip(FORGOTTEN, f"{delta} {text}", hint, (row,), terms={row: terms})


def _different(told: dict[str, Terms]) -> dict[str, Terms]:
    """Of two terms one left out is the other kept: what is left out is said."""
    first: dict[tuple[bool, bytes], str] = {}
    for text in sorted(told, key=lambda text: not text.startswith("leaves out")):
        terms = told[text]
        first.setdefault((terms.own, terms.paths.tobytes()), text)
    return {text: told[text] for text in first.values()}


def _all_deltas_lack_a_path(task: UnitTask, rows: Sequence[int]) -> Iterator[UnitSlip]:
    """All that lead to one unit leave it out, or follow it alone; or all keep one path."""
    several = [row for row in task.leading if len(task.leaving[row]) > 1]
    ends: dict[int, list[int]] = {end: [] for row in rows for end in task.successors(row).tolist()}
    for row in several:
        for end in ends.keys() & task.successors(row).tolist():
            ends[end].append(row)
    for end, before in sorted(ends.items()):
        masks = {row: task.successors(row) == end for row in before}
        path = f"the path through {task.name(end)}"
        yield from _all(task, f"every delta leaves out {path}", {r: ~x for r, x in masks.items()})
        yield from _all(task, f"every delta counts only {path}", masks)
    for text, kept in (("first", 0), ("last", -1)):
        lines = {row: np.arange(len(task.leaving[row])) for row in several}
        yield from _all(
            task,
            f"every delta keeps only the {text} of its paths, as = in place of += does",
            {row: line == line[kept] for row, line in lines.items()},
        )


def _all(task: UnitTask, text: str, masks: dict[int, np.ndarray]) -> Iterator[UnitSlip]:
    """The slip of many units that follow some of their edges; of one it has been told."""
    if len(masks) > 1:
        terms = {row: Terms(row in task.column, mask) for row, mask in masks.items()}
        yield UnitSlip(FORGOTTEN, text, ALL_PATHS, tuple(masks), terms=terms)


# ------------------------------------------------------------------------- the right equation

ALL_PATHS = "delta_i = (sum of w(i->j) delta_j over all units j that i leads to) * g'(z_i)"


def symbols(task: UnitTask, at: Sequence[int]) -> dict[str, str]:
    """What stands in the right equations, for one unit or for any."""
    shared = {
        "loss": task.loss.name,
        "scale": SCALES.get(task.loss.name, "scale"),
        "error": "delta_k" if task.loss.link else "dE/da_k",
        "top": "a_k",
        "forward": "z_j = sum of w(i->j) a_i + b_j",
    }
    if len(at) != 1:
        return shared | {"l": "_j", "own": "", "e": "dE/da_j"}
    own, e = _terms(task, at[0])
    return shared | {"l": f"_{task.name(at[0])}", "own": own, "e": e}


def _terms(task: UnitTask, row: int) -> tuple[str, str]:
    """What is added to delta as it is, and dE/da of a unit."""
    name, linked = task.name(row), bool(task.loss.link)
    ends = [task.name(int(end)) for end in task.successors(row)]
    terms = [f"w({name}->{end}) delta_{end}" for end in ends[:SHOWN]]
    terms += [f"{len(ends) - SHOWN} more"] * (len(ends) > SHOWN)
    output = row in task.column
    own = f"dE/dz_{name} + " if output and linked and terms else ""
    if output and not linked:
        terms.insert(0, f"dE/da_{name}")
    if output and not terms:
        return "", f"dE/dz_{name}"
    return own, terms[0] if len(terms) == 1 else f"({' + '.join(terms)})"


def right_delta(task: UnitTask, row: int) -> str:
    """The right equation of a delta: delta_h = (w(h->y1) delta_y1 + ...) * g'(z_h)."""
    name = task.name(row)
    own, e = _terms(task, row)
    if row in task.column and task.loss.link and not own:
        return f"delta_{name} = {symbols(task, ())['scale']} (a_{name} - y)"
    return f"delta_{name} = {own}{e} * g'(z_{name})"


# ------------------------------------------------------------------ mistakes of one gradient


@dataclass(frozen=True)
class UnitForm:
    """A gradient formed from the deltas, z and a of all units, at some parameters.

    The form without a text is the right one.
    """

    text: str
    hint: str
    make: Callable[[UnitTask, Rounded, Rounded, Rounded, np.ndarray], Rounded]


HINT = "dE/dw(i->j) = sum over the samples of delta_j a_i"

UNIT_FORMS = (
    UnitForm("", HINT, lambda task, delta, z, a, at: gradient(task, delta, a, at)),
    UnitForm(
        "formed with z of the source in place of a",
        HINT,
        lambda task, delta, z, a, at: gradient(task, delta, z, at),
    ),
    UnitForm(
        "left at 0", HINT, lambda task, delta, z, a, at: gradient(task, delta, a, at).times(0)
    ),
)
