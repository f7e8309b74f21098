"""Ways to share the work of a sweep, and what a net must answer however it is shared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.backends import plans, team
from deltaprop.backends.plans import Plan


@dataclass(frozen=True)
class Way:
    """So many threads, all used however little there is to do, and limits of `plans`."""

    threads: int = 1
    small: bool = True
    """Whether the net counts as small, so that threads may have blocks of the batch."""
    parts: bool = False
    """Whether a part has as few samples as it can, 256, and weights count as too many to stay."""
    chunk: int = 64


WAYS = {
    "alone": Way(),
    "alone in parts": Way(parts=True, chunk=7),
    "alone, a large net": Way(small=False, parts=True),
    "2 together": Way(2, small=False),
    "3 together in parts": Way(3, small=False, parts=True, chunk=5),
    "5 together, sample by sample": Way(5, small=False, chunk=1),
    "2 with blocks": Way(2),
    "3 with blocks": Way(3, chunk=100),
    "5 with blocks in parts": Way(5, parts=True, chunk=64),
}


@contextmanager
def shared(way: Way) -> Iterator[None]:
    """Plans that are made meanwhile share the work in that way."""
    names = ("PARALLEL_WORK", "TOGETHER_WORK", "SMALL_NET", "CACHE", "ROOM", "CHUNK", "LARGE_CHUNK")
    before, threads = [getattr(plans, name) for name in names], team.get_num_threads()
    limit = 1 if way.parts else 1 << 26
    try:
        team.set_num_threads(way.threads)
        values = 1, 1, (1 << 40) * way.small, limit, limit, way.chunk, way.chunk
        for name, value in zip(names, values):
            setattr(plans, name, value)
        yield
    finally:
        team.set_num_threads(threads)
        for name, value in zip(names, before):
            setattr(plans, name, value)


@dataclass(frozen=True)
class Task:
    """A net and a batch."""

    sizes: tuple[int, ...]
    m: int
    activation: str = "tanh"
    output: str = "identity"
    loss: str = "half_mse"
    dtype: str = "float32"
    bias: bool = True
    weighted: bool = False
    members: int | None = None
    own: bool = False
    """Whether each member has a batch of its own."""

    def net(self, backend: str) -> dp.MLP:
        options: dict[str, Any] = {"bias": self.bias, "dtype": self.dtype, "backend": backend}
        net = dp.MLP(self.sizes, self.activation, self.output, ensemble=self.members, **options)
        net.parameters[...] = 0.5 * sample(net.parameters.shape, self.dtype, 5)
        return net

    def batch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """X, Y, and sample weights or None."""
        lead = (self.members,) if self.own and self.members else ()
        X = sample((*lead, self.m, self.sizes[0]), self.dtype, 1)
        Y = np.abs(sample((*lead, self.m, self.sizes[-1]), self.dtype, 2))
        if self.loss == "cross_entropy":
            Y = np.argmax(Y, axis=-1)
        weights = np.abs(sample((*lead, self.m), self.dtype, 3)) if self.weighted else None
        return X, Y, weights


def answers(net: dp.MLP, task: Task, rate: float = 0.125) -> dict[str, np.ndarray]:
    """All that a net says to its batch, asked once and again; its parameters take two steps."""
    X, Y, weights = task.batch()
    found: dict[str, Any] = {"outputs": net.predict(X)}
    found["loss"] = net.loss(X, Y, task.loss, weights)
    for again in ("", " again"):
        value, gradient = net.value_and_grad(X, Y, task.loss, weights)
        found |= {f"value{again}": value, f"gradient{again}": gradient.flat}
    for again in ("", " again"):
        found[f"value before the step{again}"] = net.train_step(X, Y, task.loss, rate, weights)
        found[f"parameters after the step{again}"] = net.parameters.copy()
    return {name: np.atleast_1d(x) for name, x in found.items()}


def assert_as_reference(task: Task, ways: dict[str, Way] = WAYS) -> None:
    """In each of the ways every answer has the bits of the reference's."""
    wanted = answers(task.net("reference"), task)
    for name, way in ways.items():
        with shared(way):
            found = answers(task.net("numba"), task)
        for what, x in wanted.items():
            assert_same_bits(found[what], x, f"{name}: {what} of {task}")


def plan_of(task: Task, way: Way) -> Plan:
    """The plan of the task's gradient."""
    with shared(way):
        net = task.net("numba")
        loss = net._loss(task.loss)
        form = net._sweeps.form
        return Plan(form, loss, task.m, True, task.members or 1)
