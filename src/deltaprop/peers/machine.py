"""Which machine it was, which versions, and how many threads everybody may use.

A thread limit is set where every library reads it: in the environment, before it is loaded, and
in the processors that the process may run on. So a command with another limit than its own runs
itself again, in a process that begins with that limit.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("deltaprop", "numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "scikit-learn"),
    *("triton", "cupy-cuda13x", "cupy-cuda12x", "cuda-core", "nvidia-cuda-nvrtc", "nvidia-cublas"),
)
VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "DELTAPROP_NUM_THREADS",
    "NPROC",  # XLA's
)


def threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limited_to(count: int) -> bool:
    """Whether this process began with that limit."""
    pinned = not hasattr(os, "sched_getaffinity") or threads() == count
    return pinned and all(os.environ.get(name) == str(count) for name in VARIABLES)


def run_limited(count: int, module: str, arguments: Sequence[str]) -> Iterator[str]:
    """The lines that the module prints, run with that many threads and processors.

    Raises ValueError where there are fewer processors, RuntimeError if the command fails.
    """
    if not 1 <= count <= threads():
        raise ValueError(f"threads must be from 1 to {threads()}, got {count}")
    environment = os.environ | dict.fromkeys(VARIABLES, str(count))
    command = [sys.executable, "-u", "-m", module, *arguments]
    before = _pin(count)
    try:
        child = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
    finally:
        if before:
            os.sched_setaffinity(0, before)
    assert child.stdout is not None
    failure = f"{module} failed"
    with child:
        for line in map(str.rstrip, child.stdout):
            if line.startswith("Error: "):
                failure = line.removeprefix("Error: ")
            else:
                yield line
    if child.returncode:
        raise RuntimeError(failure)


def _pin(count: int) -> set[int]:
    """This thread to its first processors, which a new process inherits; those it had before."""
    if not hasattr(os, "sched_setaffinity"):
        return set()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    return before


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (x.partition(":")[2].strip() for x in lines if "model name" in x)
    return next(names, platform.processor() or platform.machine())


def description() -> dict[str, object]:
    """What a figure depends on besides the program."""
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


@cache
def gpu() -> dict[str, Any]:
    """CuPy's current GPU and its driver; asked once, for nvidia-smi takes a second."""
    import cupy

    device = cupy.cuda.Device()
    properties = cupy.cuda.runtime.getDeviceProperties(device.id)
    return {
        "name": properties["name"].decode(),
        "processors": int(properties["multiProcessorCount"]),
        "memory_bytes": int(properties["totalGlobalMem"]),
        "l2_bytes": int(properties["l2CacheSize"]),
        "compute_capability": str(device.compute_capability),
        "driver": _driver(),
        "cuda_of_driver": int(cupy.cuda.runtime.driverGetVersion()),
    }


def slug() -> str:
    """The GPU's name as part of a file's: "h200"."""
    name = str(gpu()["name"]).lower().replace("nvidia", "")
    return re.sub("[^a-z0-9]+", "-", name).strip("-")


def _driver() -> str:
    """As nvidia-smi says it; empty where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.partition("\n")[0].strip()


def of(backend: str) -> dict[str, Any]:
    """`description` of the machine, and its GPU where the backend computes there."""
    return description() | ({"gpu": gpu()} if backend == "cuda" else {})


def versions() -> dict[str, str]:
    """Of every package that takes part; those not installed are left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
