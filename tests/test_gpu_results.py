"""Results from a GPU are committed only as they came: checked, with the rivals, goals and failures.

And the README says of a GPU only what was measured on one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltaprop.peers.case import Case

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = sorted((ROOT / "benchmarks" / "results").glob("gpu-*.json"))
RESULTS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in FILES}

ALWAYS = ("deltaprop", "PyTorch", "PyTorch graph", "JAX")
"""Who compiles for long may be missing for want of time; these may not."""


def doubts(found: dict[str, Any]) -> list[str]:
    """What is wrong with results; their rows' names in it."""
    said = [] if found["machine"]["gpu"]["name"] else ["no GPU is named"]
    rows = found["rows" if found["kind"] == "kernels" else "cases"]
    of_row = _of_kernel if found["kind"] == "kernels" else _of_step
    return said + [doubt for row in rows for doubt in of_row(row)] + ([] if rows else ["no rows"])


def _of_kernel(row: dict[str, Any]) -> list[str]:
    name = f"{row['work']['kernel']} {row['work']['size']}"
    if row["failed"]:
        return [f"{name}: {row['failed']}"]
    beyond = row["cold"] and row["share"] > 1.05
    return [f"{name}: {row['share']:.0%} of what the GPU does at most"] if beyond else []


def _of_step(row: dict[str, Any]) -> list[str]:
    said = [f"{row['name']}: {name}: {how}" for name, how in row["failed"].items()]
    said += [f"{row['name']}: without {name}" for name in ALWAYS if name not in row["seconds"]]
    said += [f"{row['name']}: unchecked {name}" for name in row["seconds"].keys() - row["errors"]]
    said += [f"{row['name']}: {name} is off" for name, x in row["errors"].items() if not x <= 1]
    others = {name: t for name, t in row["seconds"].items() if name != "deltaprop"}
    if others and "deltaprop" in row["seconds"]:
        best = min(others, key=others.__getitem__)
        if (row["best_rival"], row["ratio"]) != (best, row["seconds"]["deltaprop"] / others[best]):
            said.append(f"{row['name']}: {best} is the best rival")
    case = Case(
        *(tuple(row["sizes"]), row["batch"], row["activation"], row["output"]),
        *(row["loss"], row["dtype"], row["inference"], row["device"]),
    )
    if row["device"] != "cuda" or row["goal"] != case.goal:
        said.append(f"{row['name']}: its goal is {case.goal}")
    return said


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_beyond_doubt(name: str) -> None:
    assert doubts(RESULTS[name]) == []


@pytest.mark.parametrize("name", [n for n in RESULTS if RESULTS[n]["kind"] == "table"])
def test_the_readme_names_each_goal_that_was_missed(name: str) -> None:
    for row in RESULTS[name]["cases"]:
        if row["goal"] is not None and row["ratio"] > row["goal"]:
            assert f"| {row['name']} |" in README, "in the table, with its ratio"
            assert f"{row['ratio']:.2f}" in README


def test_the_readme_says_whether_a_gpu_was_measured() -> None:
    assert ("not yet measured" in README) == (not RESULTS)


STEP = {
    "name": "2-3-1, batch 4",
    "sizes": [2, 3, 1],
    "batch": 4,
    "activation": "logistic",
    "output": "logistic",
    "loss": "half_mse",
    "dtype": "float32",
    "inference": False,
    "device": "cuda",
    "seconds": {"deltaprop": 2.0, "PyTorch": 9.0, "PyTorch graph": 4.0, "JAX": 5.0},
    "errors": dict.fromkeys(ALWAYS, 0.1),
    "failed": {},
    "best_rival": "PyTorch graph",
    "ratio": 0.5,
    "goal": 0.5,
}
KERNEL = {"work": {"kernel": "add", "size": "7"}, "failed": "", "cold": True, "share": 0.9}


def results(kind: str) -> dict[str, Any]:
    found = {"kind": kind, "machine": {"gpu": {"name": "a GPU"}}, "cases": [STEP], "rows": [KERNEL]}
    return copy.deepcopy(found)


def change(where: str, name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A number of the first step or kernel, set or taken away."""

    def edit(found: dict[str, Any]) -> None:
        row = found["cases" if found["kind"] == "table" else "rows"][0]
        place = row[where] if where else row
        place.pop(name) if value is None else place.update({name: value})

    return edit


@pytest.mark.parametrize(
    ("kind", "edit", "said"),
    [
        ("table", change("seconds", "JAX", None), "without JAX"),
        ("table", change("seconds", "PyTorch", 1.0), "PyTorch is the best rival"),
        ("table", change("", "ratio", 0.4), "PyTorch graph is the best rival"),
        ("table", change("errors", "JAX", None), "unchecked JAX"),
        ("table", change("errors", "deltaprop", float("nan")), "deltaprop is off"),
        ("table", change("failed", "compiled graph", "wrong"), "compiled graph: wrong"),
        ("table", change("", "goal", 0.8), "its goal is 0.5"),
        ("table", change("", "device", "cpu"), "its goal is"),
        ("table", lambda found: found["cases"].clear(), "no rows"),
        ("kernels", change("", "failed", "no room"), "add 7: no room"),
        ("kernels", change("", "share", 1.2), "120% of what the GPU does at most"),
        ("kernels", lambda found: found["machine"]["gpu"].update(name=""), "no GPU is named"),
    ],
)
def test_what_is_not_as_it_came_is_seen(kind: str, edit: Any, said: str) -> None:
    found = results(kind)
    assert doubts(found) == []
    edit(found)
    assert any(said in doubt for doubt in doubts(found))
