"""A stand-in for CuPy that computes on the CPU and is as strict about arrays as CuPy is."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deltaprop.backends import cuda as table
from deltaprop.backends import load
from deltaprop.contract import Kernels
from deltaprop.devices.host import HostDevice


class DeviceArray:
    """As much of CuPy's array as deltaprop uses. NumPy arrays do not mix with it."""

    __module__ = "cupy"
    __array_ufunc__ = None

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    dtype = property(lambda self: self._memory.dtype)
    shape = property(lambda self: self._memory.shape)
    ndim = property(lambda self: self._memory.ndim)
    size = property(lambda self: self._memory.size)
    strides = property(lambda self: self._memory.strides)
    T = property(lambda self: DeviceArray(self._memory.T))

    def __len__(self) -> int:
        return len(self._memory)

    def __float__(self) -> float:
        return float(self._memory)

    def __bool__(self) -> bool:
        return bool(self._memory)

    def __getitem__(self, where: Any) -> DeviceArray:
        return DeviceArray(np.asarray(self._memory[index(where)]))

    def __setitem__(self, where: Any, value: Any) -> None:
        self._memory[index(where)] = operand(value)

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
        return DeviceArray(self._memory.reshape(*shape))

    def take(self, indices: DeviceArray, axis: int) -> DeviceArray:
        return DeviceArray(self._memory.take(operand(indices), axis=axis))

    def copy(self) -> DeviceArray:
        return DeviceArray(self._memory.copy())

    def get(self) -> np.ndarray:
        return self._memory.copy()


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
    "runtime": SimpleNamespace(CUDARuntimeError=NeverError),
}


class StrictCupy(ModuleType):
    """The module: arrays in a memory of their own, which starts as NaN."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.host = HostDevice()
        gpu = SimpleNamespace(
            id=0, attributes={"MultiProcessorCount": 2, "MaxSharedMemoryPerBlockOptin": 232_448}
        )
        self.cuda = SimpleNamespace(Device=lambda *_: gpu, **ERRORS)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        return DeviceArray(self.host.empty(shape, dtype))

    def asarray(self, x: Any) -> DeviceArray:
        return x if isinstance(x, DeviceArray) else DeviceArray(np.array(x))

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
            given = tuple(getattr(x, "_memory", x) for x in args)
            self.host.launch(unit, grid, block, given, shared_mem)

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
    kernels = table.kernels(device.CupyDevice(), "cuda")

    def load_or_stand_in(name: str | None = None, work: int = 0) -> Kernels:
        return kernels if name == "cuda" else load(name, work)

    for module in ("mlp", "graph"):
        patch.setattr(f"deltaprop.{module}.load_backend", load_or_stand_in)
    return cupy
