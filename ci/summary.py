"""What ci/gpu.sh measured, in few lines: python ci/summary.py FILE..., JSON of deltaprop bench."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def kernels(found: dict[str, Any]) -> Iterator[str]:
    limits = found["limits"]
    products = ", ".join(f"{x / 1e12:.1f} at {n}" for n, x in limits["flops"].items())
    yield (
        f"kernels, {found['dtype']}: a copy moves {limits['bytes'] / 1e9:,.0f} GB/s; "
        f"the library's products, TFLOP/s: {products}"
    )
    yield f"{'':<54}{'us':>9}{'ceiling':>8}{'of library':>11}"
    for row in found["rows"]:
        name = f"{row['work']['kernel']:<16}{row['work']['size']:<38}"
        if row["failed"]:
            yield f"{name} FAILED: {row['failed']}"
            continue
        beside = f"{row['seconds'] / row['library']:>11.2f}" if row["library"] else ""
        warm = "" if row["cold"] else "  in the cache"
        yield f"{name}{row['seconds'] * 1e6:>9,.1f}{row['share']:>8.0%}{beside}{warm}"


def steps(found: dict[str, Any]) -> Iterator[str]:
    rows = found["cases"]
    if rows:
        what = "predictions" if rows[0]["inference"] else "training steps"
        yield f"{what}, {rows[0]['dtype']}"
        yield f"{'':<32}{'ours, us':>12}{'best rival, us':>28}{'ratio':>7}{'goal':>6}"
    for row in rows:
        for name, how in row["failed"].items():
            yield f"{row['name']:<32}  {name} FAILED: {how}"
        if row["ratio"] is None:
            continue
        best = f"{row['best_rival']} {row['seconds'][row['best_rival']] * 1e6:,.1f}"
        goal = "" if row["goal"] is None else f"{row['goal']:g}"
        missed = "  missed" if goal and row["ratio"] > row["goal"] else ""
        absent = f"  without {', '.join(row['absent'])}" if row["absent"] else ""
        yield (
            f"{row['name']:<32}{row['seconds']['deltaprop'] * 1e6:>12,.1f}{best:>28}"
            f"{row['ratio']:>7.2f}{goal:>6}{missed}{absent}"
        )


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        if not path.is_file():
            print(f"{path.name}: not there\n")
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        print("\n".join((kernels if found["kind"] == "kernels" else steps)(found)))
        if found["not_reached"]:
            print(f"not reached: {'; '.join(found['not_reached'])}")
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
