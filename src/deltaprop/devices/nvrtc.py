"""Units compiled by NVRTC: to machine code, and to PTX to look at. Needs no GPU, no driver."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import NamedTuple

from deltaprop.devices.cache import cached, kernels_folder
from deltaprop.devices.unit import Unit
from deltaprop.errors import KernelError


class Resources(NamedTuple):
    """What a kernel takes of a processor: registers and bytes of local memory of a thread, bytes of
    shared memory of a block, and bytes of registers that had to be kept in memory.
    """

    registers: int
    local: int
    shared: int
    spilled: int


class Compiled(NamedTuple):
    """A unit for an architecture."""

    cubin: bytes
    ptx: str
    resources: Resources


def compile_unit(unit: Unit, arch: str) -> Compiled:
    """A unit for an architecture such as "sm_90".

    Subnormals are kept, divisions and square roots rounded, nothing contracted: what the
    numerics specification asks for.
    """
    from cuda.bindings import nvrtc
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(
        name=f"{unit.kernel}.unit.cu",
        arch=arch,
        std="c++17",
        ftz=False,
        fma=False,
        prec_div=True,
        prec_sqrt=True,
        include_path=str(kernels_folder()),
        ptxas_options="-v",
    )
    program, log = Program(unit.source(), "c++", options), io.StringIO()
    cubin = bytes(program.compile("cubin", logs=log).code)
    # One compilation makes both. Program.compile("ptx") would ask for a driver.
    _, size = nvrtc.nvrtcGetPTXSize(program.handle)
    ptx = bytearray(size)
    nvrtc.nvrtcGetPTX(program.handle, ptx)
    return Compiled(cubin, ptx.rstrip(b"\0").decode(), _resources(log.getvalue()))


def _resources(log: str) -> Resources:
    """From what the assembler says of a kernel."""

    def number(pattern: str) -> int:
        found = re.search(pattern, log)
        return int(found[1]) if found else 0

    return Resources(
        registers=number(r"Used (\d+) registers"),
        local=number(r"(\d+) bytes stack frame"),
        shared=number(r"(\d+) bytes smem"),
        spilled=number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
    )


def nvrtc_version() -> str:
    """Raises ImportError or RuntimeError where NVRTC is not here."""
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"


def architectures() -> set[str]:
    """Those that NVRTC compiles for: "sm_75", ..."""
    from cuda.bindings import nvrtc

    _, numbers = nvrtc.nvrtcGetSupportedArchs()
    return {f"sm_{number}" for number in numbers}


def cubin_file(unit: Unit, arch: str, anew: bool = False) -> Path:
    """The unit's cubin for an architecture, compiled once and kept; or compiled `anew`.

    Raises KernelError with the compiler's words.
    """

    def build() -> bytes:
        try:
            return compile_unit(unit, arch).cubin
        except Exception as error:  # NVRTC's has no public name
            raise KernelError(f"NVRTC cannot compile {unit.kernel} for {arch}: {error}") from error

    depends = (unit.source(), arch, f"nvrtc {nvrtc_version()}")
    return cached(unit.kernel, "cubin", build, *depends, anew=anew)
