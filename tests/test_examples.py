"""The examples run, and the gradients they print are right.

The right ones are complex-step derivatives of the forward sweep: dE/dw = Im E(w + ih) / h, which
for a tiny h is exact to rounding, and knows nothing of a backward sweep.
"""

from __future__ import annotations

import re
import subprocess
import sys
from cmath import exp, tanh
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
Numbers = dict[str, complex]
STEP = 1e-30


def logistic(z: complex) -> complex:
    return 1 / (1 + exp(-z))


def chain(w: Numbers) -> complex:
    h1 = logistic(w["x -> h1"] * 0.6 + w["h1"])
    h2 = logistic(w["h1 -> h2"] * h1 + w["h2"])
    y = logistic(w["h2 -> y"] * h2 + w["y"])
    return (y - 0.9) ** 2 / 2


def several_inputs(w: Numbers) -> complex:
    z = w["x1 -> h"] * 0.5 + w["x2 -> h"] * -1.2 + w["x3 -> h"] * 2.0 + w["h"]
    y = w["h -> y"] * tanh(z) + w["y"]
    return (y - 0.4) ** 2 / 2


def several_outputs(w: Numbers) -> complex:
    h = logistic(w["x1 -> h"] * 0.05 + w["x2 -> h"] * 0.1 + w["h"])
    y1, y2 = logistic(w["h -> y1"] * h + w["y1"]), logistic(w["h -> y2"] * h + w["y2"])
    return ((y1 - 0.01) ** 2 + (y2 - 0.99) ** 2) / 2


NETS: dict[str, tuple[Callable[[Numbers], complex], Numbers]] = {
    "chain": (
        chain,
        {"x -> h1": 0.8, "h1 -> h2": -1.1, "h2 -> y": 1.4, "h1": 0.1, "h2": 0.3, "y": -0.2},
    ),
    "several_inputs": (
        several_inputs,
        {"x1 -> h": 0.7, "x2 -> h": 0.2, "x3 -> h": -0.3, "h -> y": 1.5, "h": 0.05, "y": -0.1},
    ),
    "several_outputs": (
        several_outputs,
        {
            "x1 -> h": 0.15,
            "x2 -> h": 0.2,
            "h -> y1": 0.4,
            "h -> y2": 0.5,
            "h": 0.35,
            "y1": 0.6,
            "y2": 0.6,
        },
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_an_example_prints_the_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTAPROP_BACKEND", "reference")
    command = [sys.executable, "-W", "error", str(FOLDER / f"{name}.py")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^dE/d([wb])\((.*?)\) +(\S+) +(\S+)$", out, re.MULTILINE)
    error, parameters = NETS[name]
    assert [key for _, key, _, _ in rows] == list(parameters)
    for kind, key, by_hand, backpropagation in rows:
        wanted = error({**parameters, key: parameters[key] + STEP * 1j}).imag / STEP
        assert float(by_hand) == pytest.approx(wanted, rel=1e-13, abs=0)
        assert float(backpropagation) == pytest.approx(wanted, rel=1e-13, abs=0)
        assert kind == ("w" if "->" in key else "b")
    explained, total = re.findall(
        r"^dE/dw\(([^)]*)\): .*?^the gradient by backpropagation +(\S+)$", out, re.M | re.S
    )[0]
    wanted = error({**parameters, explained: parameters[explained] + STEP * 1j}).imag / STEP
    assert float(total) == pytest.approx(wanted, rel=1e-13, abs=0)


def test_every_example_is_run() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text("utf-8")}
    assert scripts == set(NETS)
