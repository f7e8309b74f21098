"""The command line, as a person uses it: what it prints, writes and returns."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp
from commands import refused, run, well, write_flowers
from conftest import HERE, INFO
from deltaprop import digests
from deltaprop.data import digits
from test_check import AWAY, flip_the_last_bit, sabotage

EXACT_HERE = [name for name in HERE if INFO[name].exact]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DELTAPROP_BACKEND", raising=False)
    return tmp_path


@pytest.fixture
def flowers(folder: Path) -> Path:
    return write_flowers()


def negate(x: np.ndarray) -> None:
    np.negative(x, out=x)


def test_info() -> None:
    out = well("info")
    for name, info in INFO.items():
        (line,) = re.findall(rf"^{name} .*$", out, re.MULTILINE)
        assert ("ready" in line) == info.available
        assert ("exact" in line) == info.exact
        assert info.version in line
        assert info.reason in out
    assert f"deltaprop {dp.__version__}" in out
    assert "without a choice, backend 'numba' computes" in out


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-W", "error", "-m", "deltaprop.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"deltaprop, version {dp.__version__}\n"


# ------------------------------------------------------------------------------------ check


def test_check_compares_every_backend_on_the_digits() -> None:
    out = well("check")
    net = dp.MLP([64, 32, 10], output="softmax", backend="numba")
    gradient = dp.digest(net.value_and_grad(digits().X, digits().Y)[1])
    for name in EXACT_HERE:
        (line,) = re.findall(rf"^{name} .*$", out, re.MULTILINE)
        assert line.split()[1:7] == ["0", "0", "0", "0", "differing", "bits"]
        assert gradient[:16] in line
    assert f"{', '.join(EXACT_HERE)}: the same gradient, bit for bit" in out
    assert "numpy: within the error bound" in out
    for name in AWAY:
        assert re.search(rf"^{name} +not here: {re.escape(INFO[name].reason)}$", out, re.MULTILINE)


def test_check_of_ones_own_net_and_data(flowers: Path, folder: Path) -> None:
    net = dp.MLP([2, 3, 3, 2], "tanh", "softmax", dtype="float64", backend="numpy", seed=9)
    net.save(folder / "own.net")
    out = well("check", "--net", "own.net", "--data", flowers, "--backend", "cpu")
    assert "2-3-3-2; tanh, tanh, softmax; float64" in out
    assert "40 samples" in out
    assert re.findall(r"^\w+ ", out, re.MULTILINE) == ["backend ", "numba "]
    x = np.loadtxt(flowers, delimiter=",", skiprows=1)
    X, Y = x[:, :2].astype(np.float32), x[:, 2].astype(int)
    assert dp.digest(net.to("reference").value_and_grad(X, Y)[1])[:16] in out


def test_check_of_a_graph(flowers: Path, folder: Path) -> None:
    g = dp.Graph(2, ["no", "yes"], dtype="float64", backend="numpy", seed=9)
    g.unit("no", "softmax", bias=None)
    g.unit("yes", "softmax")
    for source, target in (("x1", "yes"), ("x2", "yes"), ("x1", "no")):
        g.edge(source, target)
    g.save(folder / "own.graph")
    out = well("check", "--net", "own.graph", "--data", flowers)
    assert "Graph(2 inputs, 2 units, 3 edges, 2 outputs; float64" in out
    assert re.search(r"^backend +weights +biases +digest of gradient +seconds$", out, re.MULTILINE)
    assert re.search(r"^numba +0 +0 +differing bits ", out, re.MULTILINE)
    g.remove_unit("yes")
    g.unit("yes", "softmax", bias=None)
    g.edge("x2", "yes")
    g.save(folder / "own.graph")
    out = well("check", "--net", "own.graph", "--data", flowers, "--backend", "cpu")
    assert re.search(r"^backend +weights +digest of gradient +seconds$", out, re.MULTILINE)
    refused("check", "--net", "own.graph", words=["X must have shape (m, 2), got (1797, 64)"])
    refused("check", "--net", flowers, words=["flowers.csv", "not a whole safetensors file"])


@pytest.mark.parametrize("name", ["numba", "numpy"])
def test_check_fails_when_a_backend_is_wrong(
    flowers: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sabotage(monkeypatch, name, flip_the_last_bit if name == "numba" else negate)
    result = run("check", "--data", flowers)
    assert result.exit_code == 1
    assert re.search(rf"^{name} .*WRONG$", result.stdout, re.MULTILINE)
    assert f"{name}: WRONG" in result.stdout


def test_check_of_the_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    of_a_few_nets = partial(digests.gradient_digests, nets=digests.FIXED_NETS[:3])
    committed = of_a_few_nets("reference")
    monkeypatch.setattr(digests, "gradient_digests", of_a_few_nets)
    monkeypatch.setattr(digests, "committed_digests", lambda: committed)
    out = well("check", "--digest", "--backend", "numba", "--backend", "numpy")
    assert re.search(r"^numba +all digests as they must be$", out, re.MULTILINE)
    assert "cuda" not in out
    sabotage(monkeypatch, "numba", flip_the_last_bit)
    result = run("check", "--digest", "--backend", "numba")
    assert result.exit_code == 1
    assert re.search(r"^numba +WRONG$", result.stdout, re.MULTILINE)
    for dtype, nets in committed.items():
        for name in nets:
            assert f"{dtype} {name}" in result.stdout
    for name in AWAY:
        result = run("check", "--digest", "--backend", name)
        assert result.exit_code == 1
        assert INFO[name].reason in result.stdout


# ------------------------------------------------------------------------------------ bench


def test_bench_times_small_nets() -> None:
    options = ("--largest", "1e5", "--seconds", 0.01)
    out = well("bench", *options, "--backend", "numpy", "--backend", "reference")
    assert re.findall(r"^\S+, batch \d+$", out, re.MULTILINE) == ["2-3-1, batch 4"]
    rows = re.findall(r"^  (\w+) +([\d.]+) us +([\d.]+) GFLOP/s$", out, re.MULTILINE)
    assert [name for name, _, _ in rows] == ["reference", "numpy"]
    assert all(float(us) > 0 for _, us, _ in rows)


# ----------------------------------------------------------------------------- bad arguments


def test_bad_options(flowers: Path) -> None:
    for command, words in [
        ("frobnicate", ["frobnicate"]),
        ("train --hidden 3,x", ["--hidden", "'3,x'"]),
        ("train --hidden 0", ["sizes[1]", "0"]),
        ("train --activation softmx", ["'softmx'", "'softmax'"]),
        ("train --activation softmax", ["hidden layer 1"]),
        ("train --dtype float16", ["--dtype", "float16"]),
        ("train --backend nunba", ["--backend", "nunba"]),
        ("train --epochs 0", ["epochs", "0"]),
        ("train --batch-size -1", ["batch_size", "-1"]),
        ("train --learning-rate nan", ["learning_rate", "nan"]),
        ("train --seed -1", ["seed", "-1"]),
        ("train --save none/a.net", ["--save", "'none'"]),
        ("train --plot .", ["--plot", "directory"]),
        ("train none.csv", ["none.csv"]),
        ("train data.txt", ["data.txt", ".csv"]),
        ("check --net none.net", ["none.net"]),
        ("check --data none.npz", ["none.npz"]),
        ("bench --dtype half", ["--dtype"]),
        ("bench --largest many", ["--largest"]),
    ]:
        refused(*command.split(), words=words)
    assert [p.name for p in Path().iterdir()] == [flowers.name]


@pytest.mark.parametrize("command", ["train", "check", "bench"])
def test_a_backend_that_is_not_here(command: str) -> None:
    for name in AWAY:
        refused(command, "--backend", name, words=(f"backend {name!r}", INFO[name].reason))


def test_bad_files(flowers: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("check", "--net", flowers, words=(flowers, "safetensors"))
    dp.MLP([3, 2], backend="numpy").save("three.net")
    words = "X must have shape (m, 3)", "(40, 2)"
    refused("check", "--net", "three.net", "--data", flowers, words=words)
    (folder / "text.csv").write_text("1,one\n2,two\n")
    refused("train", "text.csv", words=("text.csv", "'one'"))
    monkeypatch.setenv("DELTAPROP_BACKEND", "gpu")
    refused("train", flowers, words=("$DELTAPROP_BACKEND 'gpu'",))
    refused("info", words=("$DELTAPROP_BACKEND 'gpu'",))
