"""The machine code of the ordered product: its inner loop multiplies and does little else.

Disassembled by NVIDIA's nvdisasm, from the package nvidia-cuda-nvdisasm or a CUDA toolkit.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from cuda_units import compiled
from deltaprop.devices.unit import Unit


def nvdisasm() -> str:
    try:
        files = importlib.metadata.files("nvidia-cuda-nvdisasm") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    here = [str(file.locate()) for file in files if file.name.startswith("nvdisasm")]
    return here[0] if here else str(shutil.which("nvdisasm"))


def loops(code: str) -> list[list[str]]:
    """The instructions of each innermost loop: from a label to a branch back to it."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    found: list[list[str]] = []
    for line in code.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?(\S.*);", line):
            instructions.append(instruction[1])
            back = re.match(r"BRA.*`\((\.L_x_\d+)\)", instruction[1])
            if back and (start := labels.get(back[1])) is not None:
                found.append(instructions[start:])
    return found


def inner_loop(unit: Unit, arch: str, folder: Path) -> Counter[str]:
    """How often each instruction is in the shortest loop that has products of 16 sums or more."""
    cubin = folder / "unit.cubin"
    cubin.write_bytes(compiled(unit, arch).cubin)
    command = [nvdisasm(), "-c", str(cubin)]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = [[x.split()[0] for x in loop] for loop in loops(code)]
    products = [x for x in names if sum(y in ("FFMA", "DFMA") for y in x) >= 128]
    return Counter(min(products, key=len))


def assert_few_others(unit: Unit, arch: str, folder: Path) -> None:
    """Products of eight terms, or four, their loads of 16 bytes, and few others: ten, or 14."""
    tile, found = unit.tile, inner_loop(unit, arch, folder)
    what = f"{unit.kernel}.cu for {arch}: {found}"
    products = found.pop("FFMA" if unit.dtype == "float32" else "DFMA")
    loads = found.pop("LDS.128", 0) + found.pop("LDS.U.128", 0)
    terms = min(8, 512 // (tile.rows * tile.columns))
    assert products == terms * tile.rows * tile.columns, what
    assert loads == terms * (tile.rows + tile.columns) * unit.dtype.itemsize // 16, what
    # On sm_75 the largest tile has no register left for an address.
    assert found.total() <= (14 if (arch, terms) == ("sm_75", 4) else 10), what
    assert not {x for x in found if re.match("LD|ST", x)}, what
