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


@cache
def _function(unit: Unit, device: int) -> Any:
    major, minor = divmod(int(cupy.cuda.Device(device).compute_capability), 10)
    module = cupy.RawModule(path=str(cubin_file(unit, f"sm_{major}{minor}")))
    return module.get_function(unit.kernel)


class CupyDevice:
    """The `Device` that is CuPy's current GPU."""

    @property
    def processors(self) -> int:
        return int(cupy.cuda.Device().attributes["MultiProcessorCount"])

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
    ) -> None:
        # An int is passed in eight bytes, as is the null that stands for an absent array.
        values = tuple(np.uint64(0) if x is None else x for x in args)
        _function(unit, cupy.cuda.Device().id)(grid, block, values)
