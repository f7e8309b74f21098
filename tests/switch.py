"""Threads that flush subnormal numbers to zero, as other libraries make them."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from pathlib import Path

import pytest

from deltaprop.devices.host import compiler

SWITCH = """
#include <cstdint>
#include <xmmintrin.h>
extern "C" int64_t flush(int64_t on, int64_t thread, int64_t threads) {
    if (thread == threads - 1)
        _mm_setcsr(on ? _mm_getcsr() | 0x8040 : _mm_getcsr() & ~0x8040);
    return 0;
}
"""


def flushing_entry(folder: Path) -> int:
    """An entry: the last of the threads flushes subnormal numbers to zero from now on, or not."""
    if platform.machine() != "x86_64" or compiler() is None:
        pytest.skip("the switch is x86's MXCSR, set by C++")
    (folder / "switch.cpp").write_text(SWITCH)
    command = [compiler(), "-shared", "-fPIC", "-o", folder / "switch.so", folder / "switch.cpp"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(folder / "switch.so"))
    return int(ctypes.cast(library.flush, ctypes.c_void_p).value)
