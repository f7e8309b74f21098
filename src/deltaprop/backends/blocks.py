"""The memory of one call at a time, and the words that tell compiled code of it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from deltaprop.backends import team
from deltaprop.backends.records import CALL
from deltaprop.subnormals import SubnormalsFlushedError

LINE = 64
"""Bytes of a cache line."""


class Memory:
    """So many bytes, and `at`, the address in them where a cache line begins.

    They are 0 at first: a vector that is longer than a row reads on, to no harm, but what was
    left there might be subnormal numbers, which processors are slow with.
    """

    def __init__(self, count: int) -> None:
        self.bytes = np.empty(count + LINE, np.uint8)
        self.bytes[:] = 0
        self.at = -(-self.bytes.ctypes.data // LINE) * LINE


def _next(x: np.ndarray | None) -> int:
    """From one member's numbers to the next one's."""
    return 0 if x is None or x.ndim == 2 else x.strides[0]


class Block:
    """The memory of one call at a time."""

    CALL = struct.Struct(f"{len(CALL)}q")
    FIRST = struct.Struct("5q")

    def __init__(
        self,
        plan: np.ndarray,
        layers: np.ndarray,
        rooms: dict[str, int],
        sweep: int,
        threads: int,
        dtype: np.dtype[Any],
    ) -> None:
        words = plan.copy()
        self.rooms = {name: Memory(size) for name, size in rooms.items()}
        for name, memory in self.rooms.items():
            words[name] = memory.at
        self.sweep, self.threads, members = sweep, threads, int(plan["members"])
        self.scale, self.rate = np.zeros(1, dtype), np.zeros(members, dtype)
        words["scale"] = id(self.scale)
        self.words = np.frombuffer(words.tobytes() + layers.tobytes(), np.int64).copy()
        self.where = self.words.ctypes.data
        self.buffer = memoryview(self.words.data).cast("B")

    def fill(
        self,
        parameters: np.ndarray,
        X: np.ndarray,
        Y: np.ndarray | None,
        weights: np.ndarray | None,
        gradient: np.ndarray | None,
        outputs: np.ndarray | None,
        errors: np.ndarray,
        rate: float | list[float] | None,
        scale: float | None,
    ) -> None:
        """The arrays of a call, which the caller holds until it is over."""
        if scale is not None:
            self.scale[0] = scale
        if rate is not None:
            self.rate[:] = rate
            gradient = parameters
        self.CALL.pack_into(
            self.buffer,
            0,
            id(parameters),
            0 if gradient is None else id(gradient),
            id(X),
            0 if Y is None else id(Y),
            0 if rate is None else id(self.rate),
            0 if weights is None else id(weights),
            0 if outputs is None else id(outputs),
            id(errors),
            0,
            team.memory(),
            _next(X),
            _next(Y),
            _next(weights),
            self.rate.itemsize,
        )

    def settled(self, loss_scale: np.floating, delta_scale: float) -> Block:
        """The block, all of it filled but for what `value` is given."""
        x, self.loss_scale = self.scale.reshape(1, 1), np.array([loss_scale])
        self.errors = np.zeros_like(self.scale)
        self.fill(self.scale, x, x, None, None, None, self.errors, None, delta_scale)
        self.words[CALL.index("loss_scale")] = id(self.loss_scale)
        self.call, self.own_rate = team.function(self.sweep), id(self.rate)
        self.rates: Any
        self.values: Any
        self.rates, self.values = self.rate.data, self.errors.data
        return self

    def value(
        self,
        parameters: np.ndarray,
        X: np.ndarray,
        Y: np.ndarray,
        gradient: np.ndarray | None,
        rate: float | None,
    ) -> float:
        """The loss; the gradient, or a step of that rate."""
        own_rate = 0
        if rate is not None:
            self.rates[0], own_rate, gradient = rate, self.own_rate, parameters
        self.FIRST.pack_into(self.buffer, 0, id(parameters), id(gradient), id(X), id(Y), own_rate)
        if self.threads == 1:
            if self.call(self.where, 0, 1):
                raise SubnormalsFlushedError
        else:
            self.words[CALL.index("team")] = team.memory()
            team.run(self.sweep, self.where, self.threads)
        value: float = self.values[0]
        return value
