"""Every kernel timed beside the limits of its machine, and the JSON of it all."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from typing import Any

from deltaprop.ceilings.calls import LAUNCHED, call_of, is_cold, library_call_of, sets_of
from deltaprop.ceilings.clock import Call, Clock, run, warm
from deltaprop.ceilings.limits import WARM, Limits, median
from deltaprop.contract import Kernels
from deltaprop.roofline import Work, table

SLICE = 1e-3
"""Seconds of calls that make one time; more where each set of arrays has its turn."""
MOST_CALLS = 256
ROUNDS = 7
KEPT_BYTES = 4 << 30
"""What the results of a slice may take: all are kept until it ends."""


@dataclass
class Row:
    """A kernel's work; its median time in seconds, quartiles, and how they were taken.

    `library` is the time of the same product by the machine's own library; `failed` says why
    there is no time.
    """

    work: Work
    seconds: float = 0.0
    quartiles: tuple[float, float] = (0.0, 0.0)
    calls: int = 0
    sets: int = 0
    cold: bool = False
    library: float | None = None
    failed: str = ""

    def share(self, limits: Limits) -> float:
        """The time that it takes at least over the time that it took."""
        return limits.floor(self.work.least, self.work.instructions) / self.seconds

    def bound(self, limits: Limits) -> str:
        memory = self.work.least / limits.bytes
        return "memory" if memory >= 2 * self.work.instructions / limits.flops else "arithmetic"

    def as_json(self, limits: Limits) -> dict[str, Any]:
        if self.failed:
            return asdict(self)
        return asdict(self) | {
            "bytes_a_second": self.work.least / self.seconds,
            "flops": 2 * self.work.instructions / self.seconds,
            "bound": self.bound(limits),
            "share": self.share(limits),
        }


@dataclass
class Figures:
    """All rows of one run, with the machine, its limits, and the kernels that were not reached."""

    backend: str
    dtype: str
    limits: Limits
    machine: dict[str, Any]
    versions: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    not_reached: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        failed = [row for row in self.rows if row.failed]
        return [f"{row.work.kernel} {row.work.size}: {row.failed}" for row in failed]

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": "kernels",
            "backend": self.backend,
            "dtype": self.dtype,
            "machine": self.machine,
            "versions": self.versions,
            "limits": {"bytes": self.limits.bytes, "flops": self.limits.flops_by_side},
            "rows": [row.as_json(self.limits) for row in self.rows],
            "not_reached": self.not_reached,
        }


def works(k: Kernels, dtype: str, largest: float) -> list[Work]:
    """What the backend has a kernel for, of at most so many operations."""
    launches = hasattr(k.arrays, "launch")
    return [
        work
        for work in table(dtype)
        if 2 * work.instructions <= largest and (launches or work.kernel not in LAUNCHED)
    ]


def measure(work: Work, k: Kernels, clock: Clock, dtype: str, cache: int) -> Row:
    """One kernel; why it has no time is in the row."""
    sets = sets_of(work, cache)
    row = Row(work, sets=sets, cold=is_cold(work, cache))
    try:
        _time(row, [call_of(work, k, dtype) for _ in range(sets)], clock)
        same = [library_call_of(work, k, dtype) for _ in range(min(sets, row.calls))]
        calls = [call for call in same if call]
        if calls:
            row.library = median(clock, list(islice(cycle(calls), row.calls)))
    except Exception as error:
        row.failed = (str(error).strip() or type(error).__name__).splitlines()[0]
    return row


def _time(row: Row, calls: Sequence[Call], clock: Clock) -> None:
    """Medians of slices. What is called first compiles, and makes room for the results."""
    run(calls)
    count = round(SLICE / clock.seconds(calls))
    most = max(1, min(MOST_CALLS, KEPT_BYTES // row.work.least))
    row.calls = min(max(count, len(calls)), most)
    turns = list(islice(cycle(calls), row.calls))
    warm(clock, turns, WARM)
    times = [clock.seconds(turns) for _ in range(ROUNDS)]
    low, row.seconds, high = statistics.quantiles(times, n=4)
    row.quartiles = low, high


HEAD = (
    f"{'kernel':<16}{'size':<43}{'us':>10}{'GB/s':>8}{'TFLOP/s':>9}{'ceiling':>9}  {'by':<11}"
    f"{'over the library':>16}"
)


def line(row: Row, limits: Limits) -> str:
    """A kernel as it is printed: its share of the lower ceiling, and what a product stands by."""
    name = f"{row.work.kernel:<16}{row.work.size:<43}"
    if row.failed:
        return f"{name}FAILED: {row.failed}"
    rates = (
        f"{row.seconds * 1e6:>10,.1f}{row.work.least / row.seconds / 1e9:>8,.0f}"
        f"{2 * row.work.instructions / row.seconds / 1e12:>9.3g}"
    )
    beside = f"{row.seconds / row.library:>16.2f}" if row.library else " " * 16
    warm = "" if row.cold else "  in the cache"
    return f"{name}{rates}{row.share(limits):>9.0%}  {row.bound(limits):<11}{beside}{warm}".rstrip()
