"""Whether this process can use a GPU, and why not."""

from __future__ import annotations

import os
from typing import Any

from deltaprop.devices.nvrtc import architectures, nvrtc_version
from deltaprop.errors import BackendUnavailableError

INSTALL = "pip install 'deltaprop[cuda13]' (or [cuda12]) on a machine with an NVIDIA GPU"
FORKED = (
    "CUDA was started before this process was forked from another and cannot be used here; "
    "start processes with multiprocessing.get_context('spawn')"
)
OLDEST = 75
"""The compute capability that is needed, times ten."""

HINTS = {3: f"; perhaps {FORKED}", 35: "; install a newer driver"}
"""For cudaErrorInitializationError and cudaErrorInsufficientDriver."""


class Cuda:
    """What became of CUDA in this process."""

    started = False
    forked = False
    """Whether it was started before this process was forked: then nothing of it works here."""

    def after_fork(self) -> None:
        self.forked = self.started


CUDA = Cuda()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CUDA.after_fork)


def require_own_process() -> None:
    """Raises BackendUnavailableError where CUDA is a parent's."""
    if CUDA.forked:
        raise BackendUnavailableError(FORKED)


def current() -> int:
    """The number of CuPy's current GPU; 0 where nobody can tell."""
    try:
        import cupy

        return int(cupy.cuda.Device().id)
    except Exception:  # what is wrong, `require_gpu` says
        return 0


def require_gpu(number: int) -> None:
    """Raises BackendUnavailableError where that GPU cannot be used, or is not there."""
    try:
        import cuda.core  # noqa: F401
        import cupy
    except ImportError as missing:
        raise BackendUnavailableError(f"{missing.__cause__ or missing}; {INSTALL}") from missing
    try:
        _require_driver(cupy.cuda.runtime)
        count = cupy.cuda.runtime.getDeviceCount()
        if count == 0:
            raise BackendUnavailableError("no GPU here")
        if number >= count:
            raise BackendUnavailableError(f"no GPU {number} here: there are 0 to {count - 1}")
        CUDA.started = True
        architecture(number)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        hint = HINTS.get(error.status, "")
        raise BackendUnavailableError(f"no GPU that works: {error}{hint}") from error


def _require_driver(runtime: Any) -> None:
    """One that is new enough for CuPy, and for what NVRTC makes.

    Code for the same major version, or an older one, runs on a driver.
    """
    driver, wanted = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if driver == 0:
        raise BackendUnavailableError("no NVIDIA driver here")
    try:
        nvrtc = nvrtc_version()
    except (ImportError, RuntimeError) as error:
        raise BackendUnavailableError(
            f"NVRTC, which compiles the kernels, is not here: {str(error).strip()}; pip install "
            "nvidia-cuda-nvrtc (for CUDA 12: nvidia-cuda-nvrtc-cu12)"
        ) from error
    for name, version in (("CuPy", _version(wanted)), ("NVRTC", nvrtc)):
        if int(version.partition(".")[0]) > driver // 1000:
            raise BackendUnavailableError(
                f"the NVIDIA driver is for CUDA {_version(driver)}, {name} for CUDA {version}: "
                "install a newer driver, or 'deltaprop[cuda12]' for a driver of CUDA 12"
            )


def _version(number: int) -> str:
    """As CUDA counts: 12040 is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


def architecture(device: int) -> str:
    """Of that GPU: "sm_90". Raises BackendUnavailableError where nothing can be compiled for it."""
    import cupy

    capability = int(cupy.cuda.Device(device).compute_capability)
    arch = f"sm_{capability}"
    if capability >= OLDEST and arch in architectures():
        return arch
    name = cupy.cuda.runtime.getDeviceProperties(device)["name"].decode()
    major, minor = divmod(capability, 10)
    needed = "7.5 or more is needed"
    if capability >= OLDEST:
        needed = f"NVRTC {nvrtc_version()} does not know it, a newer nvidia-cuda-nvrtc may"
    raise BackendUnavailableError(
        f"GPU {device}, {name}, has compute capability {major}.{minor}: {needed}"
    )
