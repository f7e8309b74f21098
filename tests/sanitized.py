"""Runs every CUDA kernel on this CPU, or a wrong one; test_host_device.py adds the sanitizers.

python tests/sanitized.py float32|float64|read|write|shared|stack|overflow
python tests/sanitized.py gpu|gpu-memcheck|gpu-racecheck    on a GPU, under compute-sanitizer: every
                                                            kernel, or a fault that the tool sees
"""

import itertools
import sys

import numpy as np

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.activations import ACTIVATIONS
from deltaprop.backends import cuda as table
from deltaprop.backends.grids import TILES
from deltaprop.check import to_numpy
from deltaprop.devices.host import ORDERS, HostDevice
from kernels.helpers import Text, assert_same_results, one_of_each, run

# No size is a multiple of a tile; 700 features or outputs and 930 samples make as many leaves as
# their trees just have room for.
SIZES = ((5, 37, 700), (3, 700, 2), (930, 2, 3))

MISTAKES = {
    "read": "x[0] = x[n];",
    "write": "x[n] = 1;",
    "shared": "__shared__ real s[8]; s[n] = 1; x[0] = s[0];",
    "stack": "real s[8]; s[n] = 1; x[0] = s[n - 1];",
    "overflow": "x[0] = int(n) + 0x7fffffff;",
}
GPU_MISTAKES = {
    "gpu-memcheck": "x[n] = 1;",
    "gpu-racecheck": "int i = threadIdx.x; __shared__ real s[64]; s[i] = i; x[i & 7] = s[i ^ 32];",
}


def on_host(dtype):
    """Every tile, and every order of threads."""
    pairs = zip(itertools.cycle(ORDERS), itertools.cycle(TILES[dtype]))
    return [
        table.kernels(HostDevice(order), "cuda-host", {dtype: (tile,)})
        for order, tile in itertools.islice(pairs, max(len(ORDERS), len(TILES[dtype])))
    ]


def on_gpu(dtype):
    """Every tile."""
    return [table.kernels(gpu(), "cuda", {dtype: (tile,)}) for tile in TILES[dtype]]


def gpu():
    """Each array is an allocation of its own, so that what lies beyond its end is nobody's."""
    import cupy

    from deltaprop.devices.cupy import CupyDevice

    cupy.cuda.set_allocator(None)
    return CupyDevice()


def every_kernel(dtype, backends):
    for size in SIZES:
        for field, args in one_of_each(dtype, *size, ACTIVATIONS["logistic"]).items():
            wanted = run("reference", field, *args)
            for k in backends:
                assert_same_results(run(k, field, *args), wanted, f"{field} {size}")


def whole_sweep(dtype, backend):
    """Layers wider than a tile and narrower than a chunk; three leaves, the last a part of one."""
    net = dp.MLP((5, 66, 9, 3), "gelu", "softmax", dtype=dtype, backend=backend)
    X, Y = sample((130, 5), dtype), np.eye(3, dtype=dtype)[np.arange(130) % 3]
    wanted = net.to("reference").value_and_grad(X, Y)[1].flat
    assert_same_bits(net.value_and_grad(X, Y)[1].flat, wanted, "whole_sweep")
    trained = net.to("reference")
    for each in (trained, net):
        each.fit(X, Y, epochs=1, batch_size=50, progress=False)
    assert_same_bits(to_numpy(net.parameters), trained.parameters, "steps of whole_sweep")


def mistaken(statement, device, threads=1):
    text = f'extern "C" __global__ void wrong(real* x, int64 n) {{ {statement} }}'
    x = device.asarray(np.zeros(8, np.float32))
    unit = Text("wrong", np.dtype("float32"), text=text)
    device.launch(unit, (1, 1, 1), (threads, 1, 1), (x, x.size))
    device.to_numpy(x)


if __name__ == "__main__":
    (choice,) = sys.argv[1:]
    if choice in MISTAKES:
        mistaken(MISTAKES[choice], HostDevice())
    elif choice in GPU_MISTAKES:
        mistaken(GPU_MISTAKES[choice], gpu(), threads=64)
    else:
        for dtype in TILES if choice == "gpu" else (choice,):
            every_kernel(dtype, on_gpu(dtype) if choice == "gpu" else on_host(dtype))
            whole_sweep(dtype, "cuda" if choice == "gpu" else "cuda-host")
        print("every kernel is right")
