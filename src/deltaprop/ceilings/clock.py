"""How long calls take where they compute: by a GPU's own events, or by the clock of a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from deltaprop.contract import Kernels

Call = Callable[[], Any]

HELD = 1 << 28
"""Bytes of each of the two arrays that a GPU copies while calls are launched."""
MOST_COPIES = 256


class Clock(Protocol):
    def seconds(self, calls: Sequence[Call]) -> float:
        """Of one of them, the mean; they run one after another, and their results are kept."""


def run(calls: Sequence[Call]) -> list[Any]:
    """The results, all at once."""
    return [call() for call in calls]


def warm(clock: Clock, calls: Sequence[Call], seconds: float) -> None:
    """Runs them for so long: a GPU that was idle computes slowly at first."""
    run(calls)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        clock.seconds(calls)


class HostClock:
    """For calls that are done when they return."""

    def seconds(self, calls: Sequence[Call]) -> float:
        begin = time.perf_counter()
        results = run(calls)
        return (time.perf_counter() - begin) / len(results)


class EventClock:
    """CUDA events on CuPy's current stream.

    Copies of a large array keep the GPU busy until all calls are launched, so no time is the
    host's. More of them if the GPU was there first.
    """

    def __init__(self) -> None:
        import cupy

        self._cuda = cupy.cuda
        self._from, self._to = (cupy.empty((HELD,), "u1") for _ in range(2))
        self._copy = cupy.copyto
        self._copies = 1

    def seconds(self, calls: Sequence[Call]) -> float:
        while True:
            seconds, late = self._measure(calls)
            if not late or self._copies >= MOST_COPIES:
                return seconds
            self._copies *= 2

    def _measure(self, calls: Sequence[Call]) -> tuple[float, bool]:
        """Seconds, and whether the GPU began before everything was launched."""
        begin, end = self._cuda.Event(), self._cuda.Event()
        for _ in range(self._copies):
            self._copy(self._to, self._from)
        begin.record()
        results = run(calls)
        end.record()
        late = bool(begin.done)
        end.synchronize()
        return self._cuda.get_elapsed_time(begin, end) / 1e3 / len(results), late


def clock_of(k: Kernels) -> Clock:
    """That of the machine where the backend computes."""
    return EventClock() if k.name == "cuda" else HostClock()
