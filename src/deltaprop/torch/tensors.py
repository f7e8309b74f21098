"""Tensors as the arrays of a backend, and back, without a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deltaprop.backends import choice, load
from deltaprop.contract import Array

DTYPES = {torch.float32: "float32", torch.float64: "float64"}

HERE = nullcontext()


def check_tensors(tensors: Sequence[Tensor | None], name: Callable[[int], str]) -> None:
    """Raises TypeError unless all are float32, or all float64; ValueError unless on one device.

    That is a CPU or a CUDA GPU. `name` says which is number i; number 0 is there.
    """
    first: Any = tensors[0]
    dtype, device = first.dtype, first.device
    given = [x for x in tensors if x is not None]
    if first.is_cpu and dtype in DTYPES and all(x.dtype is dtype and x.is_cpu for x in given):
        return
    for i, x in enumerate(tensors):
        if x is None:
            continue
        if x.dtype not in DTYPES:
            raise TypeError(f"{name(i)} is {x.dtype}: deltaprop computes in float32 and float64")
        if x.device.type not in ("cpu", "cuda"):
            raise ValueError(f"{name(i)} is on {x.device}: deltaprop computes on a CPU or CUDA GPU")
        if x.dtype != dtype:
            raise TypeError(f"{name(i)} is {x.dtype}, but {name(0)} is {dtype}")
        if x.device != device:
            raise ValueError(f"{name(i)} is on {x.device}, but {name(0)} is on {device}")


def backend_for(device: torch.device, of_cpu: str) -> str:
    """The backend that computes on that device: `of_cpu`, or that GPU's."""
    return of_cpu if device.type == "cpu" else f"cuda:{device.index}"


def cpu_backend(name: str | None) -> str:
    """The backend for tensors on the CPU: of that name, chosen around it, or "cpu"."""
    chosen = choice(name)
    if chosen != "cuda-host" and chosen.startswith("cuda"):
        if name is not None:
            raise ValueError(f"backend {name!r} computes where tensors are: move them to a GPU")
        chosen = "auto"  # what was chosen around it is for tensors there
    found = "numba" if chosen == "auto" else chosen
    load(found)
    return found


def array_of(x: Tensor) -> Array:
    """NumPy's or CuPy's array over the tensor's memory; over a copy's if it is not contiguous."""
    x = x.detach() if x.requires_grad else x
    x = x if x.is_contiguous() else x.contiguous()
    if x.is_cpu:
        return x.numpy()
    import cupy

    return cupy.from_dlpack(x)


def tensor_of(x: Array) -> Tensor:
    """The tensor over the array's memory."""
    return torch.from_numpy(x) if isinstance(x, np.ndarray) else torch.from_dlpack(x)


def on_stream(device: torch.device) -> AbstractContextManager[None]:
    """Within it CuPy launches on PyTorch's current stream of that GPU. Nothing on a CPU."""
    return HERE if device.type == "cpu" else _on_stream(device)


@contextmanager
def _on_stream(device: torch.device) -> Iterator[None]:
    import cupy

    stream = torch.cuda.current_stream(device).cuda_stream
    with cupy.cuda.Device(device.index), cupy.cuda.ExternalStream(stream, device.index):
        yield


def on_arrays(compute: Callable[..., Sequence[Array | None]], *given: Any) -> list[Any]:
    """What `compute` returns of arrays, as tensors; given tensors, lists of them, or others."""
    device = next(x.device for x in given if isinstance(x, Tensor))
    with on_stream(device):
        found = compute(*map(_arrays, given))
        return [None if x is None else tensor_of(x) for x in found]


def _arrays(x: Any) -> Any:
    if isinstance(x, Tensor):
        return array_of(x)
    return [_arrays(y) for y in x] if isinstance(x, (list, tuple)) else x
