"""Arrays in this machine's memory: NumPy's."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np


class NumpyArrays:
    """The `Arrays` of every backend that computes on NumPy arrays."""

    here: AbstractContextManager[None] = nullcontext()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        return np.empty(shape, dtype)

    def asarray(self, x: np.ndarray) -> np.ndarray:
        return x

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        return x

    def room(self) -> None:
        """All that the machine gives."""
