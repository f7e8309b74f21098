"""A stand-in for CuPy that computes on the CPU and is as strict about arrays as CuPy is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from deltaprop.backends import cuda as table
from deltaprop.backends import load
from deltaprop.backends.replays import Captured
from deltaprop.contract import Kernels
from deltaprop.devices.host import HostDevice
from foreign import memory_of


class Tape:
    """What is captured in place of being run, while a stream captures."""

    steps: list[Callable[[], object]] | None = None
    waits = 0
    """How often somebody waited for the GPU."""

    def do(self, step: Callable[[], object]) -> None:
        """Now, or whenever the graph is launched."""
        if self.steps is None:
            step()
        else:
            self.steps.append(step)

    def wait(self) -> None:
        assert self.steps is None, "nobody may wait for a stream that captures"
        self.waits += 1


TAPE = Tape()


def filled(shape: tuple[int, ...], dtype: Any, compute: Callable[[], Any]) -> DeviceArray:
    """A new array, which `compute` fills."""
    memory = np.empty(shape, dtype)
    memory.reshape(-1).view(np.uint8).fill(0xFF)
    TAPE.do(lambda: np.copyto(memory, compute()))
    return DeviceArray(memory)


class DeviceArray:
    """As much of CuPy's array as deltaprop uses. NumPy arrays do not mix with it.

    It is on the GPU that was current when it was made, and is used while that one is.
    """

    __module__ = "cupy"
    __array_ufunc__ = None

    def __init__(self, memory: np.ndarray, device: Gpu | None = None) -> None:
        self.memory, self.device = memory, device or Gpu()

    def _view(self, memory: np.ndarray) -> DeviceArray:
        return DeviceArray(memory, self.device)

    @property
    def _memory(self) -> np.ndarray:
        assert self.device.id == Gpu.current, "an array of another GPU than the current one"
        return self.memory

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    dtype = property(lambda self: self.memory.dtype)
    shape = property(lambda self: self.memory.shape)
    ndim = property(lambda self: self.memory.ndim)
    size = property(lambda self: self.memory.size)
    strides = property(lambda self: self.memory.strides)
    data = property(lambda self: SimpleNamespace(ptr=self.memory.ctypes.data))
    T = property(lambda self: self._view(self.memory.T))

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.id

    def __dlpack__(self, *, stream: int) -> Any:
        return self.memory.__dlpack__()

    def __len__(self) -> int:
        return len(self.memory)

    def __float__(self) -> float:
        return float(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __getitem__(self, where: Any) -> DeviceArray:
        memory, there = self.memory, index(where)
        found = np.asarray(memory[there])
        if np.may_share_memory(found, memory):
            return self._view(found)
        assert memory is self._memory
        return filled(found.shape, found.dtype, lambda: memory[there])

    def __setitem__(self, where: Any, value: Any) -> None:
        memory, there, new = self._memory, index(where), operand(value)
        TAPE.do(lambda: memory.__setitem__(there, new))

    def __sub__(self, other: Any) -> DeviceArray:
        return DeviceArray(self._memory - operand(other))

    def __gt__(self, other: Any) -> DeviceArray:
        return DeviceArray(self._memory > operand(other))

    def __abs__(self) -> DeviceArray:
        return DeviceArray(np.abs(self._memory))

    def sum(self, axis: int) -> DeviceArray:
        return DeviceArray(self._memory.sum(axis=axis))

    def any(self) -> DeviceArray:
        return DeviceArray(np.asarray(self._memory.any()))

    def reshape(self, *shape: Any) -> DeviceArray:
        return self._view(self.memory.reshape(*shape))

    def take(self, indices: DeviceArray, axis: int) -> DeviceArray:
        memory, there = self._memory, operand(indices)
        shape = memory.take(there, axis=axis).shape
        return filled(shape, self.dtype, lambda: memory.take(there, axis=axis))

    def copy(self) -> DeviceArray:
        memory = self._memory
        return filled(memory.shape, self.dtype, lambda: memory)

    def get(self) -> np.ndarray:
        TAPE.wait()
        return self.memory.copy()


def operand(x: Any) -> Any:
    """What CuPy computes with: its own arrays and scalars."""
    if isinstance(x, DeviceArray):
        return x._memory
    if isinstance(x, (bool, int, float, np.generic)):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def index(where: Any) -> Any:
    """What CuPy takes an array at: slices, integers and its own arrays."""
    if isinstance(where, tuple):
        return tuple(map(index, where))
    return where if isinstance(where, slice) or where in (None, ...) else operand(where)


def in_one_piece(x: np.ndarray) -> bool:
    """All of it, or what belongs to each member of an ensemble."""
    return x.flags.c_contiguous or (x.ndim == 3 and x[0].flags.c_contiguous)


class NeverError(Exception):
    """What this stand-in does not raise."""


ERRORS = {
    "memory": SimpleNamespace(OutOfMemoryError=NeverError),
    "driver": SimpleNamespace(CUDADriverError=NeverError),
}


class Gpu:
    """One of two; what a program does within the block is done there."""

    current = 0
    compute_capability = "90"
    attributes: ClassVar = {"MultiProcessorCount": 2, "MaxSharedMemoryPerBlockOptin": 232_448}

    def __init__(self, number: int | None = None) -> None:
        self.id = Gpu.current if number is None else number
        self._before: list[int] = []

    def __enter__(self) -> Gpu:
        self._before.append(Gpu.current)
        Gpu.current = self.id
        return self

    def __exit__(self, *_: Any) -> None:
        Gpu.current = self._before.pop()


class Stream:
    """One that captures; the current one of those that are entered."""

    ptr = 0

    def __init__(self, non_blocking: bool = False) -> None:
        self.ptr = id(self)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def begin_capture(self) -> None:
        assert TAPE.steps is None
        TAPE.steps = []

    def end_capture(self) -> Any:
        steps, TAPE.steps = TAPE.steps or [], None

        def launch() -> None:
            CAPTURED.append(len(steps))
            for step in steps:
                step()

        return SimpleNamespace(launch=launch)


CAPTURED: list[int] = []
"""Of every graph that was launched, how many things it does."""

STREAMS = {
    "Stream": Stream,
    "MemoryPool": lambda: SimpleNamespace(malloc=None),
    "using_allocator": lambda _: nullcontext(),
    "get_current_stream": lambda: SimpleNamespace(ptr=0),
}


class StrictCupy(ModuleType):
    """The module: arrays in a memory of their own, which starts as NaN."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.host = HostDevice()
        self.cuda = SimpleNamespace(Device=Gpu, **STREAMS, **ERRORS)
        self.free = 1 << 30
        self.cuda.runtime = SimpleNamespace(
            CUDARuntimeError=NeverError, memGetInfo=lambda: (self.free, 1 << 37)
        )

    def get_default_memory_pool(self) -> Any:
        return SimpleNamespace(free_bytes=lambda: 0)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        return DeviceArray(self.host.empty(shape, dtype))

    def asarray(self, x: Any) -> DeviceArray:
        if hasattr(x, "__cuda_array_interface__"):
            there = SimpleNamespace(__array_interface__=x.__cuda_array_interface__, owner=x)
            return DeviceArray(np.asarray(there))
        return x if isinstance(x, DeviceArray) else DeviceArray(np.array(x))

    def from_dlpack(self, x: Any) -> DeviceArray:
        kind, number = x.__dlpack_device__()
        assert kind == 2
        return DeviceArray(memory_of(x.__dlpack__(stream=1)), Gpu(number))

    def ascontiguousarray(self, x: DeviceArray, dtype: Any) -> DeviceArray:
        return DeviceArray(np.ascontiguousarray(x._memory, dtype))

    def asnumpy(self, x: DeviceArray) -> np.ndarray:
        return x.get()

    def function(self, unit: Any, device: int, shared: int) -> Any:
        """What launches a unit, of the same sources, on the CPU."""

        def launch(grid: Any, block: Any, args: tuple[Any, ...], shared_mem: int) -> None:
            for x in args:
                assert not isinstance(x, np.ndarray), "a NumPy array has no address on a GPU"
                assert not isinstance(x, DeviceArray) or in_one_piece(x._memory)
            assert device == Gpu.current
            given = tuple(x._memory if isinstance(x, DeviceArray) else x for x in args)
            TAPE.do(lambda: self.host.launch(unit, grid, block, given, shared_mem))

        return launch


def use_strict_cupy(patch: pytest.MonkeyPatch) -> StrictCupy:
    """From now on, nets on backend "cuda" compute through the stand-in."""
    import importlib

    cupy = StrictCupy()
    patch.setitem(sys.modules, "cupy", cupy)
    patch.delitem(sys.modules, "deltaprop.devices.cupy", raising=False)
    device = importlib.import_module("deltaprop.devices.cupy")
    patch.setattr(device, "_function", cupy.function)
    patch.delitem(sys.modules, "deltaprop.devices.cupy")
    gpus = {name: device.CupyDevice(i) for i, name in enumerate(("cuda", "cuda:1"))}
    kernels = {
        name: table.kernels(gpu, name, replays=partial(Captured, gpu)) for name, gpu in gpus.items()
    }
    kernels["cuda:0"] = kernels["cuda"]

    def load_or_stand_in(name: str | None = None, work: int = 0) -> Kernels:
        return kernels.get(name or "") or load(name, work)

    for module in ("mlp", "graph", "ops"):
        patch.setattr(f"deltaprop.{module}.load_backend", load_or_stand_in)
    return cupy
