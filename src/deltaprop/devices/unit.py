"""A unit of CUDA C++: one kernel, for one dtype, with the rules it calls printed into it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES
from deltaprop.scalar import Program

CTYPES = {np.dtype("float32"): "float", np.dtype("float64"): "double"}


class Tile(NamedTuple):
    """What a block of ordered_gemm.cuh computes of C, and each of its threads."""

    block_rows: int
    block_columns: int
    rows: int
    columns: int
    blocks: int
    """That the registers of a processor are to hold at once."""
    depth: int = 16
    """Terms that come to shared memory at once."""

    @property
    def threads(self) -> int:
        """Of a block: warps of 8 by 4 threads."""
        return (
            32 * (self.block_rows // (8 * self.rows)) * (self.block_columns // (4 * self.columns))
        )


@dataclass(frozen=True)
class Unit:
    """The kernel `kernel` of kernels/`kernel`.cu.

    `rules` are the functions it calls, by the names it calls them by; `levels` bounds its trees;
    `tile` is that of a kernel made of products; `constants` are numbers by their names.
    """

    kernel: str
    dtype: np.dtype[Any]
    rules: tuple[tuple[str, Program], ...] = ()
    levels: int = 1
    tile: Tile | None = None
    constants: tuple[tuple[str, int], ...] = ()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Worked out once: a unit is looked up at every launch, and its rules are long."""
        return hash((self.kernel, self.dtype, self.rules, self.levels, self.tile, self.constants))

    def source(self) -> str:
        """The translation unit; its includes are found in kernels/."""
        programs: dict[str, Program] = {}
        for name, program in self.rules:
            programs |= {called.symbol: called for called in program.calls} | {name: program}
        numbers = [*(self.tile._asdict().items() if self.tile else ()), *self.constants]
        defines = "".join(f"#define {name.upper()} {number}\n" for name, number in numbers)
        functions = "\n".join(_function(name, program) for name, program in programs.items())
        return (
            f"typedef {CTYPES[self.dtype]} real;\n"
            f"#define LEAF_FEATURES {LEAF_FEATURES}\n"
            f"#define LEAF_SAMPLES {LEAF_SAMPLES}\n"
            f"#define TREE_LEVELS {self.levels}\n"
            f"{defines}"
            '#include "scalar.cuh"\n\n'
            "namespace unit {\n\n"
            f"{functions}\n"
            f'#include "{self.kernel}.cu"\n\n'
            "}  // namespace unit\n"
        )


def _constant(value: Any) -> str:
    number = float(value)
    if math.isnan(number):
        return "(real(0) / real(0))"
    if math.isinf(number):
        return f"({'-' if number < 0 else ''}real(1) / real(0))"
    return f"real({number.hex()})"


def _function(name: str, program: Program) -> str:
    parameters = ", ".join(f"real {x}" for x in program.inputs)
    lines, result = program.text("    const auto {name} = {expression};\n", _constant)
    body = "".join(lines)
    return f"__device__ inline real {name}({parameters}) {{\n{body}    return {result};\n}}\n"
