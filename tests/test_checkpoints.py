"""Checkpoints: a training that goes on ends bit for bit as if it had never stopped."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import deltaprop as dp
from conftest import EXACT, HERE, assert_same_bits, sample
from deltaprop.check import to_numpy
from ensembles import N
from graphs import two_paths

M = 30
X, Y = sample((M, 2), "float32", 1), sample((M, 2), "float32", 2)
WEIGHTS = np.abs(sample(M, "float32", 3))
FILE = "checkpoint.safetensors"

NETS: dict[str, Any] = {
    "layers": lambda backend, dtype="float32": dp.MLP([2, 5, 2], dtype=dtype, backend=backend),
    "graph": lambda backend, dtype="float32": two_paths(dtype, backend),
    "members": lambda backend, dtype="float32": dp.MLP(
        [2, 5, 2], dtype=dtype, backend=backend, ensemble=N
    ),
}
every_net = pytest.mark.parametrize("kind", NETS)

OPTIONS: dict[str, dict[str, Any]] = {
    "descent": {"learning_rate": 0.3, "sample_weight": WEIGHTS},
    "adam": {"optimizer": dp.Adam(dp.schedules.CosineDecay(0.1, 12)), "validation": 0.2},
    "patient": {"optimizer": dp.Momentum(0.3), "validation": (X[:9], Y[:9]), "patience": 5},
    "in order": {"seed": None, "optimizer": dp.RMSProp(0.05, clip_norm=0.1), "patience": 9},
}


EVERY = [("numba", how) for how in OPTIONS] + [(n, "adam") for n in HERE if n != "numba"]


def numbers(net: Any) -> np.ndarray:
    return np.array(to_numpy(net.parameters))


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is flushed to the disk and moved, in turn; nobody waits for the disk here."""
    seen: list[Any] = []
    real = os.replace

    def fsync(descriptor: int) -> None:
        seen.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))

    def replace(source: Path, target: Path) -> None:
        seen.append(target.name)
        real(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return seen


def fit(net: Any, folder: Path | None, epochs: int = 6, **options: Any) -> dp.History:
    given = {"batch_size": 8, "progress": False, "resume": folder is not None} | options
    return net.fit(X, Y, epochs=epochs, checkpoint=folder, **given)


def assert_same(net: Any, history: dp.History, other: Any, wanted: dp.History) -> None:
    """Weights, what the optimizer remembers, and all that is told but the seconds."""
    assert_same_bits(numbers(net), numbers(other))
    for series in ("loss", "validation_loss", "best_epoch"):
        assert_same_bits(np.array(getattr(history, series)), np.array(getattr(wanted, series)))
    for x, y in zip(history.loss, wanted.loss):
        assert type(x) is type(y)
    assert type(history.best_epoch) is type(wanted.best_epoch)
    assert history.stopped == wanted.stopped
    assert len(history.seconds) == len(history.loss)
    if other._state is not None:
        assert net._state.steps == other._state.steps
        for x, y in zip(net._state.arrays, other._state.arrays, strict=True):
            assert_same_bits(to_numpy(x), to_numpy(y))


@every_net
@pytest.mark.parametrize(("name", "how"), EVERY)
def test_it_goes_on(tmp_path, name, kind, how):
    """In a new net, from its end, with more epochs: twice; and in between steps are as before."""
    other, options = NETS[kind](name), OPTIONS[how]
    wanted = fit(other, None, **options)
    for epochs in (1, 3, 6):
        net = NETS[kind](name)
        history = fit(net, tmp_path, epochs, **options)
    assert_same(net, history, other, wanted)
    for x in (net, other):
        x.train_step(X, Y, **{k: v for k, v in options.items() if k == "optimizer"})
    assert_same_bits(numbers(net), numbers(other))


def test_it_goes_on_in_the_same_net(tmp_path):
    net, other = NETS["layers"]("numba"), NETS["layers"]("numba")
    fit(net, tmp_path, 2, **OPTIONS["adam"])
    net.train_step(X, Y)  # forgotten, as everything since
    assert_same(
        net,
        fit(net, tmp_path, 5, **OPTIONS["adam"]),
        other,
        fit(other, None, 5, **OPTIONS["adam"]),
    )


@pytest.mark.parametrize("name", EXACT)
def test_it_goes_on_elsewhere(tmp_path, name, dtype):
    """Begun by the reference, ended by another exact backend."""
    given = X.astype(dtype), Y.astype(dtype)
    options = {"batch_size": 8, "optimizer": dp.Adam(0.1), "validation": 0.3, "patience": 4}
    other = NETS["layers"]("reference", dtype)
    wanted = other.fit(*given, epochs=4, **options)
    for backend, epochs in (("reference", 2), (name, 4)):
        net = NETS["layers"](backend, dtype)
        history = net.fit(*given, epochs=epochs, checkpoint=tmp_path, resume=True, **options)
    assert_same(net, history, other, wanted)


@every_net
def test_what_an_optimizer_remembered_before_is_kept(tmp_path, kind):
    """The first checkpoint has it, so that a crash in the first epoch loses nothing."""
    net, other = NETS[kind]("numba"), NETS[kind]("numba")
    adam = dp.Adam(0.1)
    for x in (net, other):
        x.train_step(X, Y, optimizer=adam)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(net, tmp_path, optimizer=adam, callbacks=[crash])
    fresh = NETS[kind]("numba")
    assert_same(
        fresh, fit(fresh, tmp_path, optimizer=adam), other, fit(other, None, optimizer=adam)
    )


def test_every_so_many_epochs(tmp_path):
    """And after the last one, whatever its number."""
    seen = []

    def look(net: dp.MLP, history: dp.History) -> None:
        seen.append(len(load((tmp_path / FILE).read_bytes())["loss"]))

    fit(NETS["layers"]("numba"), tmp_path, 8, checkpoint_every=3, callbacks=[look])
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6]
    assert len(load((tmp_path / FILE).read_bytes())["loss"]) == 8
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_the_bar_goes_on_too(tmp_path, capsys):
    for epochs in (2, 5):
        fit(NETS["layers"]("numba"), tmp_path, epochs, progress=True)
    shown = capsys.readouterr().err
    assert "0/2" in shown and "2/5" in shown and "5/5" in shown
    assert "0/5" not in shown


def test_what_is_written_is_on_the_disk_before_it_counts(tmp_path, calls):
    """The file is flushed, moved, then its folder is: each time."""
    fit(NETS["layers"]("numba"), tmp_path, 2)
    assert calls == [False, FILE, True] * 3


# ------------------------------------------------------------------------- what has ended


@every_net
def test_patience_that_has_ended_stays_so(tmp_path, kind):
    options = {"learning_rate": 3.0, "validation": 0.3, "patience": 2}
    other = NETS[kind]("numba")
    wanted = fit(other, None, 20, **options)
    assert wanted.stopped == "patience"
    for epochs in (20, 30):
        net = NETS[kind]("numba")
        assert_same(net, fit(net, tmp_path, epochs, **options), other, wanted)


def test_a_callback_that_ended_it_is_asked_again(tmp_path):
    calls = []

    def third(net: dp.MLP, history: dp.History) -> bool:
        calls.append(len(history.loss))
        return len(history.loss) == 3

    net, other = NETS["layers"]("numba"), NETS["layers"]("numba")
    wanted = fit(other, tmp_path, callbacks=[third])
    assert_same(net, fit(net, tmp_path, callbacks=[third]), other, wanted)
    assert calls == [1, 2, 3, 3]
    history = fit(net, tmp_path, callbacks=[])
    assert (history.stopped, len(history.loss)) == ("epochs", 6)


def test_what_callbacks_did_to_the_net_is_kept(tmp_path):
    def halve(net: dp.MLP, history: dp.History) -> None:
        net.parameters[...] *= np.float32(0.5)

    net, other = NETS["layers"]("numba"), NETS["layers"]("numba")
    wanted = fit(other, None, callbacks=[halve])
    fit(net, tmp_path, 3, callbacks=[halve])
    assert_same(net, fit(net, tmp_path, callbacks=[halve]), other, wanted)


# ------------------------------------------------------------------------- what is refused


def refused(
    folder: Path, error: type[Exception], words: str, kind: str = "layers", **given: Any
) -> None:
    """It raises, and neither net nor file changes; what the optimizer remembers neither."""
    net, path = given.pop("net", None) or NETS[kind]("numba"), folder / FILE
    net.train_step(X.astype(net.dtype), Y.astype(net.dtype), optimizer=dp.AdamW(0.1))
    before, state = numbers(net), [x.copy() for x in net._state.arrays]
    content = path.read_bytes() if path.is_file() else None
    data = [x.astype(net.dtype) for x in given.pop("data", (X, Y))]
    options = {
        "batch_size": 8,
        "progress": False,
        "resume": True,
        "epochs": 6,
        "checkpoint": folder,
    }
    with pytest.raises(error, match=words):
        net.fit(*data, **options | given)
    assert_same_bits(numbers(net), before)
    assert net._state.steps == 1
    for x, y in zip(net._state.arrays, state, strict=True):
        assert_same_bits(x, y)
    assert (path.read_bytes() if path.is_file() else None) == content


def test_an_earlier_training_is_not_overwritten(tmp_path):
    fit(NETS["layers"]("numba"), tmp_path, 2)
    words = r"checkpoint\.safetensors is of an earlier training: .* resume=True"
    refused(tmp_path, FileExistsError, words, resume=False)


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("its net is MLP of 27 float32 numbers, .* here it is MLP of 22", {"net": dp.MLP([2, 4, 2])}),
    ("its net is", {"net": dp.MLP([2, 5, 2], "tanh")}),
    ("its net is", {"net": dp.MLP([2, 5, 2], dtype="float64")}),
    ("here it is Ensemble of 81", {"kind": "members"}),
    ("here it is Graph of", {"kind": "graph"}),
    ("its data is", {"data": (X, -Y)}),
    ("its data is", {"data": (X[:20], Y[:20])}),
    ("its data is", {"sample_weight": WEIGHTS}),
    ("its validation is 0.2, here it is 0.25", {"validation": 0.25}),
    ("its validation is 0.2, here it is data", {"validation": (X, Y)}),
    ("its loss is half_mse, here it is mse", {"loss": "mse"}),
    ("its batch_size is 8, here it is 9", {"batch_size": 9}),
    ("its seed is 0, here it is 1", {"seed": 1}),
    ("its seed is 0, here it is None", {"seed": None}),
    (r"its optimizer is Adam\(.*, here it is Adam\(learning_rate=0.2", {"optimizer": dp.Adam(0.2)}),
    ("here it is AdamW", {"optimizer": dp.AdamW(0.1)}),
    ("here it is learning_rate 0.1", {"optimizer": None}),
    ("its patience is 4, here it is 5", {"patience": 5}),
    ("its tolerance is 0.0, here it is 0.5", {"tolerance": 0.5}),
    (
        "its arithmetic is the specification's, here it is numpy",
        {"net": dp.MLP([2, 5, 2], backend="numpy")},
    ),
    ("is from after epoch 2, but epochs=1 are wanted", {"epochs": 1}),
]


@pytest.mark.parametrize(("words", "given"), OTHERS, ids=[words for words, _ in OTHERS])
def test_another_training_is_refused(tmp_path, words, given):
    options = {"optimizer": dp.Adam(0.1), "validation": 0.2, "patience": 4}
    fit(NETS["layers"]("numba"), tmp_path, 2, **options)
    net = given["net"].to() if "net" in given else None
    refused(tmp_path, dp.CheckpointError, words, **options | given | {"net": net})


def test_graphs_are_told_apart(tmp_path):
    """By the ends of their edges too: one of these is the other way."""

    def triangle(*edges: tuple[str, str]) -> dp.Graph:
        g = dp.Graph(2, ["y1", "y2"], backend="numba")
        for name in ("h", "y1", "y2"):
            g.unit(name)
        for source, target in (("x1", "h"), ("h", "y1"), ("h", "y2"), *edges):
            g.edge(source, target)
        return g

    fit(triangle(("x2", "y1"), ("x1", "y2")), tmp_path, 1)
    refused(tmp_path, dp.CheckpointError, "its net is", net=triangle(("x1", "y1"), ("x2", "y2")))
    fit(triangle(("x2", "y1"), ("x1", "y2")), tmp_path, 2)


def test_a_damaged_file_is_refused(tmp_path):
    """Cut short anywhere; a bit turned anywhere; or nothing of the kind."""
    fit(NETS["layers"]("numba"), tmp_path, 2, optimizer=dp.Adam(0.1))
    path = tmp_path / FILE
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        refused(tmp_path, dp.CheckpointError, FILE, optimizer=dp.Adam(0.1))
    for at in [*range(0, len(whole), 61), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        refused(tmp_path, dp.CheckpointError, FILE, optimizer=dp.Adam(0.1))
    path.write_bytes(whole)
    fit(NETS["layers"]("numba"), tmp_path, 3, optimizer=dp.Adam(0.1))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / FILE
    NETS["layers"]("numba").save(path)
    refused(
        tmp_path, dp.CheckpointError, "format 'deltaprop.MLP/1', wanted 'deltaprop.checkpoint/1'"
    )
    path.write_bytes(save({"x": np.zeros(1)}))
    refused(tmp_path, dp.CheckpointError, "format None")
    path.write_bytes(save({"x": np.zeros(1)}, {"format": "deltaprop.checkpoint/1"}))
    refused(tmp_path, dp.CheckpointError, "digest")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("text")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        refused(folder, OSError, "file")
    (tmp_path / "run" / FILE).mkdir(parents=True)
    refused(tmp_path / "run", dp.CheckpointError, f"{FILE} is not a file")
    assert (tmp_path / "file").read_text() == "text"


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    net, other = NETS["layers"]("numba"), NETS["layers"]("numba")
    fit(net, tmp_path, 2)
    before = (tmp_path / FILE).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            fit(net, tmp_path, 4)
    assert (tmp_path / FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    wanted = fit(other, None, 4)
    assert_same(net, fit(net, tmp_path, 4), other, wanted)


def test_what_killed_processes_left_is_swept_up(tmp_path):
    for name in (f".{FILE}.77.88.partial", "notes.txt", ".other.partial"):
        (tmp_path / name).write_text("text")
    fit(NETS["layers"]("numba"), tmp_path / "", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.partial", FILE, "notes.txt"]


BAD = [
    ({"resume": True}, ValueError, "resume=True goes on from a checkpoint"),
    ({"checkpoint": 3}, TypeError, "checkpoint must be a folder, got 3"),
    ({"checkpoint": "run", "resume": 1}, TypeError, "resume must be True or False, got 1"),
    ({"checkpoint": "run", "checkpoint_every": 0}, ValueError, "checkpoint_every must be at least"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD, ids=lambda x: str(x)[:40])
def test_bad_arguments(tmp_path, monkeypatch, options, error, words):
    monkeypatch.chdir(tmp_path)
    net = NETS["layers"]("numba")
    before = numbers(net)
    with pytest.raises(error, match=words):
        net.fit(X, Y, **options)
    assert_same_bits(numbers(net), before)
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_a_file(tmp_path):
    """It can be read by hand: numbers as tensors, the rest as words."""
    net = NETS["layers"]("numba")
    fit(net, tmp_path, 3, optimizer=dp.Adam(0.1))
    content = (tmp_path / FILE).read_bytes()
    tensors = load(content)
    assert_same_bits(tensors["parameters"], net.parameters)
    assert sorted(tensors) == [
        *("best.epoch", "best.loss", "loss", "parameters", "seconds"),
        *("state.0", "state.1", "validation_loss"),
    ]
    size = int.from_bytes(content[:8], "little")
    words = json.loads(content[8 : 8 + size])["__metadata__"]
    assert json.loads(words["steps"]) == 12
    assert json.loads(words["random"])["bit_generator"] == "PCG64"
    assert json.loads(words["run"])["optimizer"] == repr(dp.Adam(0.1))
