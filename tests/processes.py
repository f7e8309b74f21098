"""Pythons of their own, which are stopped if they hang."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TIMEOUT = 240
"""Seconds; a cold cache costs up to one minute where the loops are compiled."""


def start(code: str, **environment: Any) -> subprocess.Popen[str]:
    """A Python that runs that code, with tests/ to import from, and may read what it is sent."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    given = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    given |= {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | given,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that what it starts can be stopped with it
    )


def end(process: subprocess.Popen[str], timeout: float = TIMEOUT) -> tuple[str, str]:
    """What it printed, on stdout and on stderr; it must end well and in time."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert process.returncode == 0, f"status {process.returncode}\n{out}\n{err}"
    return out.strip(), err.strip()


def python(code: str, **environment: Any) -> tuple[str, str]:
    """What that code prints, on stdout and on stderr."""
    return end(start(code, **environment))


@contextmanager
def or_else_stopped(seconds: float = TIMEOUT + 60) -> Iterator[None]:
    """This process is stopped if what happens meanwhile hangs, in compiled code too."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
