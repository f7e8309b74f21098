"""A case measured: every rival checked, then all of them timed in turns; and the JSON of it all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from deltaprop.peers.allowance import Allowance
from deltaprop.peers.answers import VISIBLE, Expected, WrongAnswerError
from deltaprop.peers.by_hand import Runner
from deltaprop.peers.case import Case, Task
from deltaprop.peers.machine import of, threads, versions
from deltaprop.peers.rivals import OURS, RIVALS, Rival, first_line
from deltaprop.peers.rounds import in_turns

RATE = 2.0**-20
"""The learning rate of timed steps: so small that after thousands nothing has overflowed."""

UNSTEADY = 1.5
"""Quartiles of times further apart than that: somebody else was computing."""


@dataclass
class Row:
    """What was found for one case, by rival.

    seconds
        The median time of a call; `quartiles` are those of its times.
    errors
        The largest error of a number over its bound, in the step that was checked.
    own_case
        Of those that compute another case: which; they are not compared.
    absent
        Why one is missing.
    failed
        Who should have run and did not, or was wrong, and how; the run has failed with it.
    """

    case: Case
    seconds: dict[str, float] = field(default_factory=dict)
    quartiles: dict[str, tuple[float, float]] = field(default_factory=dict)
    rounds: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    own_case: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def best_rival(self) -> str | None:
        """The fastest that computes the same, other than ours."""
        same = [name for name in self.seconds if name != OURS and name not in self.own_case]
        return min(same, key=self.seconds.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """Our time over the best rival's."""
        if self.best_rival is None or OURS not in self.seconds:
            return None
        return self.seconds[OURS] / self.seconds[self.best_rival]

    def gflops(self, name: str) -> float:
        return self.case.operations / self.seconds[name] / 1e9

    def as_json(self, limit: int) -> dict[str, Any]:
        figures = {**asdict(self.case), "threads": limit, **asdict(self)}
        del figures["case"]
        figures["batch"] = figures.pop("m")
        return figures | {
            "name": self.case.name,
            "operations": self.case.operations,
            "gflops": {name: self.gflops(name) for name in self.seconds},
            "best_rival": self.best_rival,
            "ratio": self.ratio,
            "goal": self.case.goal,
        }


def measure(
    case: Case,
    budget: float,
    rivals: Iterable[Rival] = RIVALS,
    compiling: Allowance | None = None,
) -> Row:
    """All rivals that are here, each checked first; who is wrong is not timed.

    The slow ones start as long as the allowance for `compiling` lasts.
    """
    row, right = Row(case), {case: Expected.of(case)}
    compiling = compiling or Allowance(math.inf)
    runners = {}
    for rival in rivals:
        own = rival.own_case(case)
        if own not in right:
            right[own] = Expected.of(own)
        spending = compiling.spend() if rival.slow else nullcontext()
        runner = _checked(rival, case, right[own], row, spending)
        if runner is None:
            continue
        if own != case:
            row.own_case[rival.name] = f"{own.output} outputs"
        runners[rival.name] = runner
    del right
    for name, spent in in_turns(runners, budget, case.device).items():
        low, median, high = statistics.quantiles(spent, n=4)
        row.seconds[name], row.quartiles[name] = median, (low, high)
        row.rounds = len(spent)
    return row


def _checked(
    rival: Rival, case: Case, right: Expected, row: Row, spending: AbstractContextManager[None]
) -> Runner | None:
    """One that is ready to be timed; or why there is none is put in the row."""
    reason = rival.missing
    if not reason:
        try:
            with spending:
                answer = _answer(rival, case)
                runner = rival.start(Task.of(case, RATE))
            row.errors[rival.name] = right.check(rival.name, answer)
            return runner
        except WrongAnswerError as error:
            row.failed[rival.name] = str(error)
            return None
        except Exception as error:
            reason = first_line(error)
    (row.failed if rival.required else row.absent)[rival.name] = reason
    return None


def _answer(rival: Rival, case: Case) -> np.ndarray:
    """What is to be checked."""
    runner = rival.start(Task.of(case, VISIBLE))
    return runner.answer(runner.run())


@dataclass
class Figures:
    """All rows of one run, with the machine they are from, and the nets that it did not reach."""

    kind: str
    peak_gflops: float
    budget: float
    device: str = "cpu"
    rows: list[Row] = field(default_factory=list)
    not_reached: list[str] = field(default_factory=list)
    threads: int = field(default_factory=threads)

    @property
    def failures(self) -> list[str]:
        """What went wrong, each with its net."""
        return [
            f"{row.case.name}: {name}: {how}"
            for row in self.rows
            for name, how in row.failed.items()
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "machine": of(self.device) | {"threads": self.threads},
            "versions": versions(),
            "peak_gflops": self.peak_gflops,
            "seconds_a_case": self.budget,
            "cases": [row.as_json(self.threads) for row in self.rows],
            "not_reached": self.not_reached,
        }


def lines(row: Row, peak: float) -> list[str]:
    """A row as it is printed: the fastest first, then how ours stands beside the others' best."""
    out = [row.case.name]
    for name in sorted(row.seconds, key=row.seconds.__getitem__):
        rate = row.gflops(name)
        share = f"{100 * rate / peak:>8.2g}% of peak" if peak else ""
        out.append(
            f"  {name:<15}{row.seconds[name] * 1e6:>14,.1f} us{rate:>10.4g} GFLOP/s{share}"
            f"{_remarks(row, name)}"
        )
    out += [f"  {name:<15}not here: {reason}" for name, reason in row.absent.items()]
    out += [f"  {name:<15}FAILED: {reason}" for name, reason in row.failed.items()]
    if row.ratio is not None:
        goal = row.case.goal
        verdict = "" if goal is None else f"; goal {goal:g}: {_met(row.ratio, goal)}"
        out.append(f"  {row.ratio:.2f} of the time of {row.best_rival}{verdict}")
    return out


def _remarks(row: Row, name: str) -> str:
    """What a time must not be read without."""
    low, high = row.quartiles[name]
    unsteady = f"  unsteady: {low * 1e6:,.1f} to {high * 1e6:,.1f}" if high > UNSTEADY * low else ""
    other = f"  not compared: {row.own_case[name]}" if name in row.own_case else ""
    return unsteady + other


def _met(ratio: float, goal: float) -> str:
    return "met" if ratio <= goal else "missed"


def summary(found: Figures) -> list[str]:
    """Ours, the best rival, the ratio and the goal, one line a net; times in microseconds."""
    rows, peak = found.rows, found.peak_gflops
    width = max((len(row.case.name) for row in rows), default=0)
    out = [f"{'':<{width}}{'ours, us':>13}{'best rival, us':>30}{'ratio':>8}{'goal':>6}{'peak':>9}"]
    for row in rows:
        if row.ratio is None or row.best_rival is None:
            continue
        best = f"{row.best_rival} {row.seconds[row.best_rival] * 1e6:,.1f}"
        goal = "" if row.case.goal is None else f"{row.case.goal:g}"
        share = f"{100 * row.gflops(OURS) / peak:.2g}%" if peak else ""
        missed = "  missed" if row.case.goal is not None and row.ratio > row.case.goal else ""
        out.append(
            f"{row.case.name:<{width}}{row.seconds[OURS] * 1e6:>13,.1f}{best:>30}"
            f"{row.ratio:>8.2f}{goal:>6}{share:>9}{missed}"
        )
    return out + [f"not reached: {name}" for name in found.not_reached]
