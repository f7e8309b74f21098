"""The command `deltaprop bench --peers`: what it prints and writes, and which options it takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from commands import refused, well
from deltaprop.peers import rivals
from deltaprop.peers.by_hand import Runner, by_numpy
from deltaprop.peers.case import Task
from deltaprop.peers.rivals import OURS, RIVALS

OPTIONS = ("bench", "--peers", "--seconds", 0, "--largest", 200, "--backend", "numpy")


@pytest.fixture
def without_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rivals that every machine has."""
    monkeypatch.setattr(rivals, "EVERYBODY", (OURS, "NumPy"))
    monkeypatch.setattr(rivals, "OF_SWEEPS", (OURS, "NumPy"))


@pytest.mark.usefixtures("without_frameworks")
def test_the_command(tmp_path: Path) -> None:
    out, plot = tmp_path / "figures.json", tmp_path / "figures.png"
    text = well(*OPTIONS, "--out", out, "--plot", plot)
    assert "a training step, half_mse, logistic, float32" in text
    assert "2-3-1, batch 4\n" in text
    assert "of the time of NumPy; goal 0.33: " in text
    assert [case["sizes"] for case in json.loads(out.read_text())["cases"]] == [[2, 3, 1]]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("without_frameworks")
def test_the_command_with_other_options(tmp_path: Path) -> None:
    other = ("--activation", "relu", "--loss", "cross_entropy", "--dtype", "float64", "--inference")
    text = well(*OPTIONS, *other, "--sweep", "--out", tmp_path / "x.json")
    assert "a prediction, relu, float64: medians, in turns; deltaprop on 'numpy'" in text
    found = json.loads((tmp_path / "x.json").read_text())
    assert [case["name"] for case in found["cases"]] == [f"{n} x 3, batch 1" for n in (2, 3, 4, 5)]
    assert {case["output"] for case in found["cases"]} == {"softmax"}
    assert all(case["goal"] is None for case in found["cases"])


def test_with_a_limit_of_threads_the_command_runs_again_with_it(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    limited = ("--sweep", "--largest", 20, "--threads", 1, "--out", out)
    text = well(*OPTIONS, *limited)
    assert "threads: 1; fma in registers" in text
    assert json.loads(out.read_text())["machine"]["threads"] == 1
    refused(*OPTIONS, "--threads", 10**6, words=["threads must be from 1 to", 10**6])
    nothing = ("bench", "--peers", "--largest", 1, "--threads", 1)
    refused(*nothing, words=["no net has 1 operations or fewer"])


def backwards(task: Task) -> Runner:
    """A step up the gradient."""
    right = by_numpy(task)
    return Runner(right.run, lambda x: 2 * task.net.parameters - right.answer(x))


def test_with_a_rival_that_steps_backwards_the_command_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cheats = [replace(r, start=backwards) if r.name == "NumPy" else r for r in RIVALS]
    monkeypatch.setattr(rivals, "RIVALS", cheats)
    monkeypatch.setattr(rivals, "EVERYBODY", (OURS, "NumPy"))
    refused(*OPTIONS, words=["NumPy: a training step is wrong for 2-3-1, batch 4", "of the step"])


def test_with_no_time_left_nets_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rivals, "EVERYBODY", (OURS, "NumPy"))
    out = tmp_path / "x.json"
    text = well(*OPTIONS, "--budget", 0, "--out", out)
    assert text.splitlines()[-1] == "not reached: 2-3-1, batch 4"
    read = json.loads(out.read_text())
    assert (read["cases"], read["not_reached"]) == ([], ["2-3-1, batch 4"])


def test_options_that_do_not_go_together() -> None:
    for option in ("--sweep", "--inference"):
        refused("bench", option, words=[f"{option} goes with --peers"])
    refused("bench", "--threads", 1, words=["--threads goes with --peers"])
    refused("bench", "--out", "x.json", words=["--out goes with --peers or --kernels"])
    refused("bench", "--budget", 1, words=["--budget goes with --peers or --kernels"])
    refused("bench", "--peers", "--kernels", words=["two commands"])
    refused("bench", "--peers", "--out", "none/x.json", words=["--out", "'none'"])
    refused(*OPTIONS, "--backend", "cpu", words=["one backend"])
    refused(*OPTIONS, "--activation", "gelu", words=["--activation", "gelu"])
    refused(*OPTIONS, "--threads", 0, words=["--threads"])
