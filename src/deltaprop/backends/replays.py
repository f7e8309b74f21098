"""Sweeps that are launched at once: captured when they come a second time, then replayed.

A launch costs the host some microseconds, and a sweep of many layers has many; a CUDA graph of all
of them costs about as much as one. It reads and writes where its arrays were, so a sweep is known
by their addresses: a training loop finds its batches where they have been before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Generic, Protocol, TypeVar

from deltaprop.contract import Array

T = TypeVar("T")

Sweep = Callable[[], tuple[Array, ...]]
"""Launches, and returns new arrays."""

Replay = tuple[Callable[[], None], tuple[Array, ...]]
"""How to run a sweep that was captured, and what it returns."""

KEPT = 32
"""Sweeps of a place that are known."""

PLACES = 16
"""Streams and threads that have sweeps of their own."""


class Capture(Protocol):
    """Captures what a sweep launches, without running it: how to run it, and what it returns.

    All that is captured by one takes its memory from one place, and runs in one stream.
    """

    def __call__(self, sweep: Sweep) -> Replay: ...


class Capturing(Protocol):
    """What the table needs of a machine that can capture."""

    def capture(self) -> Capture: ...

    def place(self) -> Hashable:
        """What runs one after another: of other places, sweeps may overlap."""

    def address(self, x: Array) -> Hashable:
        """What tells the array from others to whoever reads it: where it is, and how it lies."""


class Recent(Generic[T]):
    """The last so many entries that were asked for, by key."""

    def __init__(self, most: int) -> None:
        self._entries: OrderedDict[Hashable, T] = OrderedDict()
        self._most = most

    def find(self, key: Hashable, make: Callable[[], T]) -> T:
        """The entry, made if it is not there."""
        entries = self._entries
        if key not in entries:
            entries[key] = make()
            while len(entries) > self._most:
                entries.popitem(last=False)
        entries.move_to_end(key)
        return entries[key]


class Known:
    """A sweep that came before, and its replay from the second time on."""

    came = False
    replay: Replay | None = None


class Place:
    """The sweeps of one place."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.known: Recent[Known] = Recent(KEPT)


class Captured:
    """The `Replays` of a net."""

    def __init__(self, device: Capturing) -> None:
        self._device = device
        self._places: Recent[Place] = Recent(PLACES)
        self._finding = Lock()

    def run(
        self, what: Hashable, arrays: Sequence[Array | None], sweep: Sweep, lent: bool = False
    ) -> tuple[Array, ...]:
        """What `sweep` returns: launched by itself, or as a replay."""
        device = self._device
        with self._finding:
            place = self._places.find(device.place(), lambda: Place(device.capture()))
        key = what, *[None if x is None else device.address(x) for x in arrays]
        known = place.known.find(key, Known)
        if not known.came:
            known.came = True
            return sweep()
        known.replay = known.replay or place.capture(sweep)
        launch, result = known.replay
        launch()
        return result if lent else tuple(x.copy() for x in result)
