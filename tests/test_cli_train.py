"""deltaprop train, as a person uses it: what it prints and writes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import deltaprop as dp
from commands import refused, well, write_flowers, write_houses
from conftest import assert_same_bits
from deltaprop.data import digits, read

SHORT = ("--epochs", 1, "--backend", "numpy")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DELTAPROP_BACKEND", raising=False)


def saved(out: str) -> dp.MLP:
    """The net that `train` said it saved, its weights those it named."""
    digest, path = re.findall(r"^weights (\w+) saved to (.*)$", out, re.MULTILINE)[0]
    net = dp.MLP.load(path, "numpy")
    assert dp.digest(net.parameters)[:16] == digest
    return net


def test_train_on_the_digits() -> None:
    out = well("train", "--epochs", 3, "--backend", "numpy")
    net, (_, test) = saved(out), digits().split()
    assert net.sizes == (64, 32, 10)
    right = np.mean(np.argmax(net.predict(test.X), axis=1) == test.Y)
    assert f"test accuracy {100 * right:.1f}%" in out
    assert right > 0.8
    picture = matplotlib.image.imread("loss.png", format="png")
    assert picture.shape[:2] == (480, 720)
    assert len(np.unique(picture)) > 10


def test_train_saves_where_it_is_told() -> None:
    options = ("--hidden", "5,4", "--activation", "tanh", "--dtype", "float64", "--epochs", 2)
    out = well(
        "train", write_flowers(), *options, "--save", "a.net", "--plot", "a.png", "--backend", "cpu"
    )
    net = saved(out)
    assert (net.sizes, net.dtype) == ((2, 5, 4, 2), np.float64)
    assert [g.name for g in net.activations] == ["tanh", "tanh", "softmax"]
    assert "32 samples to train, 8 to test" in out
    assert sorted(p.name for p in Path().iterdir()) == ["a.net", "a.png", "flowers.csv"]


def test_a_seed_is_of_the_weights_and_the_order() -> None:
    data = write_flowers()

    def weights(*options: object) -> np.ndarray:
        return saved(well("train", data, *SHORT, *options)).parameters

    first = weights("--seed", 1)
    assert_same_bits(weights("--seed", 1), first)
    assert np.any(weights("--seed", 2) != first)
    still = weights("--seed", 1, "--learning-rate", 0)
    assert_same_bits(still, dp.MLP([2, 32, 2], seed=1, backend="numpy").parameters)


def test_train_a_regression() -> None:
    table = np.loadtxt(write_houses(), delimiter=",")
    np.savetxt("scaled.csv", (table - table.mean(axis=0)) / table.std(axis=0), delimiter=",")
    out = well("train", "scaled.csv", "--epochs", 20, "--learning-rate", 0.1, "--backend", "numpy")
    assert saved(out).activations[-1].name == "identity"
    assert 0 < float(re.findall(r"^test loss (.*)$", out, re.MULTILINE)[0]) < 0.2
    assert "diverged" not in out


def test_training_that_diverges_says_so() -> None:
    out = well("train", write_houses(), "--epochs", 3, "--activation", "relu", "--backend", "numpy")
    assert "loss nan in training" in out
    assert "test loss nan" in out
    assert "training diverged: scale the columns of X" in out
    assert matplotlib.image.imread("loss.png", format="png").size


def test_patience_brings_the_best_weights() -> None:
    options = ("--learning-rate", 4, "--validation", 0.25, "--patience", 3, "--backend", "cpu")
    out = well("train", "--epochs", 60, *options)
    (epochs,) = map(int, re.findall(r"^(\d+) epochs in", out, re.MULTILINE))
    (best,) = map(int, re.findall(r"the weights are those of epoch (\d+)$", out, re.MULTILINE))
    assert best == epochs - 3
    net, (training, _) = dp.MLP([64, 32, 10], output="softmax", backend="cpu"), digits().split()
    net.fit(training.X, training.Y, epochs=best, learning_rate=4.0, validation=0.25)
    assert_same_bits(saved(out).parameters, net.parameters)


def test_a_training_goes_on() -> None:
    """What was stopped after two epochs, and what never was."""
    options = ("--backend", "cpu", "--optimizer", "adam", "--clip-norm", 1)
    for epochs in (2, 4):
        told = well("train", *options, "--epochs", epochs, "--checkpoint", "run", "--resume")
    assert "4 epochs in" in told
    plain = well("train", *options, "--epochs", 4)
    assert_same_bits(saved(told).parameters, saved(plain).parameters)
    again = ("train", *options, "--epochs", 4, "--checkpoint", "run")
    refused(*again, words=["earlier training", "resume"])


@pytest.mark.parametrize("name", ["linear", "cosine", "one-cycle"])
def test_a_schedule_takes_all_the_steps(name: str) -> None:
    """32 samples for training, 24 of them without those for validation; 3 batches, 2 epochs."""
    options = ("--schedule", name, "--learning-rate", 0.3, "--validation", 0.25)
    out = well("train", write_flowers(), *options, "--epochs", 2, "--batch-size", 8)
    kinds = {"linear": "PolynomialDecay", "cosine": "CosineDecay", "one-cycle": "OneCycle"}
    schedule = getattr(dp.schedules, kinds[name])(0.3, 6)
    training, _ = read("flowers.csv").split()
    net = dp.MLP([2, 32, 2], output="softmax")
    rates = {"learning_rate": schedule, "validation": 0.25}
    net.fit(training.X, training.Y, epochs=2, batch_size=8, **rates)
    assert_same_bits(saved(out).parameters, net.parameters)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--patience", 3), "--patience goes with --validation"),
        (("--resume",), "--resume goes with --checkpoint"),
        (("--optimizer", "adamax"), "adamax"),
        (("--schedule", "cosines"), "cosines"),
        (("--validation", 2), "fraction"),
        (("--clip-norm", -1), "clip_norm must be"),
    ],
)
def test_options_that_make_no_sense(options: tuple, words: str) -> None:
    refused("train", *SHORT, *options, words=[words])
    assert list(Path().iterdir()) == []


def test_train_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out = well("train", write_flowers(), *SHORT)
    assert "pip install 'deltaprop[plot]'" in out
    assert saved(out).sizes == (2, 32, 2)
