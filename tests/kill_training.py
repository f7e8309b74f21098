"""Kills trainings: at any moment, and in the middle of writing; each has to go on as if never.

A training is a forked child that SIGKILL ends, by the parent after some time or by itself within
a call that writes the checkpoint. Then the same call is made again, and what it ends with is
compared with an undisturbed training. `python tests/kill_training.py` prints "100 of 100".

A killed process loses nothing that the system has taken, so nobody waits for the disk here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np

import deltaprop as dp
from deltaprop.schedules import CosineDecay, Warmup

KILLS = 100
M, EPOCHS = 40, 5
random_numbers = np.random.default_rng(0)
X, Y = (random_numbers.standard_normal((M, 2)).astype("float32") for _ in range(2))


def graph() -> dp.Graph:
    g = dp.Graph(2, ["y1", "y2"], backend="numba")
    for name in ("h", "y1", "y2"):
        g.unit(name, "tanh")
    for source, target in (("x1", "h"), ("x2", "h"), ("h", "y1"), ("h", "y2"), ("x1", "y2")):
        g.edge(source, target)
    return g


TRAININGS: list[tuple[Callable[[], Any], dict[str, Any]]] = [
    (
        lambda: dp.MLP([2, 5, 2], backend="numba"),
        {"optimizer": dp.Adam(CosineDecay(0.1, 10), clip_norm=0.3), "validation": 0.2},
    ),
    (
        lambda: dp.MLP([2, 5, 2], backend="numba", ensemble=3),
        {"optimizer": dp.Momentum(Warmup(0.3, 5)), "validation": 0.25, "patience": 2},
    ),
    (graph, {"learning_rate": 0.3, "validation": (X[:9], Y[:9]), "checkpoint_every": 2}),
]


def train(number: int, folder: Path) -> str:
    """The same call, whatever happened before: a digest of all it ends with."""
    make, options = TRAININGS[number]
    net = make()
    history = net.fit(
        X,
        Y,
        epochs=EPOCHS,
        batch_size=16,
        checkpoint=folder,
        resume=True,
        progress=False,
        **options,
    )
    state = [] if net._state is None else [net._state.steps, *map(dp.digest, net._state.arrays)]
    series = [np.array(x).tolist() for x in (history.loss, history.validation_loss)]
    best = np.array(history.best_epoch).tolist()
    return repr((dp.digest(net.parameters), state, series, best, history.stopped))


# ------------------------------------------------------------------------------------ deaths


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(name: str, call: int, after: bool) -> None:
    """This process dies right before or after that call of a function of `os`."""
    real, calls = getattr(os, name), itertools.count(1)

    def dying(*args: Any, **options: Any) -> Any:
        here = next(calls) == call
        if here and not after:
            die()
        result = real(*args, **options)
        if here:
            die()
        return result

    setattr(os, name, dying)


def die_in_write(call: int) -> None:
    """This process dies when it has written half of that file."""
    real, calls = Path.open, itertools.count(1)

    def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = real(path, mode, *args, **options)
        return HalfFile(file) if "w" in mode and next(calls) == call else file

    Path.open = opened  # type: ignore[method-assign,assignment]


class HalfFile(contextlib.AbstractContextManager[Any]):
    """A file that takes half of what it is given; then its process dies."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        die()


Death = Callable[[], None] | float
"""What makes a process die by itself, or the seconds after which it is killed."""


def deaths(writes: int, seconds: float, seed: int = 0) -> Iterator[Death]:
    """Half of them at any time of a training that lasts so long, half in one of its writes."""
    random = Random(seed)
    calls = itertools.cycle(
        [
            lambda call: partial(die_in_write, call),
            lambda call: partial(die_at, "fsync", 2 * call - 1, False),  # of the file
            lambda call: partial(die_at, "fsync", 2 * call - 1, True),
            lambda call: partial(die_at, "replace", call, False),
            lambda call: partial(die_at, "replace", call, True),
            lambda call: partial(die_at, "fsync", 2 * call, False),  # of the folder
            lambda call: partial(die_at, "fsync", 2 * call, True),
        ]
    )
    while True:
        yield random.uniform(0, seconds)
        yield next(calls)(random.randint(1, writes))


def child(number: int, folder: Path, death: Death | None) -> bool:
    """A training in a process of its own; whether it was killed. It writes down what it ends with.

    Raises RuntimeError if it ends badly.
    """
    pid = os.fork()
    if pid == 0:
        try:
            if callable(death):
                death()
            (folder / "result").write_text(train(number, folder))
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    if isinstance(death, float):
        time.sleep(death)
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a training ended with status {status}")
    return status != 0


def survivors(kills: int, where: Path) -> int:
    """How many of so many trainings that are killed, each once, end as an undisturbed one."""
    os.fsync = lambda _: None
    wanted, given = [], []
    for number in range(len(TRAININGS)):
        with mock.patch("os.replace", wraps=os.replace) as writes:
            train(number, where / f"first-{number}")  # loads and compiles what is needed
        start, folder = time.perf_counter(), where / f"undisturbed-{number}"
        child(number, folder, None)
        seconds = time.perf_counter() - start
        given.append(deaths(writes.call_count, seconds, seed=number))
        wanted.append((folder / "result").read_text())
    alive = 0
    for kill in range(kills):
        number, folder = kill % len(TRAININGS), where / str(kill)
        while not child(number, folder, next(given[number])):  # it was over before
            shutil.rmtree(folder)
        child(number, folder, None)
        alive += (folder / "result").read_text() == wanted[number]
    return alive


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        alive = survivors(KILLS, Path(name))
        print(f"{alive} of {KILLS}")
        sys.exit(alive != KILLS)
