"""The comparison with other libraries: what is checked, how times are taken, what comes out.

PyTorch and JAX take part where they are installed; nothing here needs them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deltaprop import results
from deltaprop.bench import NETS
from deltaprop.peers import case as cases
from deltaprop.peers import figures, machine, peak, picture, rivals, rounds
from deltaprop.peers.answers import VISIBLE, Expected, WrongAnswerError
from deltaprop.peers.by_hand import Runner, by_numpy
from deltaprop.peers.case import Case, Task
from deltaprop.peers.rivals import OURS, Rival

# Ours on the backend that has nothing to compile: its own tests check the others.
EVERYONE = rivals.taking_part("numpy", rivals.EVERYBODY)
BY_NAME = {rival.name: rival for rival in EVERYONE}
# The others compile for many seconds, and are PyTorch but for that.
QUICK = [rival for rival in EVERYONE if not rival.slow]
SMALL = Case((3, 5, 4), 7)
DEEP = Case((8,) * 17, 6)


@pytest.fixture(params=QUICK, ids=lambda rival: rival.name)
def rival(request: pytest.FixtureRequest) -> Rival:
    if request.param.missing:
        pytest.skip(request.param.missing)
    return request.param


def answer(rival: Rival, case: Case) -> tuple[Expected, np.ndarray]:
    """What is expected of a rival, and what it returns."""
    runner = rival.start(Task.of(case, VISIBLE))
    return Expected.of(rival.own_case(case)), runner.answer(runner.run())


# ---------------------------------------------------------------------------------- answers


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("activation", cases.ACTIVATIONS)
@pytest.mark.parametrize("loss", cases.LOSSES)
@pytest.mark.parametrize("inference", [False, True])
def test_every_rival_is_right(rival: Rival, activation: str, loss: str, inference: bool) -> None:
    for dtype in ("float32", "float64"):
        kind = cases.like(activation, loss, dtype, inference)
        case = replace(kind, sizes=(3, 5, 4), m=7)
        expected, got = answer(rival, case)
        assert 0 <= expected.check(rival.name, got) <= 1


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", [DEEP, Case((2, 3, 1), 4), Case((5, 6), 1)], ids=lambda c: c.name)
def test_steps_of_other_shapes_are_right(rival: Rival, case: Case) -> None:
    expected, got = answer(rival, case)
    expected.check(rival.name, got)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_torch_compile_is_right() -> None:
    rival = BY_NAME["torch.compile"]
    if rival.missing:
        pytest.skip(rival.missing)
    for case in (SMALL, DEEP, replace(SMALL, inference=True)):
        expected, got = answer(rival, case)
        expected.check(rival.name, got)


def test_a_step_is_one_step_of_the_rate_asked_for() -> None:
    """What is checked is a step with a huge rate; with another it is in proportion."""
    for name in (OURS, "NumPy"):
        begin = Task.of(SMALL, 0.5).net.parameters
        changes = []
        for rate in (0.5, VISIBLE):
            runner = BY_NAME[name].start(Task.of(SMALL, rate))
            changes.append((runner.answer(runner.run()) - begin) / rate)
        np.testing.assert_allclose(*changes, rtol=1e-3, atol=1e-7)


def array(expected: Expected, name: str) -> slice:
    """Where a parameter is in an answer."""
    names = [array for array, _ in expected.arrays]
    i = names.index(name)
    return slice(expected.arrays[i][1], expected.arrays[i + 1][1])


@pytest.mark.parametrize(
    "case",
    [SMALL, DEEP, Case((8,) * 4, 9, "relu", "identity")],
    ids=lambda case: case.name,
)
def test_a_wrong_sign_is_refused_in_whatever_array(case: Case) -> None:
    expected, got = answer(BY_NAME["NumPy"], case)
    for name, _ in expected.arrays[:-1]:
        part = array(expected, name)
        wrong = got.copy()
        wrong[part] = (2 * expected.begin - got)[part]
        with pytest.raises(WrongAnswerError) as error:
            expected.check("NumPy", wrong)
        for word in ("NumPy", "a training step is wrong", case.name, f"{name} is off by 2 of"):
            assert word in str(error.value)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda begin, got: begin,
        lambda begin, got: begin + 2 * (got - begin),
        lambda begin, got: begin + 1.01 * (got - begin),
        lambda begin, got: np.full_like(got, np.nan),
        lambda begin, got: got[::-1],
        lambda begin, got: got.astype(np.float64),
    ],
    ids=["no step", "twice the rate", "one percent", "NaN", "another order", "another dtype"],
)
def test_other_mistakes_are_refused(mistake: Callable[..., np.ndarray]) -> None:
    expected, got = answer(BY_NAME["NumPy"], SMALL)
    with pytest.raises(WrongAnswerError):
        expected.check("x", mistake(expected.begin.astype(got.dtype), got))


def test_one_number_beyond_its_bound_is_refused() -> None:
    """Too little for the norm of its array."""
    expected, got = answer(BY_NAME["NumPy"], SMALL)
    i = int(np.argmin(expected.bounds))
    got[i] += 3 * expected.bounds[i]
    with pytest.raises(WrongAnswerError, match="of its error bound"):
        expected.check("x", got)


def test_a_wrong_prediction_is_refused() -> None:
    expected, got = answer(BY_NAME["NumPy"], replace(SMALL, inference=True))
    with pytest.raises(WrongAnswerError, match="x: the outputs are wrong"):
        expected.check("x", 1 - got)


# ------------------------------------------------------------------------------------ cases


def test_every_net_of_the_table_has_a_goal() -> None:
    table = list(cases.table(cases.like("logistic", "half_mse", "float32", False)))
    assert [(case.sizes, case.m) for case in table] == list(NETS)
    assert all(case.goal for case in table)
    assert set(cases.GOALS) == set(NETS)
    for other in ("relu", "half_mse", "float32", False), ("logistic", "half_mse", "float32", True):
        assert not any(case.goal for case in cases.table(cases.like(*other)))


def test_a_sweep_goes_from_one_unit_and_one_sample_to_many() -> None:
    swept = list(cases.sweep(cases.like("logistic", "half_mse", "float32", False)))
    assert len(swept) == len(set(swept))
    for m in cases.WIDTH_BATCHES:
        widths = [case.sizes[0] for case in swept if case.m == m and len(case.sizes) == 4]
        assert {1, 64, 65, 4096} <= set(widths)
    batches = [case.m for case in swept if case.sizes == (64,) * 4]
    assert {1, 64, 65, 100_000} <= set(batches)


def test_one_output_has_no_cross_entropy() -> None:
    kind = cases.like("logistic", "cross_entropy", "float32", False)
    assert all(case.sizes[-1] > 1 for case in (*cases.table(kind), *cases.sweep(kind)))


# ------------------------------------------------------------------------------------ times


class Clock:
    """Time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now, self.rests = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.rests += 1

    def runner(self, seconds: float, seen: list[str] | None = None, name: str = "") -> Runner:
        """One whose calls take so long."""

        def run() -> None:
            self.now += seconds
            if seen is not None:
                seen.append(name)

        return Runner(run, np.asarray)

    def launching(self, seconds: float) -> Runner:
        """One whose calls return at once; a device does their work, one after another."""
        pending = [0.0]

        def run() -> None:
            self.now += 1e-6
            pending[0] += seconds - 1e-6

        def finish() -> None:
            self.now += pending.pop()
            pending.append(0.0)

        return Runner(run, np.asarray, finish)


def test_fast_calls_are_timed_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(rounds, "time", clock)
    fast, slow = clock.runner(1e-5), clock.runner(0.5)
    assert rounds.calls_a_slice(fast) == pytest.approx(rounds.SLICE / 1e-5, rel=0.01)
    assert rounds.calls_a_slice(clock.runner(10.0)) == 1
    times = rounds.in_turns({"fast": fast, "slow": slow}, 5.0)
    assert len(times["fast"]) == len(times["slow"]) >= rounds.LEAST
    assert statistics.median(times["fast"]) == pytest.approx(1e-5)
    assert statistics.median(times["slow"]) == pytest.approx(0.5)
    assert clock.rests == 2 * len(times["fast"])


def test_a_slice_ends_when_the_device_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(rounds, "time", clock)
    times = rounds.in_turns({"x": clock.launching(1e-4), "y": clock.launching(1e-3)}, 0.0, "cuda")
    assert statistics.median(times["x"]) == pytest.approx(1e-4)
    assert statistics.median(times["y"]) == pytest.approx(1e-3)


def test_rounds_begin_with_another_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = Clock(), []
    monkeypatch.setattr(rounds, "time", clock)
    rounds.in_turns({name: clock.runner(1.0, seen, name) for name in "abc"}, 0.0)
    calls = "".join(seen)[6:]  # after those that count the calls
    assert calls[::2] == "abcbcacababcbca"
    assert calls[1::2] == calls[::2], "each is called once before the call that counts"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_that_of_fused_multiply_adds(dtype: str) -> None:
    size = peak.vector_bytes(peak.llvm.get_host_cpu_features().flatten())
    if not size:
        assert peak.peak_gflops(dtype) == 0
        pytest.skip("no fma here")
    chains = peak.Chains(dtype, size)
    assert chains(1000) > 0
    fused = [line for line in chains.assembly.splitlines() if "fma" in line or "fmla" in line]
    assert len(fused) == peak.CHAINS, "each chain is one instruction, in registers"
    assert chains.operations == 2 * peak.CHAINS * size // np.dtype(dtype).itemsize
    assert peak.peak_gflops(dtype, 1) > 1


# ---------------------------------------------------------------------------------- figures


def quick(*names: str) -> list[Rival]:
    return [BY_NAME[name] for name in names]


def failing(task: Task) -> Runner:
    raise RuntimeError("no compiler found\nand pages of details")


def test_who_is_not_here_is_told_with_the_reason() -> None:
    away = [Rival("Nobody", "no_such_package", by_numpy), Rival("Compiler", "json", failing)]
    row = figures.measure(SMALL, 0.0, [*quick(OURS, "NumPy"), *away])
    assert row.absent == {
        "Nobody": "No module named 'no_such_package'",
        "Compiler": "no compiler found",
    }
    assert set(row.seconds) == set(row.errors) == {OURS, "NumPy"}
    assert "  Compiler       not here: no compiler found" in figures.lines(row, 100.0)
    row = figures.measure(SMALL, 0.0, [Rival(OURS, "deltaprop", failing), *quick("NumPy")])
    assert row.failed == {OURS: "no compiler found"}
    assert "  deltaprop      FAILED: no compiler found" in figures.lines(row, 100.0)
    assert set(row.seconds) == {"NumPy"} and row.ratio is None


def test_who_computes_something_else_is_not_compared() -> None:
    if BY_NAME["scikit-learn"].missing:
        pytest.skip("without scikit-learn")
    row = figures.Row(SMALL, {OURS: 3.0, "NumPy": 2.0, "scikit-learn": 1.0})
    row.own_case = {"scikit-learn": "identity outputs"}
    assert row.best_rival == "NumPy"
    assert row.ratio == 1.5
    assert rivals.own_case(SMALL).output == "identity"
    assert rivals.own_case(replace(SMALL, output="softmax")).output == "softmax"
    assert figures.Row(SMALL, {OURS: 3.0}).ratio is None


def test_lines_have_the_ratio_the_goal_and_what_was_unsteady() -> None:
    row = figures.Row(Case((2, 3, 1), 4), {OURS: 1e-6, "NumPy": 4e-6})
    row.quartiles = {OURS: (1e-6, 1.1e-6), "NumPy": (4e-6, 9e-6)}
    text = "\n".join(figures.lines(row, 100.0))
    assert "0.25 of the time of NumPy; goal 0.33: met" in text
    assert "unsteady: 4.0 to 9.0" in text
    row.seconds[OURS] = 2e-6
    assert "goal 0.33: missed" in "\n".join(figures.lines(row, 100.0))
    found = figures.Figures("table", 100.0, 0.0, rows=[row], not_reached=["1-1, batch 1"])
    assert "0.50  0.33" in figures.summary(found)[1] and "missed" in figures.summary(found)[1]
    assert figures.summary(found)[2] == "not reached: 1-1, batch 1"


def test_the_json_has_what_the_figures_depend_on(tmp_path: Path) -> None:
    found = figures.Figures("table", 100.0, 0.0)
    found.rows.append(figures.measure(SMALL, 0.0, quick(OURS, "NumPy")))
    results.write(found.as_json(), tmp_path / "figures.json")
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
    read = json.loads((tmp_path / "figures.json").read_text())
    assert read["machine"]["threads"] == machine.threads()
    assert {"cpu", "cores", "python", "system"} <= set(read["machine"])
    assert {"numpy", "numba"} <= set(read["versions"])
    assert read["peak_gflops"] == 100.0
    (case,) = read["cases"]
    assert case["sizes"] == [3, 5, 4]
    assert (case["batch"], case["dtype"], case["loss"]) == (7, "float32", "half_mse")
    assert (case["activation"], case["output"]) == ("logistic", "logistic")
    assert case["threads"] == machine.threads()
    assert case["best_rival"] == "NumPy"
    assert case["ratio"] == case["seconds"][OURS] / case["seconds"]["NumPy"]
    assert case["gflops"][OURS] == case["operations"] / case["seconds"][OURS] / 1e9
    assert case["rounds"] >= rounds.LEAST


def test_ours_computes_on_the_cpu_unless_told_otherwise() -> None:
    (ours,) = rivals.taking_part("cpu", [OURS])
    expected, got = answer(ours, replace(SMALL, inference=True))  # less to compile than a step
    assert expected.check(OURS, got) <= 1
    assert figures.RIVALS[0].name == OURS


def test_the_picture_has_a_line_for_each_rival(tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    found = figures.Figures("table", 100.0, 0.0)
    swept = Case((64,) * 4, 32)  # in one panel of a sweep; the others are left out
    found.rows.append(figures.measure(swept, 0.0, quick(OURS, "NumPy")))
    axes = figure.subplots(1, 2)
    picture._table(axes, found.as_json())
    for ax in axes:
        assert [line.get_label() for line in ax.get_lines()][:2] == [OURS, "NumPy"]
        assert ax.get_yscale() == "log"
    for kind in ("table", "sweep"):
        found.kind = kind
        picture.save(found.as_json(), tmp_path / f"{kind}.png")
        assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
