"""A library of arrays that knows NumPy and CuPy through DLPack alone, on the CPU and on GPUs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

CPU, GPU, OTHER_GPU, METAL = (1, 0), (2, 0), (2, 1), (8, 0)


class Tensor:
    """As much of an array as any library's has. It becomes NumPy's by DLPack or not at all.

    `exports` holds the arguments of every `__dlpack__`.
    """

    def __init__(self, memory: np.ndarray, place: tuple[int, int] = CPU) -> None:
        self.memory, self.place, self.exports = memory, place, list[dict[str, Any]]()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place

    def __dlpack__(self, **options: Any) -> Any:
        self.exports.append(options)
        assert ("stream" in options) == (self.place[0] == 2), "a GPU's consumer names its stream"
        return self.memory.__dlpack__(max_version=(1, 0))

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("this would be a copy")

    shape = property(lambda self: self.memory.shape)
    ndim = property(lambda self: self.memory.ndim)
    dtype = property(lambda self: SimpleNamespace(itemsize=self.memory.itemsize))
    address = property(lambda self: self.memory.ctypes.data)

    def __len__(self) -> int:
        return len(self.memory)

    def __float__(self) -> float:
        return float(self.memory)

    def __getitem__(self, where: Any) -> Tensor:
        return Tensor(np.asarray(self.memory[where]), self.place)

    def reshape(self, *shape: int) -> Tensor:
        return Tensor(self.memory.reshape(*shape), self.place)


def from_dlpack(x: Any) -> Tensor:
    """The library's array over the memory of x, NumPy's or CuPy's."""
    place = tuple(map(int, x.__dlpack_device__()))
    return Tensor(memory_of(x.__dlpack__(**({"stream": 7} if place[0] == 2 else {}))), place)


def memory_of(capsule: Any) -> np.ndarray:
    """What a capsule of DLPack holds, be it a GPU's or not: in tests all is the machine's."""
    return np.from_dlpack(_Holder(capsule))


class _Holder:
    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule


class Interface:
    """An array on a GPU that has `__cuda_array_interface__` and no DLPack; nor has its library."""

    __module__ = "builtins"

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.memory.__array_interface__ | {"stream": 1}
