"""What CUDA kernels must move and compute, what they ask memory for, the times they cannot beat.

python tests/cuda_roofline.py      writes docs/roofline.md, which CI compares
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from deltaprop.activations import ACTIVATIONS, IDENTITY
from deltaprop.backends.grids import TILES, ceil_div, grid, runs
from deltaprop.backends.narrow import Memory, run_of
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES, Form
from deltaprop.elementary import exp, log
from deltaprop.losses import LOSSES
from deltaprop.scalar import Program, Rule, trace

ROOFLINE = Path(__file__).parents[1] / "docs" / "roofline.md"

# An H200: processors, instructions of a float32 unit each second (67 TFLOP/s are half as many fused
# products), bytes that a copy moves each second, bytes of shared memory that a block may have.
PROCESSORS, INSTRUCTIONS, BANDWIDTH, SHARED = 132, 33.5e12, 4.3e12, 227 << 10

SLOW = {"div": 8, "sqrt": 8, "pow2": 3, "exponent": 3, "input": 0, "constant": 0}
"""Instructions of an operation of the dialect that is not one."""


def instructions(rule: Rule) -> int:
    """Of a rule for one number, about."""
    return _of(trace(rule, "float32"))


def _of(program: Program) -> int:
    return sum(
        _of(step.value) if step.op == "call" else SLOW.get(step.op, 1) for step in program.steps
    )


@dataclass(frozen=True)
class Work:
    """Reals that a kernel must move, reals that it asks memory for, and its instructions."""

    kernel: str
    size: str
    least: int
    asked: int
    instructions: int

    def row(self) -> str:
        memory = 4e6 * self.least / BANDWIDTH
        arithmetic = 1e6 * self.instructions / INSTRUCTIONS
        bound = "memory" if memory > arithmetic else "arithmetic"
        cells = (
            self.kernel,
            self.size,
            f"{4e-6 * self.least:,.1f}",
            f"{self.asked / self.least:.2f}",
            f"{1e-6 * self.instructions:,.0f}",
            f"{memory:,.1f}",
            f"{arithmetic:,.1f}",
            bound,
        )
        return f"| {' | '.join(cells)} |"


G, LOSS = ACTIVATIONS["logistic"], LOSSES["half_mse"]


def layer(m: int, n: int, n_in: int) -> Iterator[Work]:
    """The kernels of a layer of n units with n_in inputs, for m samples."""
    value, slope = instructions(G.value), instructions(G.slope)
    size = f"{m:,} x {n_in:,} -> {n:,}"
    tiles = TILES["float32"]
    forward = grid(m, n, n_in, LEAF_FEATURES, 4, tiles, PROCESSORS)
    least = m * n_in + n * n_in + n + m * n
    asked = m * n_in * forward.across + n * n_in * forward.down + n * forward.down + m * n
    yield Work("dense_forward", size, least, asked, m * n * (n_in + value))
    back = grid(m, n_in, n, LEAF_FEATURES, 4, tiles, PROCESSORS)
    least = m * n + n * n_in + 2 * m * n_in
    asked = m * n * back.across + n * n_in * back.down + 2 * m * n_in
    yield Work("hidden_delta", size, least, asked, m * n_in * (n + slope))
    over = grid(n, n_in, m, LEAF_SAMPLES, 4, tiles, PROCESSORS, sliced=True)
    second = 0 if over.slices == 1 else 2 * over.slices * n * n_in
    least = m * n + m * n_in + n * n_in
    asked = m * n * over.across + m * n_in * over.down + n * n_in + second
    yield Work("weight_gradient", size, least, asked, m * n * n_in)
    slices, _ = runs(n, m, LEAF_SAMPLES, PROCESSORS)
    second = 0 if slices == 1 else 2 * slices * n
    yield Work("bias_gradient", size, m * n + n, m * n + n + second, m * n)


def outputs(m: int, n: int) -> Iterator[Work]:
    """The kernels of n outputs of m samples."""
    size, all_ = f"{m:,} x {n:,}", m * n
    left, right = LOSS.factors
    residual = instructions(LOSS.residual) + instructions(G.slope) + 2
    yield Work("apply", size, 2 * all_, 2 * all_, all_ * instructions(G.value))
    yield Work("output_delta", size, 3 * all_, 4 * all_, all_ * residual)
    factors = instructions(left) + instructions(right) + 1
    yield Work("sample_loss", size, 2 * all_ + m, 2 * all_ + m, all_ * factors)
    once = instructions(exp)
    yield Work("softmax", size, 2 * all_, 6 * all_, all_ * (once + 3 + SLOW["div"]))
    yield Work("log_softmax", size, 2 * all_, 4 * all_, all_ * (once + 5) + m * instructions(log))


def flat(count: int) -> Iterator[Work]:
    """The kernels on all parameters."""
    for kernel in ("descend", "add"):
        yield Work(kernel, f"{count:,}", 3 * count, 3 * count, count)
    yield Work("scale", f"{count:,}", 2 * count, 2 * count, count)
    yield Work("tree_sum", f"256 x {count:,}", 257 * count, 257 * count, 256 * count)


def edges(m: int, units: int, fan: int) -> Iterator[Work]:
    """The kernels of a level of units with so many edges each, from as many units."""
    count, rows = units * fan, units * m
    size = f"{units:,} units of {fan:,} edges, {m:,} samples"
    forward, slope = instructions(G.value), instructions(G.slope)
    about = 2 * count + units
    yield Work(
        "edge_forward", size, 2 * rows + about, (fan + 1) * rows + about, rows * (fan + forward)
    )
    yield Work("edge_delta", size, 3 * rows + about, (fan + 2) * rows + about, rows * (fan + slope))
    yield Work("edge_gradient", size, 2 * rows + about, 2 * count * m + about, count * m)


def whole(m: int, sizes: tuple[int, ...]) -> Work:
    """A sweep of a narrow net: blocks ask for weights, and nodes of the trees, for each leaf."""
    activations = (*(G for _ in sizes[2:]), IDENTITY)
    form = Form(sizes, activations, True, np.dtype("float32"))
    places = PROCESSORS * (SHARED // Memory(form).with_stages)
    leaves, P = ceil_div(m, LEAF_SAMPLES), form.count
    slices = ceil_div(leaves, run_of(leaves, 1, places))
    least = m * (sizes[0] + sizes[-1]) + 2 * P
    asked = m * (sizes[0] + 2 * sizes[-1]) + leaves * 4 * P + 2 * slices * P + P
    products = sum(n * n_in for n_in, n in pairwise(sizes))
    both = instructions(G.value) + instructions(G.slope) + 3
    work = m * (3 * products - sizes[0] * sizes[1] + sum(sizes[1:-1]) * both)
    return Work("whole_sweep", f"{m:,} x {'-'.join(map(str, sizes))}", least, asked, work)


def table() -> list[Work]:
    return [
        *(work for size in LAYERS for work in layer(*size)),
        *outputs(65_536, 64),
        *outputs(65_536, 10),
        *flat(12_801),
        *edges(1024, 1024, 16),
        whole(65_536, (3, 64, 64, 64, 64, 1)),
        whole(1 << 20, (3, 64, 64, 64, 64, 1)),
        whole(65_536, (16, 128, 128, 128, 4)),
    ]


LAYERS = ((65_536, 64, 64), (65_536, 128, 128), (128, 256, 784), (1024, 1024, 1024))
LAYERS += ((256, 2048, 2048), (4096, 4096, 4096))

HEAD = """\
# The times that the CUDA kernels cannot beat

On an H200, in float32, with the logistic and half_mse: 67 TFLOP/s of fused products, so 33.5
million million instructions a second, and 4.3 TB/s, what a copy was measured to move. `least` is
what must be read and written; `asked` is what the kernel's blocks ask memory for, in multiples of
that: what is asked for more than once should come from the second cache. Instructions are products
and the operations of rules, a division counted as eight; what a kernel does beside is not counted.
The time to beat is the larger of the two. Written by `python tests/cuda_roofline.py`, compared by
the tests; nothing here is a measurement.

| kernel | size | least, MB | asked | 10^6 instructions | us by memory | us by arithmetic | bound |
|---|---|---|---|---|---|---|---|
"""


def page() -> str:
    return HEAD + "\n".join(work.row() for work in table()) + "\n"


if __name__ == "__main__":
    ROOFLINE.write_text(page(), encoding="utf-8")
