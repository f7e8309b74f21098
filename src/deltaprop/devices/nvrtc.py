"""Units compiled by NVRTC: to machine code, and to PTX to look at. Needs no GPU, no driver."""

from __future__ import annotations

from pathlib import Path

from deltaprop.devices.cache import cached, kernels_folder
from deltaprop.devices.unit import Unit


def compile_unit(unit: Unit, arch: str) -> tuple[bytes, str]:
    """The cubin and the PTX of a unit for an architecture such as "sm_90".

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
    )
    program = Program(unit.source(), "c++", options)
    cubin = bytes(program.compile("cubin").code)
    # One compilation makes both. Program.compile("ptx") would ask for a driver.
    _, size = nvrtc.nvrtcGetPTXSize(program.handle)
    ptx = bytearray(size)
    nvrtc.nvrtcGetPTX(program.handle, ptx)
    return cubin, ptx.rstrip(b"\0").decode()


def cubin_file(unit: Unit, arch: str) -> Path:
    """The unit's cubin for an architecture, compiled once and kept."""
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return cached(
        unit.kernel,
        "cubin",
        lambda path: path.write_bytes(compile_unit(unit, arch)[0]),
        unit.source(),
        arch,
        f"nvrtc {major}.{minor}",
    )
