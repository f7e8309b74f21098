"""A process in which something switched flushing to zero on gets an error, not other bits."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import EXACT
from deltaprop.devices.host import compiler

SWITCH = """
#include <xmmintrin.h>
extern "C" void flush_to_zero() { _mm_setcsr(_mm_getcsr() | 0x8040); }
"""
PROGRAM = """
import ctypes, sys
import numpy as np
import deltaprop as dp
from deltaprop.subnormals import SubnormalsFlushedError

X, Y = np.ones((3, 2), "float32"), np.ones((3, 1), "float32")
net = dp.MLP([2, 3, 1], backend=sys.argv[2])
net.value_and_grad(X, Y)
ctypes.CDLL(sys.argv[1]).flush_to_zero()
try:
    net.value_and_grad(X, Y)
except SubnormalsFlushedError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that sets the processor's flush-to-zero bits for the calling thread."""
    folder = tmp_path_factory.mktemp("switch")
    (folder / "switch.cpp").write_text(SWITCH)
    library = folder / "switch.so"
    command = [compiler(), "-shared", "-fPIC", "-o", library, folder / "switch.cpp"]
    subprocess.run(command, check=True)
    return library


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the switch is x86's MXCSR")
@pytest.mark.parametrize("name", ["reference", *EXACT])
def test_flushing_to_zero_is_noticed(switch: Path, name: str) -> None:
    if name == "cuda":
        pytest.skip("a GPU's arithmetic does not follow the CPU's mode")
    run = [sys.executable, "-c", PROGRAM, str(switch), name]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "flushes subnormal numbers to zero" in done.stdout
