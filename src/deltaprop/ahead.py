"""Compiling ahead of the first gradient: `deltaprop.warmup`, `deltaprop warmup`.

There is no list of what nets need: tiny nets of every kind compute everything once, and what
they need is kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deltaprop.activations import ACTIVATIONS, IDENTITY, Activation, activation_named
from deltaprop.arrays import float_dtype
from deltaprop.backends import load
from deltaprop.devices.cache import cache_folder
from deltaprop.graph import Graph
from deltaprop.losses import LOSSES, Loss
from deltaprop.mlp import MLP
from deltaprop.net import Net
from deltaprop.optimizers import OPTIMIZERS, SGD
from deltaprop.scalar import DTYPES

SAMPLES = 3
OUTPUTS = 2
WIDE = 256
"""Units of layers that two threads share."""


@dataclass(frozen=True)
class Warmup:
    """What `warmup` did: where machine code is kept, and how much of it was new."""

    folder: Path
    compiled: int
    """Functions that were compiled."""
    there: int
    """Functions that were there already."""
    seconds: float


def warmup(
    dtypes: Sequence[Any] = tuple(DTYPES),
    activations: Sequence[str | Activation] | None = None,
    progress: bool = False,
) -> Warmup:
    """Compiles now, for this process and later ones, what layered nets and graphs need.

    That is for every activation there is, your own included, or for those given and the usual
    output activations. It goes where $DELTAPROP_CACHE or `deltaprop info` says; what is there
    already is not compiled again. With `progress` a bar is drawn on stderr if that is a terminal.

    Raises BackendUnavailableError where the numba backend cannot run, OSError if nothing can be
    kept.
    """
    load("numba")
    from deltaprop.backends import native

    folder = _writable(cache_folder())
    chosen = list(ACTIVATIONS.values())
    if activations is not None:
        chosen = [activation_named(g) for g in (*_usual_outputs(), *activations)]
    tasks = list(_tasks([float_dtype(dtype) for dtype in dtypes], list(dict.fromkeys(chosen))))
    start, before = time.perf_counter(), set(native.used)
    with _two_threads(), _in_silence():
        for task in _bar(tasks) if progress else tasks:
            task()
    compiled = sum(new for path, new in native.used.items() if path not in before)
    return Warmup(folder, compiled, len(native.used) - compiled, time.perf_counter() - start)


def _bar(tasks: list[Callable[[], None]]) -> Any:
    from tqdm import tqdm

    return tqdm(tasks, desc="compiling", unit="net", leave=False, disable=None)


def _writable(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"nothing can be kept in {folder}; set DELTAPROP_CACHE")
    return folder


@contextmanager
def _two_threads() -> Iterator[None]:
    """Even on one core: what threads need is compiled, too."""
    from deltaprop.backends import team

    usual = team.get_num_threads()
    team.set_num_threads(max(2, usual))
    try:
        yield
    finally:
        team.set_num_threads(usual)


@contextmanager
def _in_silence() -> Iterator[None]:
    """Who asks for it need not be told that something is compiled."""
    from deltaprop.backends import native

    native.quiet = True
    try:
        yield
    finally:
        native.quiet = False


# ------------------------------------------------------------------------------ the nets


def _usual_outputs() -> Iterator[str]:
    """The identity, and what losses go with."""
    yield IDENTITY.name
    yield from (loss.link for loss in LOSSES.values() if loss.link)


def _tasks(
    dtypes: list[np.dtype[Any]], activations: list[Activation]
) -> Iterator[Callable[[], None]]:
    for dtype in dtypes:
        yield partial(_wide, dtype)
        yield partial(_optimizers, dtype)
        for g in activations:
            for make in (_layers, _units):
                for bias in (True, False):
                    yield partial(_everything, make, g, dtype, bias)


def _wide(dtype: np.dtype[Any]) -> None:
    """Enough work for two threads."""
    net = MLP([WIDE, WIDE, 1], dtype=dtype, backend="numba")
    X, Y = np.zeros((WIDE, WIDE), dtype), np.zeros((WIDE, 1), dtype)
    net.value_and_grad(X, Y)


def _optimizers(dtype: np.dtype[Any]) -> None:
    """A step of each, as it is without options, and one that is clipped."""
    net, x = MLP([1, 1], dtype=dtype, backend="numba"), np.zeros((1, 1), dtype)
    kind: Any
    for kind in OPTIMIZERS.values():
        net.train_step(x, x, optimizer=kind())
    net.train_step(x, x + 1, optimizer=SGD(clip_norm=1e-3))


def _everything(make: Callable[..., Net[Any]], g: Activation, dtype: Any, bias: bool) -> None:
    """All that a net computes, whose hidden units and outputs are of that activation."""
    X, Y = np.zeros((SAMPLES, OUTPUTS), dtype), np.zeros((SAMPLES, OUTPUTS), dtype)
    Y[:, 0] = 1  # probabilities, too
    weights = np.ones(SAMPLES, dtype)
    for loss in LOSSES.values():
        if not _goes_with(loss, g):
            continue
        net: Any = make(g, dtype, bias)
        net.train_step(X, Y, loss)
        net.value_and_grad(X, Y, loss, sample_weight=weights)
        net.loss(X, Y, loss, sample_weight=weights)
        net.predict(X)
        trace = net.forward(X)
        net.backward(trace, Y, loss)
        net.pull_back(trace, Y)


def _goes_with(loss: Loss, g: Activation) -> bool:
    return loss.link == g.name if loss.link or g.rowwise else True


def _layers(g: Activation, dtype: Any, bias: bool) -> MLP:
    hidden = IDENTITY if g.rowwise else g
    sizes = [OUTPUTS, OUTPUTS, OUTPUTS]
    return MLP(sizes, hidden, g, bias=bias, dtype=dtype, backend="numba")


def _units(g: Activation, dtype: Any, bias: bool) -> Graph:
    """A hidden unit, and an output that leads to the other one."""
    net = Graph(OUTPUTS, ["y", "z"], dtype=dtype, backend="numba")
    b = 0.0 if bias else None
    net.unit("h", IDENTITY if g.rowwise else g, b)
    net.unit("y", g, b)
    net.unit("z", g, b)
    for source, target in (("x1", "h"), ("x2", "h"), ("h", "y"), ("h", "z")):
        net.edge(source, target, 0.0)
    if not g.rowwise:
        net.edge("y", "z", 0.0)
    return net
