"""The backends by name: which there are, which can run here, and why one cannot.

A backend named by anyone never falls back to another: it runs or says why it does not.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec

from deltaprop.contract import Kernels
from deltaprop.errors import BackendUnavailableError, find

AUTO_WORK = 1 << 28
"""Multiplications in the sweeps over a typical batch from which `auto` takes a GPU that works."""


@dataclass(frozen=True)
class BackendInfo:
    """One row of `dp.backends()`."""

    name: str
    available: bool
    exact: bool
    version: str
    reason: str
    """Why it is not available and what would help; empty where it is."""


@dataclass(frozen=True)
class _Backend:
    name: str
    exact: bool
    packages: tuple[str, ...]
    kernels: Callable[[], Kernels]
    """Imports what it needs; raises `BackendUnavailableError`."""


def _module(name: str) -> Kernels:
    kernels: Kernels = importlib.import_module(f"deltaprop.backends.{name}").kernels()
    return kernels


def _require_fma() -> None:
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("fma") and binding.get_process_triple()[:3] == "x86":
        raise BackendUnavailableError(
            "this CPU has no fused multiply-add; the numpy backend runs on it: backend='numpy'"
        )


def _numba() -> Kernels:
    """Numba itself is imported only where something has to be compiled."""
    for package in ("numba", "llvmlite"):
        if find_spec(package) is None:
            raise BackendUnavailableError(f"no {package} here; pip install --upgrade numba")
    _require_fma()
    return _module("numba")


def _cuda(name: str, number: int) -> Kernels:
    from deltaprop.devices.gpu import require_gpu

    require_gpu(number)
    from deltaprop.backends import cuda as table
    from deltaprop.backends.replays import Captured
    from deltaprop.devices.cupy import CupyDevice

    device = CupyDevice(number)
    return table.kernels(device, name, replays=partial(Captured, device))


def _cuda_host() -> Kernels:
    from deltaprop.backends import cuda as table
    from deltaprop.devices.host import HostDevice, compiler

    _require_fma()
    if compiler() is None:
        wanted = os.environ.get("CXX") or "g++"
        raise BackendUnavailableError(f"no C++ compiler {wanted!r}: install g++, or set CXX")
    return table.kernels(HostDevice(), "cuda-host")


CUDA_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cuda-core")
BACKENDS = {
    b.name: b
    for b in (
        _Backend("reference", True, ("numpy",), lambda: _module("reference")),
        _Backend("numpy", False, ("numpy",), lambda: _module("numpy")),
        _Backend("numba", True, ("numba", "llvmlite"), _numba),
        _Backend("cuda", True, CUDA_PACKAGES, lambda: _load("cuda")),
        _Backend("cuda-host", True, ("numpy",), _cuda_host),
    )
}
CHOICES = {name: name for name in BACKENDS} | {"cpu": "numba", "auto": "auto"}

_default: ContextVar[str | None] = ContextVar("deltaprop_backend", default=None)


@cache
def _made(name: str, gpu: int | None = None) -> Kernels:
    return BACKENDS[name].kernels() if gpu is None else _cuda(name, gpu)


def _load(name: str) -> Kernels:
    backend, _, number = name.partition(":")
    if backend == "cuda":
        from deltaprop.devices.gpu import current, require_own_process

        require_own_process()  # what was made may be a parent's
        return _made(name, int(number) if number else current())
    return _made(name)


def _reason(name: str) -> str:
    try:
        _load(name)
    except BackendUnavailableError as error:
        return str(error)
    return ""


def backends() -> list[BackendInfo]:
    """Every backend, whether it can run here, and why not."""
    return [
        BackendInfo(b.name, not (reason := _reason(b.name)), b.exact, _versions(b), reason)
        for b in BACKENDS.values()
    ]


def _versions(backend: _Backend) -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in backend.packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def is_exact(name: str) -> bool:
    """Whether that backend's results are the specification's, bit for bit."""
    return BACKENDS[name.partition(":")[0]].exact


def _named(kind: str, name: str) -> str:
    """The choice of that name; "cuda:1" is the GPU of that number."""
    backend, _, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    if backend == "cuda" and number.isdecimal():
        return f"cuda:{int(number)}"
    return find(kind, name, CHOICES)


def choice(name: str | None = None) -> str:
    """What was asked for, "auto" included: `name`, `use_backend`, $DELTAPROP_BACKEND, "auto"."""
    chosen = _default.get() if name is None else name
    if chosen is None:
        variable = os.environ.get("DELTAPROP_BACKEND") or "auto"
        chosen = _named("$DELTAPROP_BACKEND", variable)
    return _named("backend", chosen)


def resolve(name: str | None = None, work: int = 0) -> str:
    """The backend to use, for `name` or what was chosen around it: a key of `BACKENDS`, or a GPU.

    `work` is the number of multiplications that lie ahead: "auto" takes a GPU for large work.
    """
    chosen = choice(name)
    if chosen == "auto":
        return "cuda" if work >= AUTO_WORK and not _reason("cuda") else "numba"
    return chosen


def load(name: str | None = None, work: int = 0) -> Kernels:
    """The kernels of that backend.

    Raises `BackendUnavailableError` where it cannot run, ValueError for an unknown name.
    """
    resolved = resolve(name, work)
    try:
        return _load(resolved)
    except BackendUnavailableError as error:
        raise BackendUnavailableError(f"backend {resolved!r}: {error}") from error


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within the `with` block, nets and ops that name no backend of their own use this one.

    It holds for the thread (and the asyncio task) that entered the block.
    """
    token = _default.set(_named("backend", name))
    try:
        yield
    finally:
        _default.reset(token)
