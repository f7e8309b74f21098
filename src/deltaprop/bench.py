"""How long a gradient takes: the table behind `deltaprop bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from deltaprop.check import crosscheck
from deltaprop.mlp import MLP

NETS: tuple[tuple[tuple[int, ...], int], ...] = (
    ((2, 3, 1), 4),
    ((16, 32, 32, 4), 32),
    ((64, 64, 64, 10), 32),
    ((784, 256, 10), 128),
    ((3, 64, 64, 64, 64, 1), 65536),
    ((64,) * 17, 256),
    ((1024,) * 5, 1024),
    ((2048,) * 4, 256),
)
SLOW = {"reference": 10**7, "cuda-host": 10**7}
"""Multiplications beyond which a backend that is made to be read is not timed."""


@dataclass(frozen=True)
class Timing:
    """The median time of a gradient, and the rate of its multiplications and additions."""

    backend: str
    seconds: float
    gflops: float


def operations(sizes: Sequence[int], m: int) -> int:
    """Additions and multiplications of the products of both sweeps."""
    products = [n_in * n for n_in, n in pairwise(sizes)]
    return 2 * m * (3 * sum(products) - products[0])


def batch_for(sizes: Sequence[int], m: int, dtype: str) -> tuple[MLP, np.ndarray, np.ndarray]:
    """A logistic net and random data for it."""
    random = np.random.default_rng(0)
    net = MLP(sizes, "logistic", "logistic", dtype=dtype, backend="numpy")
    X = random.standard_normal((m, sizes[0])).astype(dtype)
    return net, X, random.random((m, sizes[-1])).astype(dtype)


def median_seconds(calls: Sequence[Callable[[], object]], budget: float) -> list[float]:
    """The median time of each call, taken in turns until the budget of seconds is spent."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    begin = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - begin < budget:
        for call, spent in zip(calls, times):
            start = time.perf_counter()
            call()
            spent.append(time.perf_counter() - start)
    return [statistics.median(spent) for spent in times]


def bench(
    backends: Sequence[str], dtype: str = "float32", budget: float = 1.0, largest: float = 1e12
) -> Iterator[tuple[tuple[int, ...], int, list[Timing]]]:
    """For each net: its sizes, its batch, and a timing for each backend, checked first.

    Raises RuntimeError where a backend's gradient is wrong.
    """
    for sizes, m in NETS:
        work = operations(sizes, m)
        names = [name for name in backends if work <= min(largest, SLOW.get(name, work))]
        if not names:
            continue
        net, X, Y = batch_for(sizes, m, dtype)
        if work <= SLOW["reference"]:
            checked = crosscheck(net, X, Y, backends=names)
            if not checked:
                raise RuntimeError(f"a gradient is wrong on {sizes}, batch {m}:\n{checked}")
        nets = [net.to(name) for name in names]
        calls = [partial(net.value_and_grad, X, Y) for net in nets]
        medians = median_seconds(calls, budget)
        timings = [Timing(n, t, work / t / 1e9) for n, t in zip(names, medians)]
        yield sizes, m, timings
