"""What the machine does at most: bytes that a copy moves, products of its own library.

On a GPU that is cuBLAS, through CuPy; float32 products are float32's, not TF32. cuBLAS computes
float64 products in tensor cores, which a sum in a given order cannot use.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np

from deltaprop.ceilings.clock import Call, Clock, warm
from deltaprop.contract import Array, Kernels

COPIED = {"cuda": 1 << 30}
"""Bytes of an array that is copied, many times a GPU's second cache; less on a CPU."""
SIDES = {"cuda": (2048, 4096)}
"""Rows and columns of the products."""
ROUNDS = 7
WARM = 0.1
"""Seconds of calls before those that count."""
CALLS = 4
NUMBERS = 1_000_003


@dataclass(frozen=True)
class Limits:
    """Bytes a second, read and written; FLOP/s of square products by their side."""

    bytes: float
    flops_by_side: dict[int, float]

    @property
    def flops(self) -> float:
        """Of the fastest product."""
        return max(self.flops_by_side.values())

    def floor(self, moved: int, instructions: int) -> float:
        """Seconds that so many bytes and fused products take at least."""
        return max(moved / self.bytes, 2 * instructions / self.flops)


def measure(k: Kernels, clock: Clock, dtype: str) -> Limits:
    """Raises ValueError where float32 products would be TF32's."""
    if k.name == "cuda" and os.environ.get("CUPY_TF32", "0") != "0":
        raise ValueError("CUPY_TF32 is set: what cuBLAS does then is not what is computed here")
    xp = library(k)
    count = COPIED.get(k.name, 1 << 26)
    source, target = (k.arrays.empty((count,), np.dtype("u1")) for _ in range(2))
    copying = 2 * count / median(clock, [lambda: xp.copyto(target, source)] * CALLS)
    sides = SIDES.get(k.name, (512,))
    return Limits(copying, {n: 2 * n**3 / _product(k, clock, n, dtype) for n in sides})


def library(k: Kernels) -> ModuleType:
    """CuPy or NumPy: what computes on the backend's arrays besides."""
    if k.name != "cuda":
        return np
    import cupy

    module: ModuleType = cupy
    return module


def median(clock: Clock, calls: list[Call], rounds: int = ROUNDS) -> float:
    """Seconds of a call, after some that do not count."""
    warm(clock, calls, WARM)
    return statistics.median(clock.seconds(calls) for _ in range(rounds))


def _product(k: Kernels, clock: Clock, n: int, dtype: str) -> float:
    """Seconds of the library's product of n rows and columns; two sets of arrays in turn."""
    xp = library(k)

    def call() -> Call:
        A, B = (draw(k, dtype, n, n) for _ in range(2))
        C = k.arrays.empty((n, n), np.dtype(dtype))
        return lambda: xp.dot(A, B, out=C)

    return median(clock, [call(), call()] * (CALLS // 2))


def draw(k: Kernels, dtype: str, *shape: int) -> Array:
    """Normal random numbers where the backend computes; the same million again and again."""
    return k.arrays.asarray(np.resize(_numbers(dtype), shape))


@lru_cache(2)
def _numbers(dtype: str) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(NUMBERS).astype(dtype)
