"""Times taken side by side: the rivals run in turns, round by round."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import repeat

from deltaprop.peers.by_hand import Runner

SLICE = 0.1
"""How many seconds of calls make one time, as in a training loop: of microseconds, thousands."""
REST = {"cpu": 0.15, "cuda": 0.02}
"""Seconds between rivals: on a CPU a library's threads spin for some time in wait of more work."""
LEAST = 5
"""Rounds, however long they take."""


def in_turns(
    runners: Mapping[str, Runner], budget: float, device: str = "cpu"
) -> dict[str, list[float]]:
    """The seconds of a call of each, one time a round, until the budget of seconds is spent.

    Each round begins with another one, so that nobody always follows the same neighbour.
    """
    counts = {name: calls_a_slice(runner) for name, runner in runners.items()}
    times: dict[str, list[float]] = {name: [] for name in runners}
    names = list(runners)
    begin = time.perf_counter()
    while len(times[names[-1]]) < LEAST or time.perf_counter() - begin < budget:
        for name in names:
            time.sleep(REST[device])
            seconds(runners[name], -(-counts[name] // 4))  # cores and caches are its own again
            times[name].append(seconds(runners[name], counts[name]))
        names.append(names.pop(0))
    return times


def seconds(runner: Runner, count: int) -> float:
    """The mean of so many calls in a row, until the last one's work is done."""
    start = time.perf_counter()
    for _ in repeat(None, count):
        runner.run()
    runner.finish()
    return (time.perf_counter() - start) / count


def calls_a_slice(runner: Runner) -> int:
    """How many calls take about `SLICE`, at least one; the first one may still compile."""
    seconds(runner, 1)
    count = 1
    while (spent := seconds(runner, count) * count) < SLICE / 4:
        count *= 4
    return max(1, round(count * SLICE / spent))
