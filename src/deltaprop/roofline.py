"""What each kernel must move and compute, and what the CUDA kernels' blocks ask memory for.

docs/roofline.md says what times follow for an H200; `deltaprop bench --kernels` measures beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from deltaprop.activations import ACTIVATIONS, IDENTITY
from deltaprop.backends.grids import TILES, ceil_div, columns, grid, rows
from deltaprop.backends.narrow import Memory, is_narrow, run_of
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES, Form
from deltaprop.elementary import exp, log
from deltaprop.losses import LOSSES
from deltaprop.optimizers import OPTIMIZERS
from deltaprop.scalar import Program, Rule, trace

PROCESSORS, SHARED = 132, 227 << 10
"""Of an H200: processors, and bytes of shared memory that a block may have."""

SLOW = {"div": 8, "sqrt": 8, "pow2": 3, "exponent": 3, "input": 0, "constant": 0}
"""Instructions of an operation of the dialect that is not one."""

INDEX, OFFSET = 4, 8
"""Bytes of a unit's number and of a place among the edges."""

G, LOSS = ACTIVATIONS["logistic"], LOSSES["half_mse"]


def instructions(rule: Rule, dtype: str = "float32") -> int:
    """Of a rule for one number, about."""
    return _of(trace(rule, dtype))


def _of(program: Program) -> int:
    return sum(
        _of(step.value) if step.op == "call" else SLOW.get(step.op, 1) for step in program.steps
    )


@dataclass(frozen=True)
class Work:
    """Bytes that a kernel must move, bytes that its blocks ask memory for, and its instructions.

    `shape` is what the numbers of `size` are: of a layer m, n, n_in; of outputs m, n; of flat
    arrays their length, of a tree how many before it; of edges m, units, edges of each; of a net
    m and the units of every layer.
    """

    kernel: str
    size: str
    shape: tuple[int, ...]
    least: int
    asked: int
    instructions: int


def layer(m: int, n: int, n_in: int, dtype: str = "float32") -> Iterator[Work]:
    """The kernels of a layer of n units with n_in inputs, for m samples."""
    real, tiles = np.dtype(dtype).itemsize, TILES[dtype]
    value, slope = instructions(G.value, dtype), instructions(G.slope, dtype)
    size, shape = f"{m:,} x {n_in:,} -> {n:,}", (m, n, n_in)

    def work(kernel: str, least: int, asked: int, count: int) -> Work:
        return Work(kernel, size, shape, real * least, real * asked, count)

    forward = grid(m, n, n_in, LEAF_FEATURES, real, tiles, PROCESSORS)
    least = m * n_in + n * n_in + n + m * n
    asked = m * n_in * forward.across + n * n_in * forward.down + n * forward.down + m * n
    yield work("dense_forward", least, asked, m * n * (n_in + value))
    back = grid(m, n_in, n, LEAF_FEATURES, real, tiles, PROCESSORS)
    least = m * n + n * n_in + 2 * m * n_in
    asked = m * n * back.across + n * n_in * back.down + 2 * m * n_in
    yield work("hidden_delta", least, asked, m * n_in * (n + slope))
    over = grid(n, n_in, m, LEAF_SAMPLES, real, tiles, PROCESSORS, sliced=True)
    second = 0 if over.slices == 1 else 2 * over.slices * n * n_in
    least = m * n + m * n_in + n * n_in
    asked = m * n * over.across + m * n_in * over.down + n * n_in + second
    yield work("weight_gradient", least, asked, m * n * n_in)
    yield work("bias_gradient", m * n + n, m * n + sums(m, n), m * n)


def sums(m: int, n: int) -> int:
    """Reals that sums of n columns are written as: of slices, which a second pass adds."""
    slices = columns(n, m, LEAF_SAMPLES, PROCESSORS).slices
    return n if slices == 1 else (2 * slices + 1) * n


def times_read(m: int, n: int, tiles: int, real: int, passes: int = 3) -> int:
    """How often a kernel reads a row: once, or in each of its passes where it is taken in parts."""
    return 1 if rows(m, n, LEAF_FEATURES, tiles, real, PROCESSORS, SHARED).room == n else passes


def outputs(m: int, n: int, dtype: str = "float32") -> Iterator[Work]:
    """The kernels of n outputs of m samples."""
    real, all_ = np.dtype(dtype).itemsize, m * n

    def of(rule: Rule) -> int:
        return instructions(rule, dtype)

    def work(kernel: str, least: int, asked: int, count: int) -> Work:
        return Work(kernel, f"{m:,} x {n:,}", (m, n), real * least, real * asked, count)

    left, right = LOSS.factors
    yield work("apply", 2 * all_, 2 * all_, all_ * of(G.value))
    slope, residual = of(G.slope) + 2, of(LOSS.residual) + 1
    least, asked = 3 * all_ + n, 3 * all_ + sums(m, n)
    yield work("output_delta", least, asked, all_ * (residual + slope))
    yield work("fused_delta", least, asked, all_ * slope)
    yield work("sample_loss", 2 * all_ + m, 2 * all_ + m, all_ * (of(left) + of(right) + 1))
    asked = all_ * (times_read(m, n, 1, real) + 1)
    yield work("softmax", 2 * all_, asked, all_ * (of(exp) + 3 + SLOW["div"]))
    asked = all_ * (times_read(m, n, 2, real) + 1)
    yield work("log_softmax", 2 * all_, asked, all_ * (of(exp) + 5) + m * of(log))
    asked = all_ * (2 * times_read(m, n, 2, real, passes=2) + 1)
    yield work("softmax_delta", 3 * all_, asked, all_ * 3)


def flat(count: int, dtype: str = "float32") -> Iterator[Work]:
    """The kernels on all parameters."""
    for kernel, arrays in (("add", 3), ("scale", 2)):
        least = arrays * count * np.dtype(dtype).itemsize
        yield Work(kernel, f"{count:,}", (count,), least, least, count)


def updates(count: int, dtype: str = "float32") -> Iterator[Work]:
    """Optimizers, on so many parameters."""
    kind: Any
    for i, kind in enumerate(OPTIMIZERS.values()):
        rules = kind().rules
        least = (1 + 2 * len(rules)) * count * np.dtype(dtype).itemsize
        work = sum(instructions(rule, dtype) for rule in rules) * count
        yield Work("update", f"{count:,}, {kind.__name__}", (count, i), least, least, work)


def tree(nodes: int, count: int, dtype: str = "float32") -> Work:
    """The tree over so many gradients of that many parameters."""
    least = (nodes + 1) * count * np.dtype(dtype).itemsize
    return Work("tree_sum", f"{nodes:,} x {count:,}", (nodes, count), least, least, nodes * count)


def edges(m: int, units: int, fan: int, dtype: str = "float32") -> Iterator[Work]:
    """The kernels of a level of units with so many edges each, from as many units."""
    real, count, rows = np.dtype(dtype).itemsize, units * fan, units * m
    size, shape = f"{units:,} units of {fan:,} edges, {m:,} samples", (m, units, fan)
    about = (real + INDEX) * count + OFFSET * units
    least, asked = about + 2 * real * rows, about + real * (fan + 1) * rows
    forward, slope = instructions(G.value, dtype), instructions(G.slope, dtype)
    bias, more = real * units, real * rows
    yield Work("edge_forward", size, shape, least + bias, asked + bias, rows * (fan + forward))
    yield Work("edge_delta", size, shape, least + more, asked + more, rows * (fan + slope))
    about = (2 * INDEX + real) * count
    least, asked = about + 2 * real * rows, about + 2 * real * count * m
    yield Work("edge_gradient", size, shape, least, asked, count * m)


def form_of(sizes: tuple[int, ...], dtype: str) -> Form:
    """A net with identity outputs."""
    return Form(sizes, (*(G for _ in sizes[2:]), IDENTITY), True, np.dtype(dtype))


def whole(m: int, sizes: tuple[int, ...], dtype: str = "float32") -> Work:
    """A sweep of a narrow net: blocks ask for weights, and nodes of the trees, for each leaf."""
    form = form_of(sizes, dtype)
    places = PROCESSORS * (SHARED // Memory(form).with_stages)
    leaves, P = ceil_div(m, LEAF_SAMPLES), form.count
    slices = ceil_div(leaves, run_of(leaves, 1, places))
    least = m * (sizes[0] + sizes[-1]) + 2 * P
    asked = m * (sizes[0] + 2 * sizes[-1]) + leaves * 4 * P + 2 * slices * P + P
    products = sum(n * n_in for n_in, n in pairwise(sizes))
    both = instructions(G.value, dtype) + instructions(G.slope, dtype) + 3
    count = m * (3 * products - sizes[0] * sizes[1] + sum(sizes[1:-1]) * both)
    real, size = form.dtype.itemsize, f"{m:,} x {'-'.join(map(str, sizes))}"
    return Work("whole_sweep", size, (m, *sizes), real * least, real * asked, count)


LAYERS = (
    *((4096, 4096, 4096), (2048, 2048, 2048), (1024, 1024, 1024), (256, 2048, 2048)),
    *((65_536, 64, 64), (65_536, 128, 128), (128, 256, 784), (1 << 20, 64, 64)),
)
OUTPUTS = ((65_536, 64), (65_536, 10), (1 << 20, 64), (1024, 50_257))
PARAMETERS = (12_801, 1 << 24)
DEEP, WIDER = (3, 64, 64, 64, 64, 1), (16, 128, 128, 128, 4)
NETS: tuple[tuple[int, tuple[int, ...]], ...] = ((65_536, DEEP), (1 << 20, DEEP), (65_536, WIDER))


def table(dtype: str = "float32") -> list[Work]:
    """Every kernel at sizes that nets have; products first."""
    narrow = [(m, sizes) for m, sizes in NETS if is_narrow(form_of(sizes, dtype), SHARED)]
    return [
        *(work for size in LAYERS for work in layer(*size, dtype)),
        *(whole(m, sizes, dtype) for m, sizes in narrow),
        *(work for size in OUTPUTS for work in outputs(*size, dtype)),
        *(work for count in PARAMETERS for work in updates(count, dtype)),
        *(work for count in PARAMETERS for work in flat(count, dtype)),
        tree(256, 12_801, dtype),
        *edges(1024, 1024, 16, dtype),
        *edges(1024, 8192, 64, dtype),
    ]
