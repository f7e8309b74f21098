"""An NVIDIA GPU, through CuPy: its arrays, its current device and stream.

CuPy compiles source with options the specification forbids (it flushes subnormals), so
units are compiled by NVRTC here (nvrtc.py) and only loaded by CuPy.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cupy
import numpy as np

from deltaprop.devices.nvrtc import cubin_file
from deltaprop.devices.unit import Unit

SHARED_UNASKED = 48 << 10
"""Bytes of shared memory that a block may have without being allowed more."""


@cache
def _function(unit: Unit, device: int, shared: int) -> Any:
    major, minor = divmod(int(cupy.cuda.Device(device).compute_capability), 10)
    module = cupy.RawModule(path=str(cubin_file(unit, f"sm_{major}{minor}")))
    function = module.get_function(unit.kernel)
    if shared > SHARED_UNASKED:
        function.max_dynamic_shared_size_bytes = shared
    return function


class CupyDevice:
    """The `Device` that is CuPy's current GPU."""

    @property
    def processors(self) -> int:
        return int(cupy.cuda.Device().attributes["MultiProcessorCount"])

    @property
    def shared_memory(self) -> int:
        return int(cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"])

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return cupy.empty(shape, dtype)

    def asarray(self, x: Any) -> Any:
        return cupy.asarray(x)

    def to_numpy(self, x: Any) -> Any:
        return cupy.asnumpy(x)

    def launch(
        self,
        unit: Unit,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        # An int is passed in eight bytes, as is the null that stands for an absent array.
        values = tuple(np.uint64(0) if x is None else x for x in args)
        function = _function(unit, cupy.cuda.Device().id, shared)
        function(grid, block, values, shared_mem=shared)
