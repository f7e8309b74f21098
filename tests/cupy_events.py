"""What measuring on a GPU needs of CuPy, for the stand-in: events, streams, copies, products."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from strict_cupy import DeviceArray, NeverError, StrictCupy, operand

PROPERTIES = {
    "name": b"NVIDIA Stand-in 80GB",
    "multiProcessorCount": 2,
    "totalGlobalMem": 1 << 36,
    "l2CacheSize": 1 << 20,
}


class Event:
    """A moment; `early` more queries say that it has not come."""

    early = 10**9

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        """What was recorded has happened: the stand-in computes at once."""

    @property
    def done(self) -> bool:
        Event.early -= 1
        return Event.early < 0


def copyto(target: DeviceArray, source: DeviceArray) -> None:
    np.copyto(operand(target), operand(source))


def dot(x: DeviceArray, y: DeviceArray, out: DeviceArray) -> DeviceArray:
    np.dot(operand(x), operand(y), out=operand(out))
    return out


def add_events(cupy: StrictCupy) -> Any:
    """The module with what is missing for measurements."""
    cupy.copyto, cupy.dot = copyto, dot
    cupy.cuda.Event = Event
    cupy.cuda.get_elapsed_time = lambda begin, end: 1e3 * (end.at - begin.at)
    cupy.cuda.get_current_stream = lambda: SimpleNamespace(synchronize=lambda: None, ptr=0)
    cupy.cuda.runtime = SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda number: PROPERTIES,
        driverGetVersion=lambda: 13000,
        CUDARuntimeError=NeverError,
    )
    return cupy
