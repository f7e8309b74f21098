"""The command that draws a net, as a person uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot

import deltaprop as dp
from commands import refused, well, write_flowers
from deltaprop.cli_plot import small_graph
from deltaprop.plot import drawing


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The pictures and colour scales that were drawn."""
    seen: list[tuple[Any, Any]] = []

    def watched(ax: Any, graph: Any, xy: Any, picture: Any, *options: Any) -> None:
        seen.append((picture, ax))
        drawing.draw(ax, graph, xy, picture, *options)

    monkeypatch.setattr(dp.plot, "draw", watched)
    return seen


def test_plot_draws_a_small_graph_unless_it_is_told_another(folder: Path, drawn: Any) -> None:
    out = well("plot")
    assert "weights drawn in network.png" in out
    assert (folder / "network.png").read_bytes().startswith(b"\x89PNG")
    assert len(drawn[0][0].value) == 10
    assert drawn[0][0].delta is None
    assert pyplot.get_fignums() == []


def test_plot_draws_the_gradient_of_samples(folder: Path, drawn: Any) -> None:
    g = small_graph().to(dtype="float32", backend="numpy")
    g.save("own.net")
    samples = ["--x", "1,2,3", "--y", "0,1", "--x", "-1,0.5,0", "--y", "1,1"]
    out = well("plot", "own.net", *samples, "--loss", "half_sse", "--out", "own.svg")
    assert "gradient drawn in own.svg" in out
    X, Y = np.float32([[1, 2, 3], [-1, 0.5, 0]]), np.float32([[0, 1], [1, 1]])
    _, wanted = dp.Graph.load("own.net").value_and_grad(X, Y, "half_sse")
    np.testing.assert_array_equal(drawn[0][0].value, wanted.weights)
    assert (folder / "own.svg").is_file()


def test_plot_takes_labels_and_files_of_data(folder: Path, drawn: Any) -> None:
    net = dp.MLP([2, 3, 2], output="softmax", backend="numba")
    net.save("own.net")
    well("plot", "own.net", "--x", "1,2", "--y", "1")
    _, wanted = net.value_and_grad(np.float32([[1, 2]]), np.array([1]))
    np.testing.assert_array_equal(drawn[0][0].value[:6], wanted[0].W.reshape(-1))
    well("plot", "own.net", "--data", write_flowers())
    assert drawn[1][0].delta is not None
    dp.MLP([2, 3, 1], backend="numba").save("one.net")
    well("plot", "one.net", "--data", "flowers.csv")
    assert drawn[2][0].delta is not None


def test_plot_tells_mistakes_in_one_line(folder: Path) -> None:
    refused("plot", "missing.net", words=["missing.net"])
    refused("plot", "--x", "1,2,3", words=["--x and --y"])
    refused("plot", "--x", "1,2", "--y", "1,2", words=["shape", "3"])
    refused("plot", "--x", "a", "--y", "1,2", words=["0.05,0.1"])
    refused("plot", "--x", "1,2,3", "--x", "1", "--y", "1,2", words=["as many numbers"])
    refused("plot", "--loss", "mse", words=["a loss needs samples"])
    refused("plot", "--out", "net.foo", words=["foo"])
    refused("plot", "--out", "nowhere/net.png", words=["nowhere"])
    refused("plot", "--data", "x.npz", "--x", "1,2,3", "--y", "1,2", words=["--data"])
