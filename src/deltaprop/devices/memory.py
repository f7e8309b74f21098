"""Arrays in this machine's memory: NumPy's."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

LINE, LARGE = 64, 1 << 16
"""Bytes of a cache line, and of arrays that begin at one."""


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """A new array. A large one begins at a cache line: JAX takes no other without a copy."""
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    room = np.empty(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape)


class NumpyArrays:
    """The `Arrays` of every backend that computes on NumPy arrays."""

    here: AbstractContextManager[None] = nullcontext()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        return empty(shape, dtype)

    def asarray(self, x: np.ndarray) -> np.ndarray:
        return x

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        return x

    def room(self) -> None:
        """All that the machine gives."""
