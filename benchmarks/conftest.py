"""Every kernel on every backend here: its answer checked, then its time and rate.

    pytest benchmarks                                one table for each kernel
    pytest benchmarks -k hidden_delta --benchmark-json results.json

`extra_info` holds the achieved GFLOP/s and GB/s and the largest difference from float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.backends import load
from deltaprop.contract import Array, Fan, Kernels

HERE = [b.name for b in dp.backends() if b.available]
SIDE = {"reference": 48, "cuda-host": 96, "cuda": 2048}
"""Samples, units and inputs of a benchmark; 512 on backends not named."""


@dataclass(frozen=True)
class Case:
    """One backend, the size that suits it, and the benchmark fixture."""

    k: Kernels
    m: int
    n: int
    n_in: int
    dtype: str
    benchmark: Any

    def draw(self, *shape: int, seed: int = 0) -> np.ndarray:
        """Normal random numbers."""
        return np.random.default_rng(seed).standard_normal(shape).astype(self.dtype)

    def here(self, *arrays: np.ndarray) -> list[Array]:
        """Arrays on the backend."""
        return [self.k.arrays.asarray(x) for x in arrays]

    def fan(self, fan: Fan) -> Fan:
        """The fan on the backend."""
        return Fan(*self.here(fan.start, fan.peer), fan.longest)

    def measure(
        self,
        call: Callable[[], Array],
        wanted: np.ndarray,
        bound: np.ndarray | float,
        flops: float = 0,
        moved: float = 0,
    ) -> None:
        """Checks the answer of `call` against `wanted` (float64) to within `bound`, times it.

        `flops` and `moved` (numbers read and written) are what the equation asks for.
        """
        difference = np.abs(self.k.arrays.to_numpy(call()) - wanted)
        assert np.all(difference <= bound), f"{self.k.name}: off by {difference.max()}"

        def timed() -> None:
            call()
            if self.k.name == "cuda":
                import cupy

                cupy.cuda.get_current_stream().synchronize()

        self.benchmark(timed)
        info = self.benchmark.extra_info
        info["largest difference from float64"] = float(difference.max())
        if self.benchmark.stats is not None:  # --benchmark-disable only checks
            seconds = self.benchmark.stats.stats.median
            info["GFLOP/s"] = flops / seconds / 1e9
            info["GB/s"] = moved * np.dtype(self.dtype).itemsize / seconds / 1e9


@pytest.fixture(params=HERE)
def case(request: pytest.FixtureRequest, benchmark: Any) -> Case:
    """A case for every backend of this machine, float32."""
    side = SIDE.get(request.param, 512)
    benchmark.group = request.node.originalname
    return Case(load(request.param), side, side, side, "float32", benchmark)


def random_fan(case: Case, edges: int = 16) -> tuple[Fan, np.ndarray]:
    """That many edges a unit for n units, peers among n_in rows, and their weights."""
    peer = np.random.default_rng(9).integers(0, case.n_in, case.n * edges).astype(np.int32)
    start = np.arange(case.n + 1, dtype=np.int64) * edges
    return Fan(start, peer, edges), case.draw(peer.size, seed=8)


def rounding(terms: int, size: np.ndarray) -> np.ndarray:
    """n u (|A||B|): how far a float32 sum of products may be off."""
    return (terms + 8) * 2.0**-24 * size
