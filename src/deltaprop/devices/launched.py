"""What was launched last: that a kernel fails is found out later, by whoever waits for the GPU."""

from __future__ import annotations

from collections import deque
from typing import Any

from deltaprop.devices.unit import Unit
from deltaprop.errors import KernelError

KEPT = 8

FAULTS = frozenset({700, 702, 710, 714, 715, 716, 717, 718, 719})
"""What CUDA says of a kernel that failed while it ran, in answer to whatever is called next."""

Launch = tuple[Unit, tuple[int, int, int], tuple[int, int, int], list[Any]]
"""Unit, grid, block; sizes, and of arrays their shapes alone, so that none is kept alive."""


def text(launch: Launch) -> str:
    unit, grid, block, given = launch
    sizes = ", ".join(str(x) for x in given if x != ())  # neither reals nor arrays that are absent
    return f"{unit.kernel} ({unit.dtype}) for {sizes}, in {grid} blocks of {block}"


class Launched:
    """The last launches since the GPU was waited for."""

    def __init__(self) -> None:
        self._last: deque[Launch] = deque(maxlen=KEPT)
        self.note = self._last.append
        self.note_all = self._last.extend
        self.forget = self._last.clear

    def last(self) -> tuple[Launch, ...]:
        """Oldest first."""
        return tuple(self._last)

    def refused(self, launch: Launch, error: Any) -> KernelError:
        """For CUDA's error at a launch; it may be that of an earlier kernel."""
        if error.status in FAULTS:
            self.note(launch)
            return self.failed(error)
        return KernelError(f"{text(launch)}: {error}")

    def failed(self, error: Any) -> KernelError:
        """For CUDA's error at any other call."""
        if error.status not in FAULTS or not self._last:
            return KernelError(f"the GPU failed: {error}")
        lines = "\n".join(f"  {text(launch)}" for launch in reversed(self._last))
        return KernelError(
            f"a kernel failed: {error}; it was one of the last launched, newest first:\n{lines}\n"
            "With CUDA_LAUNCH_BLOCKING=1 it is the first of them. The GPU is lost to this process."
        )
