"""The CUDA sources run by this CPU: compiled by a C++ compiler, a CUDA thread as a fiber.

For development: slow, and as exact as a GPU. Device memory is memory of its own, so a copy
that is missing is seen; it starts as NaN, so what no kernel wrote is seen too.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from deltaprop.devices.cache import cached, kernels_folder
from deltaprop.devices.unit import Unit
from deltaprop.errors import KernelError
from deltaprop.subnormals import require_subnormals

ORDERS = ("forward", "backward", "random")
_launching = threading.Lock()


def compiler() -> str | None:
    """The C++ compiler: $CXX, or g++."""
    return shutil.which(os.environ.get("CXX") or "g++")


def flags() -> list[str]:
    """How units are compiled; $DELTAPROP_HOST_FLAGS comes last, for sanitizers."""
    fma = ["-mfma"] if platform.machine() in ("x86_64", "AMD64") else []
    more = os.environ.get("DELTAPROP_HOST_FLAGS", "").split()
    return ["-std=c++17", "-O2", "-ffp-contract=off", *fma, "-fPIC", "-shared", *more]


def _compile(source: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="deltaprop-") as folder:
        target = Path(folder) / "unit.so"
        command = [compiler() or "g++", *flags(), f"-I{kernels_folder()}"]
        command += ["-x", "c++", "-", "-o", str(target)]
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KernelError(f"the C++ compiler failed: {' '.join(command)}\n{done.stderr}")
        return target.read_bytes()


def _library(name: str, source: str, mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL:
    depends = (source, compiler() or "", *flags())
    path = cached(name, "so", lambda: _compile(source), *depends)
    try:
        return ctypes.CDLL(str(path), mode=mode)
    except OSError as error:
        raise KernelError(f"{name} cannot be loaded: {error}; set DELTAPROP_CACHE") from error


@cache
def _runtime() -> ctypes.CDLL:
    """The fibers, loaded so that every unit finds them."""
    return _library("host", '#include "host/host.cpp"\n', mode=ctypes.RTLD_GLOBAL)


@cache
def _entry(unit: Unit) -> Any:
    _runtime()
    source = f'#include "host/host.h"\n{unit.source()}HOST_ENTRY(unit::{unit.kernel})\n'
    return _library(unit.kernel, source).launch_kernel


def _argument(x: Any) -> Any:
    """An argument as a C value: an array's address, a size, a real, or null."""
    if x is None:
        return ctypes.c_void_p(None)
    if isinstance(x, np.ndarray):
        return ctypes.c_void_p(x.ctypes.data)
    if isinstance(x, int):
        return ctypes.c_longlong(x)
    return np.ctypeslib.as_ctypes_type(x.dtype)(x)


class HostDevice:
    """The `Device` that is this CPU."""

    here: AbstractContextManager[None] = nullcontext()
    shared_memory = 227 << 10

    def __init__(self, order: str = "forward", seed: int = 0, processors: int = 2) -> None:
        self.order, self.seed, self.processors = ORDERS.index(order), seed, processors

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        x = np.empty(shape, dtype)
        x.view(np.uint8).fill(0xFF)
        return x

    def asarray(self, x: np.ndarray) -> np.ndarray:
        return x.copy()

    def to_numpy(self, x: np.ndarray) -> np.ndarray:
        return x.copy()

    def room(self) -> None:
        """All that the machine gives."""

    def launch(
        self,
        unit: Unit,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        require_subnormals()
        values = [_argument(x) for x in args]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        with _launching:
            entry = _entry(unit)
            _runtime().set_order(self.order, ctypes.c_uint32(self.seed))
            sizes = (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), shared
            failed = entry(*sizes, pointers)
        if failed:
            raise RuntimeError(
                f"{unit.kernel}: threads of a block ended while others waited at a barrier"
            )
