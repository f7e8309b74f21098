"""The threads that compute together: who leads a job, who helps, and where there is one alone.

Helpers are Python threads that wait in compiled code, without the GIL. One job is led at a time;
whoever comes meanwhile computes alone, which changes no bit. A forked process makes helpers anew.
"""

from __future__ import annotations

import ctypes
import os
from _thread import start_new_thread
from collections.abc import Callable
from functools import cache
from threading import Lock

import numpy as np

from deltaprop.backends.native import address, has_threads, make_ready
from deltaprop.backends.records import CONDITION, MUTEX, OPEN
from deltaprop.subnormals import SubnormalsFlushedError

ANY = np.dtype("float64")
BYTES = 64 * 16
Entry = Callable[[int, int, int], int]


@cache
def function(where: int) -> Entry:
    """An entry that Python can call: (block, thread, threads)."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)
    found: Entry = prototype(where)
    return found


class _Team:
    """This process's helpers; they are started when they are first needed."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._words = np.zeros(BYTES // 8 + 8, np.int64)
        # Helpers look at them until the process is gone.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._words))
        self.where = -(-self._words.ctypes.data // 64) * 64
        self._helpers = 0

    def grow(self, threads: int) -> bool:
        """Makes helpers until there are `threads` with the caller; whether they could be made."""
        serve = function(address("team.serve", ANY))
        if not self._helpers:
            make_ready(self.where + MUTEX, self.where + CONDITION)
        while self._helpers < threads - 1:
            self._helpers += 1  # and then begun at once: no signal comes between
            try:
                start_new_thread(serve, (self.where, self._helpers, 0))
            except RuntimeError:
                self._helpers -= 1
                return False
        return True

    def run(self, where: int, block: int, threads: int, is_open: bool = False) -> int:
        """A job by so many threads, or by one where the system gives no more."""
        if not self.grow(threads):
            return function(where)(block, 0, 1)
        job = (ctypes.c_int64 * 4)(self.where, where, block, threads + is_open * OPEN)
        return function(address("team.lead", ANY))(ctypes.addressof(job), 0, 1)


_team = _Team()
_threads: int | None = None


def _after_fork() -> None:
    global _team  # noqa: PLW0603
    _team = _Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def memory() -> int:
    """Where the words of this process's team are."""
    return _team.where


@cache
def _at_first() -> int:
    if given := os.environ.get("DELTAPROP_NUM_THREADS"):
        return _checked("$DELTAPROP_NUM_THREADS", int(given) if given.isdecimal() else given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """How many threads a computation on the CPU takes at most.

    What `set_num_threads` said, else $DELTAPROP_NUM_THREADS, else the cores that this process
    may use, looked up once.
    """
    return _at_first() if _threads is None else _threads


def set_num_threads(count: int) -> None:
    """Lets a computation on the CPU take at most `count` threads; no bit depends on it."""
    global _threads  # noqa: PLW0603
    _threads = _checked("count", count)


def _checked(name: str, count: object) -> int:
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {count!r}")
    return min(int(count), 1024)


def run(where: int, block: int, threads: int = 1, is_open: bool = False) -> None:
    """An entry on its block, by up to `threads` threads; in an open job by those that come in time.

    Raises `SubnormalsFlushedError` if one of them flushes subnormal numbers to zero; such a
    helper does not come to an open job.
    """
    team = _team
    if threads > 1 and has_threads() and team.lock.acquire(blocking=False):
        try:
            status = team.run(where, block, threads, is_open)
        finally:
            team.lock.release()
    else:
        status = function(where)(block, 0, 1)
    if status:
        raise SubnormalsFlushedError
