"""The figures in the README are those of the committed results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GRAPHS = ROOT / "benchmarks" / "results" / "graph-2-cores-sapphire-rapids.json"


def milliseconds(t: float) -> str:
    return f"{1e3 * t:.3g}" if t < 0.1 else f"{1e3 * t:,.0f}"


def table(results: dict[str, Any]) -> list[str]:
    """The rows of the README's table of sparse nets."""
    rivals = list(results["cases"][0]["seconds"])
    lines = [
        f"| units | edges, density | batch | {' | '.join(rivals)} |",
        f"|{'---|' * (3 + len(rivals))}",
    ]
    for row in results["cases"]:
        case, seconds = row["case"], row["seconds"]
        edges = case["layers"] * case["width"] * case["edges"]
        density = 100 * case["edges"] / case["width"]
        fastest = min(seconds.values())
        times = [
            f"**{milliseconds(t)}**" if t == fastest else milliseconds(t) for t in seconds.values()
        ]
        digits = 0 if density >= 1 else 1
        lines.append(
            f"| {case['layers']} x {case['width']:,} | {edges:,}, {density:.{digits}f}% "
            f"| {case['m']} | {' | '.join(times)} |"
        )
    return lines


def test_the_table_of_sparse_nets_is_what_was_measured() -> None:
    results = json.loads(GRAPHS.read_text(encoding="utf-8"))
    for line in table(results):
        assert line in README


def test_the_graph_is_the_fastest_up_to_ten_percent() -> None:
    """What the README claims of the figures it shows."""
    for row in json.loads(GRAPHS.read_text(encoding="utf-8"))["cases"]:
        if row["case"]["edges"] <= 0.1 * row["case"]["width"]:
            assert min(row["seconds"], key=row["seconds"].get) == "deltaprop", row["case"]
