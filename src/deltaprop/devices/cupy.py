"""An NVIDIA GPU, through CuPy: its arrays, its current device and stream.

CuPy compiles source with options the specification forbids (it flushes subnormals), so
units are compiled by NVRTC here (nvrtc.py) and only loaded by CuPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import cupy
import numpy as np

from deltaprop.devices.nvrtc import cubin_file
from deltaprop.devices.unit import Unit
from deltaprop.errors import DeviceMemoryError, KernelError

T = TypeVar("T")

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


@cache
def _attribute(name: str, device: int) -> int:
    """CuPy asks the driver for all there are."""
    return int(cupy.cuda.Device(device).attributes[name])


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


def _with_room(allocate: Callable[[], T], shape: tuple[int, ...], dtype: np.dtype[Any]) -> T:
    """What `allocate` returns. Raises DeviceMemoryError, which says what was wanted and is free."""
    try:
        return allocate()
    except cupy.cuda.memory.OutOfMemoryError as error:
        free, total = cupy.cuda.runtime.memGetInfo()
        free += cupy.get_default_memory_pool().free_bytes()
        wanted, free, total = (f"{n / 1e6:,.1f} MB" for n in (_bytes(shape, dtype), free, total))
        raise DeviceMemoryError(
            f"no room on GPU {cupy.cuda.Device().id} for {shape} of {dtype}: {wanted} wanted, "
            f"{free} of {total} free; micro_batch= needs less, with the same bits"
        ) from error


class CupyDevice:
    """The `Device` that is CuPy's current GPU."""

    @property
    def processors(self) -> int:
        return _attribute("MultiProcessorCount", cupy.cuda.Device().id)

    @property
    def shared_memory(self) -> int:
        return _attribute("MaxSharedMemoryPerBlockOptin", cupy.cuda.Device().id)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return _with_room(lambda: cupy.empty(shape, dtype), shape, dtype)

    def asarray(self, x: Any) -> Any:
        return _with_room(lambda: cupy.asarray(x), x.shape, x.dtype)

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
        try:
            function = _function(unit, cupy.cuda.Device().id, shared)
            function(grid, block, values, shared_mem=shared)
        except cupy.cuda.driver.CUDADriverError as error:
            given = ", ".join(str(getattr(x, "shape", x)) for x in args)
            raise KernelError(
                f"{unit.kernel} ({unit.dtype}) for {given}, in {grid} blocks of {block}: {error}"
            ) from error
