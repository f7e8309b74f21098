"""Seconds that may be spent: on a whole run, and of them on what compiles for long."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WORTH = 5.0
"""With fewer seconds left nothing is begun that may take long."""
AGAIN = 5.0
"""Seconds until it is said once more that the time is up: somebody may have caught it."""


class _TimeIsUp(BaseException):
    """No Exception, for those are caught by whoever tries out what compiles."""


class Allowance:
    """So many seconds, infinity included."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextmanager
    def spend(self) -> Iterator[None]:
        """What is done within is counted, and broken off when nothing is left.

        Raises TimeoutError then, or at once where too little is left. Only for the main thread.
        """
        if self.left < WORTH:
            raise TimeoutError("no time left")
        begin = time.perf_counter()
        limited = math.isfinite(self.left)
        if limited:
            before = signal.signal(signal.SIGALRM, _ring)
            signal.setitimer(signal.ITIMER_REAL, self.left, AGAIN)
        try:
            yield
        except _TimeIsUp:
            raise TimeoutError("no time left: it was broken off") from None
        finally:
            if limited:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
            self.left -= time.perf_counter() - begin


def _ring(*_: Any) -> None:
    raise _TimeIsUp
