"""What goes wrong with a GPU, and what is said of it; for which a stand-in for CuPy fails."""

import os
import sys
import weakref

import numpy as np
import pytest
from click.testing import CliRunner
from cuda.bindings import nvrtc
from cuda.bindings.driver import CUresult
from cuda.bindings.runtime import cudaError_t
from cuda.pathfinder import DynamicLibNotFoundError

import deltaprop as dp
from deltaprop.backends import use_backend
from deltaprop.cli import main
from deltaprop.devices.launched import FAULTS
from processes import python
from test_cache import flip_a_bit
from test_cupy_device import CUDADriverError, CUDARuntimeError, FakeCupy, on_gpu

backends = sys.modules["deltaprop.backends"]  # `dp.backends` is the function


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What is compiled here is kept there."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def fake(monkeypatch, folder):
    """The stand-in and its kernels."""
    monkeypatch.setenv("DELTAPROP_CACHE", str(folder))
    cupy = FakeCupy()
    return cupy, on_gpu(cupy, monkeypatch)


# ------------------------------------------------------------------------ kernels that fail


@pytest.fixture
def launched(fake):
    """Three launches, and what the errors say of them."""
    cupy, k = fake
    for m in (5, 6, 7):
        k.add(np.ones(m, np.float64), np.ones(m, np.float64))
    lines = [f"  add (float64) for ({m},), ({m},), {m}, in (1, 1, 1) blocks of" for m in (7, 6, 5)]
    return cupy, k, lines


def said(raised):
    """Its message: the lines of the launches, and all of it."""
    message = str(raised.value)
    return [line.partition(" (256")[0] for line in message.splitlines()[1:-1]], message


@pytest.mark.parametrize("call", ["to_numpy", "asarray", "empty"])
def test_a_kernel_that_fails_is_found_out_later(launched, call):
    """By who waits for the GPU; what was launched since it was waited for is named."""
    cupy, k, wanted = launched
    x = np.ones(3, np.float32)
    calls = {
        "to_numpy": lambda: k.arrays.to_numpy(x),
        "asarray": lambda: k.arrays.asarray(x),
        "empty": lambda: k.arrays.empty((3,), x.dtype),
    }
    for _ in range(2):  # after such an error CUDA answers every call so
        cupy.fails = CUDARuntimeError(700)
        with pytest.raises(dp.KernelError) as raised:
            calls[call]()
        lines, message = said(raised)
        assert lines == wanted
        for word in ("cudaErrorIllegalAddress", "newest first", "CUDA_LAUNCH_BLOCKING=1", "lost"):
            assert word in message


def test_a_kernel_that_fails_is_found_out_by_the_next_launch(launched):
    """Which may be that of another kernel, or, if all are waited for, its own."""
    cupy, k, wanted = launched
    cupy.fails = CUDADriverError(719)
    with pytest.raises(dp.KernelError, match="CUDA_ERROR_LAUNCH_FAILED") as raised:
        k.add(np.ones(9, np.float64), np.ones(9, np.float64))
    assert said(raised)[0] == [wanted[0].replace("7", "9"), *wanted]


def test_only_what_may_still_run_is_named(launched):
    cupy, k, _ = launched
    x = np.ones(3, np.float32)
    k.arrays.to_numpy(x)
    cupy.fails = CUDARuntimeError(719)
    with pytest.raises(dp.KernelError, match=r"^the GPU failed: cudaErrorLaunchFailure: .*of it$"):
        k.arrays.to_numpy(x)


def test_no_array_is_kept_alive(fake):
    _, k = fake
    x = np.ones(3, np.float32)
    seen = weakref.ref(x)
    k.add(x, x)
    del x
    assert seen() is None


def test_the_statuses_of_kernels_that_failed():
    names = {CUresult(status).name.removeprefix("CUDA_ERROR_") for status in FAULTS}
    assert names == {
        *("ILLEGAL_ADDRESS", "LAUNCH_TIMEOUT", "ASSERT", "HARDWARE_STACK_ERROR"),
        *("ILLEGAL_INSTRUCTION", "MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC"),
        "LAUNCH_FAILED",
    }
    assert {int(cudaError_t(status)) for status in FAULTS} == FAULTS


# ------------------------------------------------------------------- cubins that do not load


@pytest.mark.parametrize("status", [200, 209, 301])
def test_a_cubin_that_is_refused_is_compiled_anew(fake, status):
    """Once: an invalid image, none for this GPU, no file."""
    cupy, k = fake
    x = np.ones(3, np.float32)
    cupy.refusals = [CUDADriverError(status)]
    k.add(x, x)
    assert len(cupy.paths) == 2 and len(cupy.launches) == 1

    cupy.refusals = [CUDADriverError(status)] * 2
    with pytest.raises(dp.KernelError, match=r"GPU 0 \(sm_90\) cannot load scale from ") as raised:
        k.scale(x, 0.5)
    assert f"{cupy.paths[-1]}: {CUresult(status).name}: what CUDA says" in str(raised.value)
    k.scale(x, 0.5)


@pytest.mark.parametrize("damage", [lambda x: x[:2000], flip_a_bit, lambda x: b""])
def test_a_cubin_that_is_damaged_never_reaches_the_driver(monkeypatch, tmp_path, damage):
    monkeypatch.setenv("DELTAPROP_CACHE", str(tmp_path))
    x, contents = np.ones(3, np.float32), []
    for _ in range(2):  # two processes
        cupy = FakeCupy()
        on_gpu(cupy, monkeypatch).add(x, x)
        (path,) = cupy.paths
        contents.append(path.read_bytes())
        path.write_bytes(damage(contents[-1]))
    assert contents[0] == contents[1]


def test_a_kernel_failed_before_a_cubin_is_loaded(launched):
    """That is not the cubin's fault."""
    cupy, k, wanted = launched
    cupy.refusals = [CUDADriverError(700)]
    x = np.ones(3, np.float64)
    with pytest.raises(dp.KernelError, match="CUDA_ERROR_ILLEGAL_ADDRESS") as raised:
        k.scale(x, 0.5)
    assert said(raised)[0][1:] == wanted


# ------------------------------------------------------------------------- no GPU that works


@pytest.fixture
def unavailable(monkeypatch):
    """Checks that the backend says why it cannot run, wherever one asks."""
    cupy = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    backends._made.cache_clear()

    def check(*words):
        with pytest.raises(dp.BackendUnavailableError) as raised:
            dp.MLP([3, 2], backend="cuda")
        with use_backend("auto"):
            assert dp.MLP([500, 500]).backend == "numba"
        (row,) = (row for row in dp.backends() if row.name == "cuda")
        info = CliRunner().invoke(main, ["info"]).output
        for word in words:
            assert word in str(raised.value)
            assert word in row.reason
            assert word in info

    yield cupy, check
    backends._made.cache_clear()


CUDA_12 = "install a newer driver, or 'deltaprop[cuda12]' for a driver of CUDA 12"
MACHINES = {
    "no driver": ({"driver": 0}, "no NVIDIA driver here"),
    "CuPy is too new": (
        {"driver": 12_040, "made_for": 13_020},
        f"the NVIDIA driver is for CUDA 12.4, CuPy for CUDA 13.2: {CUDA_12}",
    ),
    "NVRTC is too new": (
        {"driver": 12_040, "made_for": 12_090},
        f"the NVIDIA driver is for CUDA 12.4, NVRTC for CUDA 13.5: {CUDA_12}",
    ),
    "an old GPU": (
        {"capability": "70"},
        "GPU 0, Some GPU, has compute capability 7.0: 7.5 or more is needed",
    ),
    "a GPU newer than NVRTC": (
        {"capability": "250"},
        "compute capability 25.0: NVRTC 13.5 does not know it, a newer nvidia-cuda-nvrtc may",
    ),
    "none": ({"count": lambda: 0}, "no GPU here"),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_that_cannot(unavailable, machine):
    cupy, check = unavailable
    changes, words = MACHINES[machine]
    vars(cupy).update(changes)
    check(words.replace("13.5", "{1}.{2}".format(*nvrtc.nvrtcVersion())))


def test_a_gpu_by_its_number(unavailable):
    cupy, _ = unavailable
    cupy.count = lambda: 2
    assert dp.MLP([3, 2], backend="cuda:1").backend == "cuda:1"
    assert dp.MLP([3, 2], backend="cuda").backend == "cuda"
    with pytest.raises(dp.BackendUnavailableError, match=r"'cuda:2': no GPU 2 here: .* 0 to 1"):
        dp.MLP([3, 2], backend="cuda:2")
    for name in ("cuda:", "cuda:x", "cuda:-1", "numba:1"):
        with pytest.raises(ValueError, match=name):
            dp.MLP([3, 2], backend=name)


def test_a_driver_of_the_same_major_version_will_do(unavailable):
    """An older one runs what was made for a newer one."""
    cupy, _ = unavailable
    cupy.made_for = 13_900
    assert backends._reason("cuda") == ""


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3, ("cudaErrorInitializationError", "multiprocessing.get_context('spawn')")),
        (35, ("cudaErrorInsufficientDriver", "install a newer driver")),
        (100, ("cudaErrorNoDevice",)),
    ],
)
def test_cuda_does_not_start(unavailable, status, words):
    cupy, check = unavailable

    def count():
        raise CUDARuntimeError(status)

    cupy.count = count
    check("no GPU that works: ", *words)


NO_NVRTC = {
    "no library": DynamicLibNotFoundError('Failure finding "libnvrtc.so.13"\n'),
    "no library, cuda-bindings 12": RuntimeError("Failed to dlopen libnvrtc.so.12"),
}


@pytest.mark.parametrize("why", NO_NVRTC)
def test_nvrtc_is_missing(unavailable, monkeypatch, why):
    def version():
        raise NO_NVRTC[why]

    monkeypatch.setattr(nvrtc, "nvrtcVersion", version)
    check = unavailable[1]
    check(
        "NVRTC", str(NO_NVRTC[why]).strip() + "; ", "pip install nvidia-cuda-nvrtc", "-nvrtc-cu12"
    )


@pytest.mark.parametrize("module", ["cuda.core", "cuda.bindings.nvrtc", "cuda.bindings"])
def test_a_package_is_missing(unavailable, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "cuda.bindings.nvrtc":
        monkeypatch.delattr("cuda.bindings.nvrtc")
    if module == "cuda.bindings":
        monkeypatch.delitem(sys.modules, "cuda.core")
    unavailable[1](module.removesuffix(".nvrtc"), "pip install")


BROKEN = """
try:
    raise ImportError("libcudart.so.13: cannot open shared object file")
except ImportError as error:
    raise ImportError("=====\\nFailed to import CuPy.\\n\\nMany lines.\\n=====") from error
"""


def test_cupy_that_cannot_be_imported(unavailable, monkeypatch, tmp_path):
    """The cause, of what CuPy says on many lines."""
    monkeypatch.delitem(sys.modules, "cupy")
    (tmp_path / "cupy.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    unavailable[1](
        "libcudart.so.13: cannot open shared object file; pip install 'deltaprop[cuda13]'"
    )


# ------------------------------------------------------------------------------- what auto takes


def edges(count):
    """A graph of two levels, of so many edges."""
    source, target = np.divmod(np.arange(count), 300)
    inputs, outputs = range(300), range(300, 600)
    return dp.Graph.from_arrays(source, 300 + target, None, inputs=inputs, outputs=outputs)


NETS = {
    "layers": (lambda n: dp.MLP([n, 1], bias=False), 87_381),
    "an ensemble": (lambda n: dp.MLP([99, 10], ensemble=n), 87),
    "a graph": (edges, 87_381),
}


@pytest.mark.parametrize("kind", NETS)
def test_auto_takes_the_gpu_for_a_net_with_work(unavailable, kind):
    """For this many weights, or members of 1000, not yet; for one more."""
    make, most = NETS[kind]
    assert make(most).backend == "numba"
    assert make(most + 1).backend == "cuda"


# ----------------------------------------------------------------------------- forked processes

FORK = """
import os, sys
import numpy as np
from test_cupy_device import FakeCupy
import deltaprop as dp
sys.modules["cupy"] = FakeCupy()
def reason():
    return next(row.reason for row in dp.backends() if row.name == "cuda")
def child(do):
    sys.stdout.flush()
    if os.fork() == 0:
        try:
            do()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.wait()
"""
STARTED = """
X = np.ones((1, 3), "f")
net = dp.MLP([3, 2], backend="cuda")
def error(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
def in_child():
    print(reason())
    print(error(lambda: dp.MLP([3, 2], backend="cuda")))
    print(error(lambda: net.predict(X)))
    print(error(lambda: net.to("cpu")))
    print(dp.MLP([500, 500]).backend, dp.MLP([3, 2], backend="cpu").predict(X).shape)
print(dp.MLP([500, 500]).backend)
child(in_child)
child(lambda: child(lambda: print(reason())))
print(repr(reason()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_process_forked_after_cuda_was_started():
    """CUDA is no more there, by name, in `auto` or in a net of the parent; CPUs are."""
    out, _ = python(FORK + STARTED, DELTAPROP_BACKEND="")
    auto, why, named, used, copied, on_cpu, grandchild, parent = out.splitlines()
    assert auto == "cuda"
    assert "CUDA was started before this process was forked" in why
    assert "multiprocessing.get_context('spawn')" in why
    assert named == f"BackendUnavailableError: backend 'cuda': {why}"
    assert used == copied == f"KernelError: {why}"
    assert on_cpu == "numba (1, 2)"
    assert grandchild == why
    assert parent == "''"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_process_forked_before_cuda_is_started():
    """Has a GPU of its own; so have its parent and a process that is spawned."""
    code = FORK + "child(lambda: print(repr(reason())))\nprint(repr(reason()))"
    assert python(code)[0] == "''\n''"
