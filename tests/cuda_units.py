"""The CUDA units that the launch table asks for, and what they take of a GPU's processors.

python tests/cuda_units.py              writes docs/cuda-resources.md, which CI compares
python tests/cuda_units.py add apply    only the lines of these kernels
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deltaprop.activations import ACTIVATIONS, IDENTITY, Activation
from deltaprop.backends import cuda as table
from deltaprop.backends.grids import TILES
from deltaprop.contract import Form, Kernels
from deltaprop.devices.memory import NumpyArrays
from deltaprop.devices.nvrtc import Compiled, compile_unit, nvrtc_version
from deltaprop.devices.unit import Unit
from deltaprop.equations import Batch
from deltaprop.losses import LOSSES
from deltaprop.optimizers import OPTIMIZERS, Momentum
from kernels.helpers import one_of_each

DTYPES = ("float32", "float64")
DEEP = 1 << 16
RESOURCES = Path(__file__).parents[1] / "docs" / "cuda-resources.md"


class Processor(NamedTuple):
    """What a processor of an architecture has; "Compute Capabilities" in NVIDIA's CUDA guide."""

    threads: int
    blocks: int
    shared: int
    registers: int = 65_536


ARCHITECTURES = {
    "sm_75": Processor(1024, 16, 64 << 10),
    "sm_80": Processor(2048, 32, 164 << 10),
    "sm_90": Processor(2048, 32, 228 << 10),
    "sm_100": Processor(2048, 32, 228 << 10),
    "sm_120": Processor(1536, 24, 100 << 10),
}


class Recorder(NumpyArrays):
    """A device that notes what it is asked to launch."""

    shared_memory = 227 << 10

    def __init__(self, processors: int = 132) -> None:
        self.processors = processors
        self.launches: list[tuple[Unit, int, tuple[Any, ...]]] = []

    def launch(
        self, unit: Unit, grid: Any, block: tuple[int, int, int], args: Any, shared: int = 0
    ) -> None:
        self.launches.append((unit, math.prod(block), args))


def launches(
    dtype: str, m: int = 2, n: int = 3, n_in: int = 4, tiles: Any = TILES, **rules: Any
) -> list[tuple[Unit, int, tuple[Any, ...]]]:
    """Unit, threads of a block and arguments of what is launched by one call of every kernel."""
    recorder = Recorder()
    k = table.kernels(recorder, "recorder", tiles)
    for field, args in one_of_each(dtype, m, n, n_in, **rules).items():
        getattr(k, field)(*args)
    sweep(k, dtype, m, **rules)
    return recorder.launches


def sweep(k: Kernels, dtype: str, m: int, g: Activation = IDENTITY, loss: Any = None) -> None:
    """A whole sweep of a narrow net, with that activation where it may stand, for that loss."""
    loss = loss or LOSSES["cross_entropy" if g.rowwise else "half_mse"]
    output = ACTIVATIONS[loss.link] if loss.link else g
    form = Form((2, 3, 3), (IDENTITY if g.rowwise else g, output), True, np.dtype(dtype))
    X, Y = np.zeros((m, 2), dtype), np.zeros((m, 3), dtype)
    k.sweeps(form).gradient(np.zeros(form.count, dtype), X, Batch(Y, None, m, 3), loss)


def applied(rule: Any, dtype: str) -> Unit:
    """A rule by itself."""
    recorder = Recorder()
    table.kernels(recorder, "recorder").apply(rule, np.zeros(1, dtype))
    return recorder.launches[0][0]


def updates(dtype: str) -> list[Unit]:
    """Every optimizer, without a weight decay and with one."""
    recorder, w = Recorder(), np.zeros(5, dtype)
    k = table.kernels(recorder, "recorder")
    more = [Momentum(nesterov=True), Momentum(nesterov=True, weight_decay=0.1)]
    for kind in OPTIMIZERS.values():
        for optimizer in (kind(), kind(weight_decay=0.1), *more):
            k.update(w, w, (w, w)[: len(optimizer.rules) - 1], optimizer.rules, (0.1,))
    return [unit for unit, *_ in recorder.launches]


def apart(x: Any) -> Any:
    """A rule that a compiler would like to contract."""
    return x * x - 1


def in_every_tile(dtype: str, *size: int) -> dict[Unit, int]:
    """Each kernel in each tile, for that size: units and threads of a block."""
    return {
        unit: threads
        for tile in TILES[dtype]
        for unit, threads, _ in launches(
            dtype, *size, tiles={dtype: (tile,)}, g=ACTIVATIONS["logistic"]
        )
    }


IN_TABLE = {
    unit: threads
    for dtype in DTYPES
    for unit, threads in in_every_tile(dtype, 1000, 300, 900).items()
}
"""Those with several leaves a sum."""


def every_unit() -> dict[str, tuple[Unit, tuple[str, ...]]]:
    """Units and architectures, by name.

    Those of the table for all of them, with one leaf a sum for one; every activation and loss, by
    itself, for all of them and within a product or a whole sweep for one; every optimizer, and deep
    trees, for one of each compiler.
    """
    found: dict[Unit, tuple[str, ...]] = {}
    for dtype in DTYPES:
        ruled = [unit for g in ACTIVATIONS.values() for unit, *_ in launches(dtype, g=g)]
        small = [unit for loss in LOSSES.values() for unit, *_ in launches(dtype, loss=loss)]
        small += [applied(g.value, dtype) for g in ACTIVATIONS.values()]
        small += [
            applied(rule, dtype) for rule in (apart, *(g.slope for g in ACTIVATIONS.values()))
        ]
        sizes = [(300, 600, 900), (DEEP, 1, 1), (1, DEEP, 1), (1, 1, DEEP)]
        deep = [unit for size in sizes for unit, *_ in launches(dtype, *size)]
        found |= dict.fromkeys([*ruled, *in_every_tile(dtype, 2, 3, 4)], ("sm_90",))
        found |= dict.fromkeys([*deep, *updates(dtype)], ("sm_90", "sm_120"))
        found |= {
            unit: ("sm_90",) if unit.kernel == "whole_sweep" else tuple(ARCHITECTURES)
            for unit in small
        }
    found |= dict.fromkeys(IN_TABLE, tuple(ARCHITECTURES))
    return {
        f"{unit.kernel}-{unit.dtype}-{unit.levels}-{i}": (unit, architectures)
        for i, (unit, architectures) in enumerate(found.items())
    }


@cache
def compiled(unit: Unit, arch: str) -> Compiled:
    return compile_unit(unit, arch)


def resident(unit: Unit, arch: str, threads: int) -> int:
    """Blocks that a processor holds at once.

    Registers are given out to warps in multiples of 256, shared memory in multiples of 128 bytes
    with 1 KB for the system from sm_80 on. What a launch asks for beside is not counted.
    """
    here, takes = ARCHITECTURES[arch], compiled(unit, arch).resources
    warp = -(-takes.registers * 32 // 256) * 256
    shared = -(-takes.shared // 128) * 128 + (0 if arch == "sm_75" else 1024)
    by_registers = here.registers // warp // (threads // 32)
    return min(here.threads // threads, here.blocks, by_registers, here.shared // max(shared, 1))


def row(unit: Unit) -> str:
    """The unit's line in the table."""
    threads, takes = IN_TABLE[unit], compiled(unit, "sm_90").resources
    tile = f"{unit.tile.block_rows} x {unit.tile.block_columns}" if unit.tile else ""
    cells = [
        f"{compiled(unit, arch).resources.registers}, {resident(unit, arch, threads)}"
        for arch in ARCHITECTURES
    ]
    columns = (unit.kernel, unit.dtype, tile, unit.levels, threads, takes.shared, takes.local)
    return f"| {' | '.join(str(x) for x in (*columns, *cells))} |"


HEAD = """\
# What the CUDA kernels take

Of every kernel, in every tile: threads of a block, bytes of shared memory of a block, bytes of
local memory of a thread, where nodes wait for the tree; and for each architecture registers of a
thread, and blocks that a processor holds at once. No kernel has to keep registers in memory.
`nodes` is how many may wait at most. Compiled by NVRTC {version}, with the logistic where there is
an activation and Adam for `update`; `whole_sweep` asks for more shared memory, as the net needs it.
Written by `python tests/cuda_units.py`, compared by the tests.

| kernel | dtype | tile | nodes | threads | shared | local | {architectures} |
|---|---|---|---|---|---|---|{lines}
"""


def head() -> str:
    columns = " | ".join(ARCHITECTURES)
    return HEAD.format(
        version=nvrtc_version(), architectures=columns, lines="---|" * len(ARCHITECTURES)
    )


def write(only: Collection[str]) -> None:
    """The table; with kernels named, the lines of the others stay as they are."""
    kept = RESOURCES.read_text(encoding="utf-8").splitlines() if only else []
    lines = [line for line in kept if line.startswith("| ") and line.split()[1] not in only]
    lines = [line for line in lines if not line.startswith("| kernel ")]
    units = [unit for unit in IN_TABLE if not only or unit.kernel in only]
    lines += [row(unit) for unit in sorted(units, key=lambda u: (u.kernel, str(u.dtype)))]
    lines.sort(key=lambda line: line.split()[1])
    RESOURCES.write_text(head() + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:])
