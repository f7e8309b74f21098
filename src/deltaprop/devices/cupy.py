"""An NVIDIA GPU, through CuPy: its arrays, and the stream that is current on it.

CuPy compiles source with options the specification forbids (it flushes subnormals), so
units are compiled by NVRTC here (nvrtc.py) and only loaded by CuPy.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import cupy
import numpy as np

from deltaprop.devices.gpu import CUDA, FORKED, architecture
from deltaprop.devices.launched import FAULTS, Launched
from deltaprop.devices.nvrtc import cubin_file
from deltaprop.devices.unit import Unit
from deltaprop.errors import DeviceMemoryError, KernelError

T = TypeVar("T")

ERRORS = cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError

NULL = np.uint64(0)
"""An int is passed in eight bytes, as is the null that stands for an absent array."""


@cache
def _module(unit: Unit, device: int) -> Any:
    """A file may go or change once it was looked at: what is refused is compiled anew, once."""
    arch = architecture(device)
    for anew in (False, True):
        path = cubin_file(unit, arch, anew)
        try:
            module = cupy.RawModule(path=str(path))
            module.get_function(unit.kernel)
            return module
        except ERRORS as error:
            if error.status in FAULTS:
                raise
            refused = error
    raise KernelError(
        f"GPU {device} ({arch}) cannot load {unit.kernel} from {path}: {refused}"
    ) from refused


@cache
def _function(unit: Unit, device: int, shared: int) -> Any:
    function = _module(unit, device).get_function(unit.kernel)
    # The driver has one function for all amounts: what another was allowed stays allowed.
    allowed = function.max_dynamic_shared_size_bytes
    function.max_dynamic_shared_size_bytes = max(allowed, shared)
    return function


@cache
def _attribute(name: str, device: int) -> int:
    """CuPy asks the driver for all there are."""
    return int(cupy.cuda.Device(device).attributes[name])


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


def _room() -> int:
    """Bytes of the GPU that are free, those that CuPy's pool holds included."""
    free, _ = cupy.cuda.runtime.memGetInfo()
    return int(free + cupy.get_default_memory_pool().free_bytes())


def _no_room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceMemoryError:
    """Says what was wanted and is free."""
    sizes = _bytes(shape, dtype), _room(), cupy.cuda.runtime.memGetInfo()[1]
    wanted, free, total = (f"{n / 1e6:,.1f} MB" for n in sizes)
    return DeviceMemoryError(
        f"no room on GPU {cupy.cuda.Device().id} for {shape} of {dtype}: {wanted} wanted, "
        f'{free} of {total} free; micro_batch="auto" needs less, with the same bits'
    )


class Capture:
    """Captures sweeps in CUDA graphs; arrays that are no longer used make room for the next ones.

    A graph writes to the same memory again and again, so that is of a pool of its own.
    """

    def __init__(self, launched: Launched) -> None:
        self._launched = launched
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._memory = cupy.cuda.MemoryPool()

    def __call__(self, sweep: Callable[[], T]) -> tuple[Callable[[], None], T]:
        with self._stream as stream, cupy.cuda.using_allocator(self._memory.malloc):
            stream.begin_capture()
            try:
                result = sweep()
            except BaseException:
                with suppress(*ERRORS):
                    stream.end_capture()
                raise
            graph = stream.end_capture()
        last = self._launched.last()

        def launch() -> None:
            try:
                graph.launch()
            except ERRORS as error:
                raise self._launched.failed(error) from error
            self._launched.note_all(last)

        return launch, result


class CupyDevice:
    """The `Device` that is a GPU: that of a number, or the one that is CuPy's current one now.

    Raises DeviceMemoryError without room, KernelError where the GPU fails or refuses a kernel.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = cupy.cuda.Device().id if number is None else number
        self.here = cupy.cuda.Device(self.number)
        self._launched = Launched()
        CUDA.started = True

    @property
    def processors(self) -> int:
        return _attribute("MultiProcessorCount", self.number)

    @property
    def shared_memory(self) -> int:
        return _attribute("MaxSharedMemoryPerBlockOptin", self.number)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return self._allocate(lambda: cupy.empty(shape, dtype), shape, dtype)

    def asarray(self, x: Any) -> Any:
        return self._allocate(lambda: cupy.asarray(x), x.shape, x.dtype)

    def to_numpy(self, x: Any) -> Any:
        if CUDA.forked:
            raise KernelError(FORKED)
        try:
            with self.here:
                there = cupy.asnumpy(x)
        except ERRORS as error:
            raise self._launched.failed(error) from error
        self._launched.forget()
        return there

    def room(self) -> int:
        with self.here:
            return _room()

    def launch(
        self,
        unit: Unit,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        if CUDA.forked:
            raise KernelError(FORKED)
        values = tuple([NULL if x is None else x for x in args])
        launch = unit, grid, block, [x if type(x) is int else x.shape for x in values]
        try:
            with self.here:
                function = _function(unit, self.number, shared)
                function(grid, block, values, shared_mem=shared)
        except ERRORS as error:
            raise self._launched.refused(launch, error) from error
        self._launched.note(launch)

    def place(self) -> tuple[int, int]:
        """This thread, and the stream that is current on this GPU."""
        return threading.get_ident(), cupy.cuda.get_current_stream().ptr

    def address(self, x: Any) -> tuple[Any, ...]:
        return x.data.ptr, x.shape, x.strides

    def capture(self) -> Capture:
        return Capture(self._launched)

    def _allocate(
        self, allocate: Callable[[], T], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> T:
        if CUDA.forked:
            raise KernelError(FORKED)
        try:
            with self.here:
                return allocate()
        except cupy.cuda.memory.OutOfMemoryError as error:
            with self.here:
                raise _no_room(shape, dtype) from error
        except ERRORS as error:
            raise self._launched.failed(error) from error
