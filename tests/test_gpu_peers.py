"""The comparison with other libraries on a GPU: who takes part, the goals, and our own steps.

The other libraries need a GPU; ours computes on a stand-in.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp
from commands import well
from conftest import HERE
from cupy_events import add_events
from deltaprop import cli_bench
from deltaprop.bench import NETS
from deltaprop.ceilings import limits
from deltaprop.ceilings.limits import Limits
from deltaprop.peers import answers, machine, picture, rivals, rounds
from deltaprop.peers import case as cases
from deltaprop.peers.allowance import Allowance
from deltaprop.peers.answers import VISIBLE, Expected, WrongAnswerError
from deltaprop.peers.by_hand import Runner, by_numpy, deltaprop
from deltaprop.peers.case import DISTINCT, Case, Task
from deltaprop.peers.figures import measure
from deltaprop.peers.rivals import OURS, Rival
from strict_cupy import DeviceArray, use_strict_cupy

KIND = cases.like("logistic", "half_mse", "float32", False, "cuda")
SMALL = Case((3, 5, 4), 7, device="cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if "cuda-host" not in HERE:
        pytest.skip("no C++ compiler")
    add_events(use_strict_cupy(monkeypatch))


def test_who_takes_part_where() -> None:
    on_gpu = [rival.name for rival in rivals.taking_part("cuda", rivals.EVERYBODY)]
    assert on_gpu == [
        *(OURS, "PyTorch", "PyTorch graph", "torch.compile", "compiled graph", "JAX"),
    ]
    on_cpu = [rival.name for rival in rivals.taking_part("cuda-host", rivals.EVERYBODY)]
    assert on_cpu == [OURS, "NumPy", "PyTorch", "torch.compile", "JAX", "scikit-learn"]


def test_goals_on_a_gpu_go_by_the_widest_layer() -> None:
    goals = {case.sizes: case.goal for case in cases.table(KIND)}
    assert set(NETS) <= {(case.sizes, case.m) for case in cases.table(KIND)}
    for sizes, goal in goals.items():
        widest = max(sizes)
        assert goal == (0.5 if widest <= 128 else 0.8 if widest <= 1024 else 1.0)
    assert set(goals.values()) == {0.5, 0.8, 1.0}
    for other in (replace(KIND, dtype="float64"), replace(KIND, inference=True)):
        assert not any(case.goal for case in cases.table(other))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("inference", [False, True])
def test_ours_has_its_arrays_on_the_gpu_and_is_right(
    inference: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, seen = replace(SMALL, inference=inference), []
    name = "predict" if inference else "train_step"
    method = getattr(dp.MLP, name)
    watched = lambda self, *args, **options: seen.append(args) or method(self, *args, **options)  # noqa: E731
    monkeypatch.setattr(dp.MLP, name, watched)
    runner = deltaprop(Task.of(case, VISIBLE), "cuda")
    answer = runner.answer(runner.run())
    runner.finish()
    assert type(answer) is np.ndarray
    assert Expected.of(case).check(OURS, answer) <= 1
    assert all(isinstance(x, DeviceArray) for x in seen[0])


@pytest.mark.parametrize("m", [DISTINCT - 1, DISTINCT, DISTINCT + 1, 2 * DISTINCT + 64])
@pytest.mark.parametrize("loss", cases.LOSSES)
def test_a_large_batch_is_checked_by_what_it_repeats(
    m: int, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers as from all samples; the bounds are no smaller."""
    case = replace(cases.like("tanh", loss, "float32", False), sizes=(3, 5, 4), m=m)
    task = Task.of(case, VISIBLE)
    assert len(task.X) == len(task.Y) == m
    assert m <= DISTINCT or (task.X[DISTINCT] == task.X[0]).all()
    in_parts = Expected.of(case)
    monkeypatch.setattr(answers, "DISTINCT", m)
    at_once = Expected.of(case)
    assert (in_parts.bounds >= 0.999 * at_once.bounds).all()
    np.testing.assert_allclose(in_parts.wanted, at_once.wanted, rtol=1e-12)
    prediction = Expected.of(replace(case, inference=True))
    monkeypatch.undo()
    np.testing.assert_array_equal(
        Expected.of(replace(case, inference=True)).wanted, prediction.wanted
    )


def test_half_of_a_large_batch_is_not_enough() -> None:
    case = Case((3, 5, 4), 3 * DISTINCT)
    half = Task(case, *cases._numbers(case), VISIBLE)
    part = replace(half, X=half.X[: case.m // 2], Y=half.Y[: case.m // 2])
    runner = by_numpy(part)
    with pytest.raises(WrongAnswerError):
        Expected.of(case).check("half", runner.answer(runner.run()))


def test_who_compiles_for_long_starts_while_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "SLICE", 1e-3)

    def start(task: Task) -> Runner:
        started.append(task.rate)
        return by_numpy(task)

    started: list[float] = []
    slow = Rival("slow", "numpy", start, slow=True)
    fast = Rival("fast", "json", by_numpy)
    row = measure(replace(SMALL, device="cpu"), 0.0, [slow, fast], Allowance(60.0))
    assert set(row.seconds) == {"slow", "fast"} and len(started) == 2
    row = measure(replace(SMALL, device="cpu"), 0.0, [slow, fast], Allowance(0.0))
    assert set(row.seconds) == {"fast"} and len(started) == 2
    assert {**row.absent, **row.failed} == {"slow": "no time left"}


@pytest.mark.usefixtures("gpu")
def test_the_command_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rivals, "EVERYBODY", (OURS, "NumPy"))
    monkeypatch.setattr(cli_bench, "_peak", lambda *_: 50.0)
    out = tmp_path / "gpu.json"
    options = ("--seconds", 0, "--largest", 200, "--out", out)
    text = well("bench", "--peers", "--backend", "cuda", *options)
    assert "cuBLAS's products: 50 GFLOP/s" in text
    found = json.loads(out.read_text())
    assert found["machine"]["gpu"]["name"] == "NVIDIA Stand-in 80GB"
    (row,) = found["cases"]
    assert (row["device"], row["goal"], list(row["seconds"])) == ("cuda", 0.5, [OURS])
    assert machine.slug() == "stand-in-80gb"
    assert (
        picture._title(found) == "training step, half_mse, logistic, float32, NVIDIA Stand-in 80GB"
    )
    assert set(picture.COLOURS) == set(rival.name for rival in rivals.RIVALS)


@pytest.mark.usefixtures("gpu")
def test_the_peak_of_a_gpu_is_its_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured where ours computes."""
    k = dp.MLP([2, 2], backend="numpy").to("cuda").kernels
    monkeypatch.setattr(cli_bench, "load", lambda name: {"cuda": k}[name])
    monkeypatch.setattr("deltaprop.ceilings.clock.HELD", 64)
    monkeypatch.setattr(limits, "measure", lambda k, clock, dtype: Limits(1.0, {1: 2e12, 2: 3e12}))
    assert cli_bench._peak("cuda", "float32") == 3000.0
