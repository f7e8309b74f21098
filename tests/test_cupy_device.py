"""The GPU device: what it hands to CuPy, for which a stand-in takes it.

Where there is a GPU, tests/kernels runs every kernel on it.
"""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from cuda.bindings.driver import CUresult
from cuda.bindings.runtime import cudaError_t

import deltaprop as dp
from deltaprop.activations import IDENTITY
from deltaprop.backends import cuda as table
from deltaprop.contract import Form
from kernels.helpers import one_of_each, run


class OutOfMemoryError(MemoryError):
    """CuPy's."""


class CUDAError(RuntimeError):
    """CuPy's, made of a status."""

    def __init__(self, status):
        self.status = status
        super().__init__(f"{self.names(status).name}: what CUDA says of it")


class CUDADriverError(CUDAError):
    names = CUresult


class CUDARuntimeError(CUDAError):
    names = cudaError_t


class FakeDevice:
    """Within it, it is the current one."""

    attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232_448}  # noqa: RUF012

    def __init__(self, cupy, number):
        self.cupy, self.id, self.before = cupy, number, []

    compute_capability = property(lambda self: self.cupy.capability)

    def __enter__(self):
        self.before.append(self.cupy.device)
        self.cupy.device = self.id

    def __exit__(self, *_):
        self.cupy.device = self.before.pop()


class FakeCupy(ModuleType):
    """As much of CuPy as the device uses; arrays are NumPy's, launches are noted."""

    def __init__(self, capability="90", device=0):
        super().__init__("cupy")
        self.capability, self.device = capability, device
        self.paths, self.launches, self.calls, self.functions = [], [], [], {}
        self.devices = []  # that were current when something was launched
        self.fails = None  # what the next allocation, launch or copy raises
        self.refusals = []  # what the next loads raise
        self.count, self.driver, self.made_for = lambda: 1, 13_000, 13_000
        self.cuda = SimpleNamespace(
            Device=self.get_device,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            runtime=SimpleNamespace(
                CUDARuntimeError=CUDARuntimeError,
                memGetInfo=lambda: (3_000_000, 80_000_000_000),
                getDeviceCount=lambda: self.count(),
                driverGetVersion=lambda: self.driver,
                runtimeGetVersion=lambda: self.made_for,
                getDeviceProperties=lambda number: {"name": b"Some GPU"},
            ),
        )

    def get_default_memory_pool(self):
        return SimpleNamespace(free_bytes=lambda: 500_000)

    def fail(self):
        if self.fails:
            error, self.fails = self.fails, None
            raise error

    def get_device(self, number=None):
        return FakeDevice(self, self.device if number is None else number)

    def empty(self, shape, dtype):
        self.calls.append("empty")
        self.fail()
        return np.empty(shape, dtype)

    def asarray(self, x):
        self.calls.append("asarray")
        self.fail()
        return x.copy()

    def asnumpy(self, x):
        self.calls.append("asnumpy")
        self.fail()
        return x.copy()

    def RawModule(self, **options):
        assert set(options) == {"path"}, "CuPy is to load a cubin, not to compile"
        path = Path(options["path"])
        self.paths.append(path)
        return SimpleNamespace(get_function=lambda name: self.function(name, path))

    def function(self, name, path):
        """The driver has one of a name in a file, whoever asks."""
        if self.refusals:
            raise self.refusals.pop(0)
        assert name.encode() in path.read_bytes()
        return self.functions.setdefault(path, Function(self, name))


class Function:
    """What launches a kernel."""

    max_dynamic_shared_size_bytes = 48 << 10

    def __init__(self, cupy, name):
        self.cupy, self.name = cupy, name

    def __call__(self, grid, block, args, shared_mem):
        self.cupy.fail()
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        self.cupy.devices.append(self.cupy.device)
        self.cupy.launches.append((self.name, grid, block, [*map(passed, args)]))


def passed(x):
    """The kind and size of what CuPy passes for x: a Python int takes 8 bytes."""
    if isinstance(x, np.ndarray):
        return "pointer", 8
    if type(x) is int:
        return "i", 8
    assert isinstance(x, np.generic), f"CuPy has no such argument: {x!r}"
    return x.dtype.kind, x.dtype.itemsize


def on_gpu(cupy, patch):
    """The device module on top of a stand-in for CuPy."""
    patch.setitem(sys.modules, "cupy", cupy)
    patch.delitem(sys.modules, "deltaprop.devices.cupy", raising=False)
    module = importlib.import_module("deltaprop.devices.cupy")
    patch.delitem(sys.modules, "deltaprop.devices.cupy")
    return table.kernels(module.CupyDevice(), "cuda")


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A stand-in and its kernels, with a cache of their own."""
    monkeypatch.setenv("DELTAPROP_CACHE", str(tmp_path))
    cupy = FakeCupy()
    return cupy, on_gpu(cupy, monkeypatch)


def architecture(path):
    """sm_ of a cubin: in the flags of the ELF header, of which two layouts are in use."""
    header = path.read_bytes()[:64]
    assert header[:4] == b"\x7fELF"
    flags = int.from_bytes(header[48:52], "little")
    return (flags >> 8) & 0xFF if header[8] >= 8 else flags & 0xFF


@pytest.mark.parametrize(("capability", "sm"), [("75", 75), ("90", 90), ("100", 100), ("120", 120)])
def test_a_cubin_of_the_devices_architecture(fake, capability, sm):
    cupy, k = fake
    cupy.capability = capability
    x = np.ones(3, np.float32)
    k.add(x, x)
    (path,) = cupy.paths
    assert architecture(path) == sm


def test_arguments(fake, dtype):
    """Sizes take 64 bits, an absent array is a null of 8 bytes, a real is of the dtype."""
    cupy, k = fake
    calls = one_of_each(dtype, 2, 3, 4)
    a_in, W = calls["dense_forward"][:2]
    k.dense_forward(a_in, W, None, IDENTITY, False)
    pointer, null, size = ("pointer", 8), ("u", 8), ("i", 8)
    name, grid, block, args = cupy.launches.pop()
    assert name == "dense_forward"
    assert args == [pointer, pointer, null, null, pointer, size, size, size]
    assert grid == (1, 1, 1) and block == (64, 1, 1)

    a, Y, s, _, loss, g, scale, _ = calls["output_delta"]
    k.output_delta(a, Y, s, None, loss, g, scale, None)
    real = ("f", np.dtype(dtype).itemsize)
    assert cupy.launches.pop()[-1] == [*[pointer] * 3, null, pointer, null, real, *[size] * 4]


def test_every_kernel_is_loaded_once_and_kept(fake):
    cupy, k = fake
    for _ in range(2):
        for field, args in one_of_each("float32", 2, 3, 4).items():
            run(k, field, *args)
    names = [name for name, *_ in cupy.launches]
    assert len(names) == 2 * len(set(names)) == 2 * len(cupy.paths)


def test_each_device_has_its_own_functions(fake):
    """Whichever is the current one, that of the kernels is what launches."""
    cupy, first = fake
    x, second = np.ones(3, np.float32), table.kernels(type(first.arrays)(1), "cuda:1")
    for k, number, capability in ((first, 0, "90"), (second, 1, "75")):
        cupy.capability = capability
        for current in (0, 1, 2):
            cupy.device = current
            k.add(x, x)
            assert cupy.devices.pop() == number and cupy.device == current
    assert [architecture(path) for path in cupy.paths] == [90, 75]


def test_kernels_are_for_the_device_that_was_current(fake):
    cupy, k = fake
    cupy.device = 1
    arrays = type(k.arrays)()
    cupy.device = 0
    assert (k.arrays.number, arrays.number) == (0, 1)


def test_arrays_are_cupys(fake):
    cupy, k = fake
    x = np.arange(3.0)
    k.arrays.to_numpy(k.arrays.asarray(x))
    k.arrays.empty((2, 3), x.dtype)
    assert cupy.calls == ["asarray", "asnumpy", "empty"]


def test_out_of_memory(fake):
    """Says what was wanted and what is free, the pool's part included; the next call works."""
    cupy, k = fake
    x = np.ones((3, 4), np.float32)
    for allocate in (lambda: k.arrays.empty((1000, 2000), x.dtype), lambda: k.arrays.asarray(x)):
        cupy.fails = OutOfMemoryError("out of memory")
        with pytest.raises(dp.DeviceMemoryError, match="no room on GPU 0 for") as caught:
            allocate()
        assert "3.5 MB of 80,000.0 MB free; micro_batch=" in str(caught.value)
    assert isinstance(caught.value, MemoryError)
    cupy.fails = OutOfMemoryError("out of memory")
    with pytest.raises(dp.DeviceMemoryError, match=r"\(1000, 2000\) of float32: 8\.0 MB wanted"):
        k.arrays.empty((1000, 2000), x.dtype)
    assert k.arrays.empty((3, 4), x.dtype).shape == (3, 4)


def test_a_launch_that_is_refused(fake):
    """Names the kernel, its dtype, the shapes and the grid; the next one works."""
    cupy, k = fake
    x = np.ones(3, np.float32)
    cupy.fails = CUDADriverError(1)
    wanted = r"add \(float32\) for \(3,\), \(3,\), 3, in \(1, 1, 1\) blocks of \(256, 1, 1\)"
    with pytest.raises(dp.KernelError, match=f"^{wanted}: CUDA_ERROR_INVALID_VALUE"):
        k.add(x, x)
    k.add(x, x)


def test_a_block_is_allowed_the_shared_memory_it_asks_for(fake):
    """Beyond 48 KB it has to be, before the launch; a smaller net takes nothing back."""
    cupy, k = fake
    net = dp.MLP((3, 64, 64, 64, 64, 1), backend="reference")
    smaller = dp.MLP((3, 48, 48, 48, 48, 1), backend="reference")
    for n in (net, smaller, net):
        form = Form(n.sizes, n.activations, True, n.dtype)
        k.sweeps(form).outputs(n.parameters, np.ones((5, 3), np.float32))
    (function,) = cupy.functions.values()
    assert function.max_dynamic_shared_size_bytes > 48 << 10


def test_importing_deltaprop_imports_no_device():
    code = "import sys, deltaprop; sys.exit(bool({'cupy', 'cuda', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
