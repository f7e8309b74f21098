"""The bits of a gradient depend on nothing but its inputs."""

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

import deltaprop as dp
from conftest import EXACT, assert_same_bits, sample
from deltaprop.backends import cuda as table
from deltaprop.backends.team import get_num_threads, set_num_threads
from deltaprop.check import to_numpy
from deltaprop.devices.host import HostDevice
from deltaprop.digests import FIXED_NETS, build, gradient_digests
from deltaprop.fma import fma

as_specified = pytest.mark.parametrize("specified", ["reference", *EXACT])
PARALLEL = [net for net in FIXED_NETS if net.sizes == (4, 64, 64, 1)]
VARIED = [net for net in FIXED_NETS if net.output in ("softmax", "logistic") and net.m < 100]


def gradient(net, *given, **options):
    return to_numpy(net.value_and_grad(*given, **options)[1].flat)


# ---------------------------------------------------------------------------------- threads


def test_thread_count(dtype):
    before = get_num_threads()
    net, given = build(PARALLEL[0], dtype, "numba")
    try:
        for count in (1, 2, 3, 5):
            set_num_threads(count)
            got = gradient(net, *given)
            wanted = gradient(net.to("reference"), *given)
            assert_same_bits(got, wanted, f"{count} threads")
    finally:
        set_num_threads(before)


OLDER_CPU = {"x86_64": "haswell", "AMD64": "haswell"}.get(platform.machine(), "generic")
ELSEWHERE = """
import json
from deltaprop.backends.team import get_num_threads
from deltaprop.digests import FIXED_NETS, gradient_digests
chosen = [net for net in FIXED_NETS if net.name in {names}]
print(json.dumps([get_num_threads(), gradient_digests("numba", chosen)]))
"""


def test_instruction_set_and_many_threads():
    """In another process, which takes this CPU for an older one and has more threads than it.

    With shorter vectors go other loops and other remainders.
    """
    nets = PARALLEL + VARIED
    older = {"NUMBA_CPU_NAME": OLDER_CPU, "NUMBA_CPU_FEATURES": "", "DELTAPROP_NUM_THREADS": "5"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE.format(names=[net.name for net in nets])],
        env=os.environ | older,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    threads, digests = json.loads(done.stdout)
    assert threads == 5
    assert digests == gradient_digests("reference", nets)


# ---------------------------------------------------------------------------- orders and parts


@pytest.mark.parametrize(("order", "seed"), [("backward", 0), ("random", 1), ("random", 2)])
def test_order_of_threads_in_a_block(dtype, order, seed):
    for fixed in VARIED:
        net, given = build(fixed, dtype, "cuda-host")
        wanted = gradient(net.to("reference"), *given)
        net._kernels = table.kernels(HostDevice(order, seed), "cuda-host")
        assert_same_bits(gradient(net, *given), wanted, fixed.name)


SPLIT = {
    "regression": ([3, 5, 2], "tanh", "identity", "half_mse"),
    "classes": ([4, 7, 3], "relu", "softmax", "cross_entropy"),
    "yes or no": ([2, 3, 1], "gelu", "logistic", "binary_cross_entropy"),
}


@as_specified
@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("m", [1, 63, 64, 65, 200, 577])
def test_micro_batches(specified, dtype, name, m):
    """Any multiple of 64, a ragged end, with sample weights and without."""
    sizes, hidden, output, loss = SPLIT[name]
    net = dp.MLP(sizes, hidden, output, dtype=dtype, backend=specified)
    X = sample((m, sizes[0]), dtype, 1)
    Y = (sample((m, sizes[-1]), dtype, 2) > 0).astype(dtype)
    if output == "softmax":
        Y = np.arange(m) % sizes[-1]
    for weights in (None, np.abs(sample(m, dtype, 3))):
        value, whole = net.value_and_grad(X, Y, loss, weights)
        for part in (64, 128, 192, 320, 448, 640):
            split_value, split = net.value_and_grad(X, Y, loss, weights, micro_batch=part)
            what = f"parts of {part}, weights {weights is not None}"
            assert_same_bits(to_numpy(split.flat), to_numpy(whole.flat), what)
            assert split_value == value, what


# --------------------------------------------------------------------------------- the caller


def other_layouts(x):
    """The same numbers in other memory."""
    wide = np.empty((2 * len(x) + 1, *x.shape[1:]), x.dtype)
    wide[1::2] = x
    raw = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:]
    return {
        "Fortran order": np.asfortranarray(x),
        "negative strides": x[::-1].copy()[::-1],
        "every other row": wide[1::2],
        "offset": np.concatenate([x[:1], x])[1:],
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "little-endian": x.astype(x.dtype.newbyteorder("<")),
        "writable": x.copy(),
        "not aligned": raw.view(x.dtype).reshape(x.shape),
    }


@as_specified
def test_memory_layout(specified, dtype):
    net = dp.MLP([5, 4, 3], "tanh", dtype=dtype, backend=specified)
    given = sample((9, 5), dtype, 1), sample((9, 3), dtype, 2), sample(9, dtype, 3)
    layouts = [other_layouts(x) for x in given]
    wanted = gradient(net, given[0], given[1], None, given[2])
    for name in layouts[0]:
        X, Y, weights = (layout[name] for layout in layouts)
        for x, original in zip((X, Y, weights), given):
            np.testing.assert_array_equal(x, original)
        assert_same_bits(gradient(net, X, Y, None, weights), wanted, name)


@as_specified
def test_any_way_to_the_gradient(specified, dtype):
    """value_and_grad; forward, then backward; and train_step give and use the same one."""
    net = dp.MLP([6, 5, 3], "silu", dtype=dtype, backend=specified)
    X, Y, weights = sample((70, 6), dtype, 1), sample((70, 3), dtype, 2), sample(70, dtype, 3)
    value, gradients = net.value_and_grad(X, Y, "mse", weights)
    back = net.backward(net.forward(X), Y, "mse", weights)
    assert_same_bits(to_numpy(back.gradients.flat), to_numpy(gradients.flat))
    assert net.loss(X, Y, "mse", weights) == value

    before, g = (to_numpy(x).copy() for x in (net.parameters, gradients.flat))
    assert net.train_step(X, Y, "mse", 0.3, weights) == value
    eta = np.full_like(g, -0.3)
    assert_same_bits(to_numpy(net.parameters), fma(eta, g, before))


@as_specified
def test_again(specified, dtype):
    """The same call twice; nothing of the first is left to see."""
    net = dp.MLP([3, 4, 2], dtype=dtype, backend=specified)
    X, Y = sample((65, 3), dtype, 1), sample((65, 2), dtype, 2)
    first = gradient(net, X, Y).copy()
    gradient(net, X * 3, Y)
    assert_same_bits(gradient(net, X, Y), first)
