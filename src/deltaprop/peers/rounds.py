"""Times taken side by side: the rivals run in turns, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

SLICE = 0.1
"""How many seconds of calls make one time, as in a training loop: of microseconds, thousands."""
REST = 0.15
"""Seconds between rivals: a library's threads spin for some time in wait of more work."""
LEAST = 5
"""Rounds, however long they take."""

Call = Callable[[], Any]


def in_turns(calls: Mapping[str, Call], budget: float) -> dict[str, list[float]]:
    """The seconds of a call of each, one time a round, until the budget of seconds is spent.

    Each round begins with another one, so that nobody always follows the same neighbour.
    """
    counts = {name: calls_a_slice(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    begin = time.perf_counter()
    while len(times[names[-1]]) < LEAST or time.perf_counter() - begin < budget:
        for name in names:
            time.sleep(REST)
            seconds(calls[name], -(-counts[name] // 4))  # cores and caches are its own again
            times[name].append(seconds(calls[name], counts[name]))
        names.append(names.pop(0))
    return times


def seconds(call: Call, count: int) -> float:
    """The mean of so many calls in a row."""
    start = time.perf_counter()
    for _ in repeat(None, count):
        call()
    return (time.perf_counter() - start) / count


def calls_a_slice(call: Call) -> int:
    """How many calls take about `SLICE`, at least one; the first one may still compile."""
    call()
    count = 1
    while (spent := seconds(call, count) * count) < SLICE / 4:
        count *= 4
    return max(1, round(count * SLICE / spent))
