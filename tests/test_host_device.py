"""The CUDA sources on this CPU: fibers, barriers, memory, and what goes wrong with them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import assert_same_bits
from deltaprop.activations import ACTIVATIONS
from deltaprop.backends import BACKENDS
from deltaprop.backends import cuda as table
from deltaprop.devices import host
from deltaprop.devices.host import ORDERS, HostDevice
from deltaprop.errors import BackendUnavailableError
from kernels.helpers import Text, assert_same_results, one_of_each, run

REAL = np.dtype("float32")
every_order = pytest.mark.parametrize("order", ORDERS)


def launch(text, x, grid=(1, 1, 1), block=(1, 1, 1), order="forward", seed=0):
    """x after the kernel `text`, whose one parameter is `real* x`."""
    x = np.array(x, REAL)
    HostDevice(order, seed).launch(Text("tiny", REAL, text=text), grid, block, (x,))
    return x


# -------------------------------------------------------------------------------- barriers

ROTATE = """
extern "C" __global__ void tiny(real* x) {{
    __shared__ real s[64];
    const int t = threadIdx.x;
    s[t] = x[t];
    {}
    x[t] = s[(t + 1) % 64] + s[(t + 63) % 64];
}}
"""


def rotated(barrier, order, seed=0):
    return launch(ROTATE.format(barrier), np.arange(64), block=(64, 1, 1), order=order, seed=seed)


@every_order
def test_a_barrier_orders_what_lies_before_and_after(order):
    x = np.arange(64)
    wanted = (np.roll(x, -1) + np.roll(x, 1)).astype(REAL)
    for seed in range(3):
        assert_same_bits(rotated("__syncthreads();", order, seed), wanted)


def test_a_missing_barrier_is_seen():
    """By results that depend on the order of the threads."""
    results = {rotated("", order).tobytes() for order in ORDERS}
    assert len(results) > 1


LOOP = """
extern "C" __global__ void tiny(real* x) {
    __shared__ real s;
    for (int round = 0; round < 50; ++round) {
        for (int turn = 0; turn < 8; ++turn) {
            if (threadIdx.x == turn) s = turn == 0 ? x[round] : s * 2 + turn;
            __syncthreads();
        }
        if (threadIdx.x == 3) x[round] = s;
        __syncthreads();
    }
}
"""


@every_order
def test_many_barriers(order):
    wanted = np.arange(50)
    for turn in range(1, 8):
        wanted = wanted * 2 + turn
    for seed in range(3):
        x = launch(LOOP, np.arange(50), block=(8, 1, 1), order=order, seed=seed)
        assert_same_bits(x, wanted.astype(REAL))


ONE_LEAVES = """
extern "C" __global__ void tiny(real* x) {
    if (threadIdx.x == %d) return;
    __syncthreads();
    x[threadIdx.x] = 1;
}
"""


@every_order
@pytest.mark.parametrize("leaver", [0, 2, 3])
def test_a_thread_that_ends_before_the_barrier(order, leaver):
    """Is an error that names the kernel; the next launch is as good as any."""
    with pytest.raises(RuntimeError, match=r"^tiny: threads .* ended while others waited"):
        launch(ONE_LEAVES % leaver, np.zeros(4), block=(4, 1, 1), order=order)
    assert_same_bits(launch(ONE_LEAVES % 9, np.zeros(4), block=(4, 1, 1)), np.ones(4, REAL))


# --------------------------------------------------------------------------------- indices

INDICES = """
extern "C" __global__ void tiny(real* x) {
    const int b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const int t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    const int i = b * blockDim.x * blockDim.y * blockDim.z + t;
    __syncthreads();
    x[i] = x[i] + 100000 * blockIdx.x + 10000 * blockIdx.y + 1000 * blockIdx.z
         + 100 * threadIdx.x + 10 * threadIdx.y + threadIdx.z;
}
"""


@every_order
def test_indices_in_three_dimensions(order):
    grid, block = (2, 3, 4), (4, 2, 3)
    places = np.indices((*grid[::-1], *block[::-1]))
    weights = np.array([1000, 10000, 100000, 1, 10, 100])
    wanted = np.tensordot(weights, places, 1).reshape(-1).astype(REAL)
    assert_same_bits(launch(INDICES, np.zeros(wanted.size), grid, block, order), wanted)


# ----------------------------------------------------------------------------------- memory


def test_new_memory_is_nan(dtype):
    assert np.isnan(HostDevice().empty((3, 5), np.dtype(dtype))).all()


def test_device_memory_is_its_own():
    device, x = HostDevice(), np.ones(3)
    there = device.asarray(x)
    back = device.to_numpy(there)
    assert not np.may_share_memory(there, x)
    assert not np.may_share_memory(back, there)


# ---------------------------------------------------------------------------- the compiler


def test_a_compiler_that_is_not_there(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendUnavailableError, match=r"no C\+\+ compiler.*install g\+\+"):
        BACKENDS["cuda-host"].kernels()


def test_a_source_that_does_not_compile():
    """The message holds the compiler's own."""
    with pytest.raises(RuntimeError, match=r"(?s)C\+\+ compiler failed.*unknown_name"):
        launch('extern "C" __global__ void tiny(real* x) { x[0] = unknown_name; }', [0])


def test_a_unit_is_compiled_anew_for_other_flags(monkeypatch, tmp_path):
    """And for another compiler; not for the same ones."""
    monkeypatch.setenv("DELTAPROP_CACHE", str(tmp_path))
    wrapper = tmp_path / "other-g++"
    wrapper.write_text(f'#!/bin/sh\nexec {host.compiler()} "$@"\n')
    wrapper.chmod(0o755)
    text = 'extern "C" __global__ void tiny(real* x) { x[0] = VALUE; }'
    for value, cxx, files in ((1, None, 1), (2, None, 2), (2, None, 2), (2, wrapper, 3)):
        monkeypatch.setenv("DELTAPROP_HOST_FLAGS", f"-DVALUE={value}")
        if cxx:
            monkeypatch.setenv("CXX", str(cxx))
        host._entry.cache_clear()
        assert launch(text, [0])[0] == value
        assert len(list(tmp_path.glob("tiny-*.so"))) == files


# ---------------------------------------------------------------------- the project's kernels

SHARED = ("dense_forward", "hidden_delta", "weight_gradient", "bias_gradient", "edge_gradient")
SHARED += ("output_delta", "fused_delta", "softmax", "log_softmax", "sample_loss")
SHARED += ("softmax_delta",)


@pytest.mark.parametrize("kernel", SHARED)
def test_every_order_gives_the_same_bits(kernel, dtype):
    """Of each kernel that uses shared memory, over many tiles, stages and leaves."""
    args = one_of_each(dtype, 150, 70, 300, ACTIVATIONS["logistic"])[kernel]
    wanted = run(table.kernels(HostDevice(), "cuda-host"), kernel, *args)
    for order, seed in (("backward", 0), ("random", 1), ("random", 2)):
        got = run(table.kernels(HostDevice(order, seed), "cuda-host"), kernel, *args)
        assert_same_results(got, wanted, f"{order} {seed}")


# ------------------------------------------------------------------------------- sanitizers


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """In which kernels are compiled with AddressSanitizer and UBSan, and Python runs with them."""
    find = [host.compiler(), "-print-file-name=libasan.so", "-print-file-name=libubsan.so"]
    libraries = [subprocess.check_output([find[0], x], text=True).strip() for x in find[1:]]
    return os.environ | {
        "DELTAPROP_HOST_FLAGS": "-fsanitize=address,undefined -fno-sanitize-recover=all -O1 -g1",
        "DELTAPROP_CACHE": str(tmp_path_factory.mktemp("sanitized")),
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=4",
        "PYTHONMALLOC": "malloc",
    }


def sanitized(environment, choice):
    command = [sys.executable, str(Path(__file__).with_name("sanitized.py")), choice]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_sanitizers_find_nothing(environment, dtype):
    done = sanitized(environment, dtype)
    found = re.search(r"(?s)(\S+ runtime error|==\d+==ERROR|Traceback).*", done.stderr)
    assert not found, found[0][:3000]
    assert (done.returncode, done.stdout) == (0, "every kernel is right\n"), done.stderr


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("read", "heap-buffer-overflow"),
        ("write", "heap-buffer-overflow"),
        ("shared", "index 8 out of bounds"),
        ("stack", "index 8 out of bounds"),
        ("overflow", "signed integer overflow"),
    ],
)
def test_the_sanitizers_find(environment, mistake, message):
    done = sanitized(environment, mistake)
    assert done.returncode != 0
    assert message in done.stderr, done.stderr[-4000:]
