"""bench --kernels: what each kernel must move, how calls are timed, what comes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from commands import refused, well
from conftest import HERE
from cupy_events import Event, add_events
from deltaprop import cli_kernels
from deltaprop.backends import load
from deltaprop.ceilings import calls, clock, figures, limits
from deltaprop.ceilings.limits import Limits
from deltaprop.contract import Kernels
from deltaprop.devices.cache import kernels_folder
from deltaprop.optimizers import OPTIMIZERS
from deltaprop.roofline import Work, edges, flat, layer, outputs, table, tree, updates, whole
from strict_cupy import use_strict_cupy

CEILING = Limits(1e12, {512: 2e13})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """The backend "cuda" on the stand-in, with little to copy and to multiply."""
    if "cuda-host" not in HERE:
        pytest.skip("no C++ compiler")
    add_events(use_strict_cupy(monkeypatch))
    monkeypatch.setattr(clock, "HELD", 64)
    monkeypatch.setattr(limits, "WARM", 0.0)
    monkeypatch.setattr(figures, "WARM", 0.0)
    monkeypatch.setattr(limits, "COPIED", {"cuda": 1 << 16})
    monkeypatch.setattr(limits, "SIDES", {"cuda": (16, 32)})
    monkeypatch.setattr(figures, "MOST_CALLS", 3)
    monkeypatch.setattr(calls, "MOST_SETS", 2)
    k = dp.MLP([2, 2], backend="numpy").to("cuda").kernels
    monkeypatch.setattr(cli_kernels, "load", lambda name: k)
    return k


def small(dtype: str) -> list[Work]:
    """Every kernel."""
    return [
        *layer(5, 3, 4, dtype),
        whole(70, (3, 5, 2), dtype),
        *outputs(5, 3, dtype),
        *flat(7, dtype),
        list(updates(7, dtype))[-1],
        tree(3, 7, dtype),
        *edges(5, 4, 3, dtype),
    ]


# -------------------------------------------------------------------------------- the work


def test_every_kernel_has_a_call() -> None:
    of_sources = {path.stem for path in kernels_folder().glob("*.cu")}
    assert {work.kernel for work in table()} == of_sources
    assert set(calls.CALLS) | {"whole_sweep", *calls.LAUNCHED} == of_sources


def arrays_of(call: Any) -> list[np.ndarray]:
    """The arrays that a call holds."""
    cells = [cell.cell_contents for cell in call.__closure__]
    flat = [y for x in cells for y in (x if isinstance(x, (tuple, list)) else (x,))]
    return [x for x in flat if isinstance(x, np.ndarray)]


OF_CONTRACT = [work for work in small("float64") if work.kernel in calls.CALLS]


@pytest.mark.parametrize("work", OF_CONTRACT, ids=lambda work: work.kernel)
def test_what_must_be_moved_is_what_the_call_reads_and_writes(work: Work) -> None:
    """Arrays that come in and the result, each once; what is written in place, twice."""
    call = calls.call_of(work, load("numpy"), "float64")
    arrays = {id(x): x for x in arrays_of(call)}
    moved = sum(x.nbytes for x in arrays.values())
    results = call()
    results = results if isinstance(results, tuple) else (results,)
    moved += sum(x.nbytes for x in results if x is not None)
    if work.kernel == "add":
        moved += 7 * 8
    if work.kernel == "update":
        kind = list(OPTIMIZERS.values())[work.shape[1]]
        moved += 7 * 8 * len(kind().rules)
    if work.kernel in ("edge_forward", "edge_delta"):
        moved -= 8  # the end of the last unit's edges
    if work.kernel == "edge_gradient":
        moved -= 5 * 8  # where units begin: it reads edges alone
    assert moved == work.least


def test_float64_moves_twice_as_much_and_computes_longer() -> None:
    for one, two in zip(outputs(5, 3, "float32"), outputs(5, 3, "float64")):
        assert 2 * one.least == two.least
        assert two.instructions >= one.instructions


def test_arrays_take_turns_until_the_cache_cannot_hold_them() -> None:
    work = tree(3, 1000)  # 16,000 bytes
    assert calls.sets_of(work, 0) == 1 and calls.is_cold(work, 0)
    assert calls.sets_of(work, 40_000) == 10 and calls.is_cold(work, 40_000)
    assert calls.sets_of(work, 10**9) == calls.MOST_SETS and not calls.is_cold(work, 10**9)


@pytest.mark.parametrize("kernel", calls.PRODUCTS)
def test_a_product_stands_beside_the_same_one_of_the_library(kernel: str) -> None:
    """Of the same arrays: the kernel has an activation or a slope besides."""
    work = next(work for work in small("float64") if work.kernel == kernel)
    k = replace(
        load("numpy"),
        dense_forward=lambda a, W, b, g, keep: a @ W.T,
        hidden_delta=lambda delta, W, s, g: delta @ W,
    )
    library = calls.library_call_of(work, k, "float64")
    assert library is not None
    np.testing.assert_allclose(library(), calls.call_of(work, k, "float64")(), rtol=1e-12)


# ------------------------------------------------------------------------------- the clock


def test_events_are_waited_for_with_more_copies(
    gpu: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that was there before everything was launched is kept busy for longer."""
    events, ran = clock.EventClock(), []
    monkeypatch.setattr(Event, "early", 10**9)
    assert 0 < events.seconds([lambda: ran.append(1)] * 3) < 1
    assert (len(ran), events._copies) == (3, 1)
    copied = []
    monkeypatch.setattr(events, "_copy", lambda target, source: copied.append(1))

    def late(times: int) -> None:
        answers = iter([*[True] * times, False])
        monkeypatch.setattr(Event, "done", property(lambda self: next(answers)))

    late(2)
    events.seconds([lambda: ran.append(1)] * 3)
    assert (len(ran), events._copies, len(copied)) == (12, 4, 1 + 2 + 4)
    late(100)
    events.seconds([lambda: None])
    assert events._copies == clock.MOST_COPIES


def test_limits_are_bytes_and_products_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy reads and writes each byte; a product of n rows is 2 n^3 operations."""
    monkeypatch.setattr(limits, "median", lambda clock, calls: 0.5)
    found = limits.measure(load("numpy"), clock.HostClock(), "float32")
    assert found.bytes == 2 * (1 << 26) / 0.5
    assert found.flops == 2 * 512**3 / 0.5
    assert Limits(10.0, {1: 6.0, 2: 8.0}).flops == 8.0
    assert Limits(10.0, {2: 8.0}).floor(100, 20) == 10.0
    assert Limits(10.0, {2: 8.0}).floor(100, 80) == 20.0


def test_tf32_is_refused(gpu: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPY_TF32", "1")
    refused("bench", "--kernels", "--backend", "cuda", words=["CUPY_TF32 is set"])


# ----------------------------------------------------------------------------- the command


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kernel_is_measured(
    gpu: Kernels, dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(figures, "table", small)
    out = tmp_path / "kernels.json"
    text = well("bench", "--kernels", "--backend", "cuda", "--dtype", dtype, "--out", out)
    found = json.loads(out.read_text())
    assert (found["kind"], found["backend"], found["dtype"]) == ("kernels", "cuda", dtype)
    assert found["machine"]["gpu"]["name"] == "NVIDIA Stand-in 80GB"
    assert set(found["limits"]["flops"]) == {"16", "32"}
    assert [row["work"]["kernel"] for row in found["rows"]] == [w.kernel for w in small(dtype)]
    for row in found["rows"]:
        assert row["failed"] == "" and row["sets"] == 2 and not row["cold"]
        assert row["seconds"] > 0 and row["share"] > 0
        assert (row["library"] is not None) == (row["work"]["kernel"] in calls.PRODUCTS)
        assert row["work"]["kernel"] in text


def test_what_fails_is_told_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(k: Kernels, dtype: str, count: int) -> Any:
        raise RuntimeError("no room\nfor pages")

    monkeypatch.setitem(calls.CALLS, "add", fails)
    monkeypatch.setattr(figures, "table", lambda dtype: [*flat(7, dtype)])
    monkeypatch.setattr(limits, "measure", lambda *_: CEILING)
    out = tmp_path / "x.json"
    refused("bench", "--kernels", "--backend", "numpy", "--out", out, words=["add 7: no room"])
    add, scale = json.loads(out.read_text())["rows"]
    assert add["failed"] == "no room" and scale["seconds"] > 0


def test_with_no_time_left_kernels_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "table", lambda dtype: [*flat(7, dtype)])
    monkeypatch.setattr(limits, "measure", lambda *_: CEILING)
    text = well("bench", "--kernels", "--backend", "numpy", "--budget", 0)
    assert text.splitlines()[-2:] == ["not reached: add 7", "not reached: scale 7"]
    refused("bench", "--kernels", "--largest", 1, words=["no kernel has 1 operations"])


def test_a_line_has_the_share_of_the_lower_ceiling() -> None:
    work = Work("dense_forward", "a size", (1, 1, 1), 10**9, 0, 10**9)  # 1 ms, 0.1 ms
    row = figures.Row(work, seconds=2e-3, library=1e-3, cold=True)
    text = figures.line(row, CEILING)
    assert text.split()[3:] == ["2,000.0", "500", "1", "50%", "memory", "2.00"]
    work = Work("softmax", "a size", (1, 1), 10**6, 0, 10**10)  # 1 us, 1 ms
    text = figures.line(figures.Row(work, seconds=4e-3), CEILING)
    assert text.split()[6:] == ["25%", "arithmetic", "in", "the", "cache"]
    assert "FAILED: why" in figures.line(figures.Row(work, failed="why"), CEILING)
