"""The times that CUDA kernels cannot beat on an H200, as a page.

python tests/cuda_roofline.py      writes docs/roofline.md, which CI compares
"""

from __future__ import annotations

from pathlib import Path

from deltaprop.roofline import Work, table

ROOFLINE = Path(__file__).parents[1] / "docs" / "roofline.md"

# Of an H200: instructions of a float32 unit each second (67 TFLOP/s are half as many fused
# products), bytes that a copy moves each second.
INSTRUCTIONS, BANDWIDTH = 33.5e12, 4.3e12


def row(work: Work) -> str:
    memory = 1e6 * work.least / BANDWIDTH
    arithmetic = 1e6 * work.instructions / INSTRUCTIONS
    cells = (
        work.kernel,
        work.size,
        f"{1e-6 * work.least:,.1f}",
        f"{work.asked / work.least:.2f}",
        f"{1e-6 * work.instructions:,.0f}",
        f"{memory:,.1f}",
        f"{arithmetic:,.1f}",
        "memory" if memory > arithmetic else "arithmetic",
    )
    return f"| {' | '.join(cells)} |"


HEAD = """\
# The times that the CUDA kernels cannot beat

On an H200, in float32, with the logistic and half_mse: 67 TFLOP/s of fused products, so 33.5
million million instructions a second, and 4.3 TB/s, what a copy was measured to move. `least` is
what must be read and written; `asked` is what the kernel's blocks ask memory for, in multiples of
that: what is asked for more than once should come from the second cache. Instructions are products
and the operations of rules, a division counted as eight; what a kernel does beside is not counted.
The time to beat is the larger of the two. Written by `python tests/cuda_roofline.py` from
`src/deltaprop/roofline.py`, compared by the tests; nothing here is a measurement.
`deltaprop bench --kernels --backend cuda` measures the same kernels beside what the GPU at hand
does at most.

| kernel | size | least, MB | asked | 10^6 instructions | us by memory | us by arithmetic | bound |
|---|---|---|---|---|---|---|---|
"""


def page() -> str:
    return HEAD + "\n".join(map(row, table())) + "\n"


if __name__ == "__main__":
    ROOFLINE.write_text(page(), encoding="utf-8")
