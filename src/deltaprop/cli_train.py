"""The command that trains a net: deltaprop train."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

import deltaprop as dp
from deltaprop.cli_options import BACKEND, dataset, in_a_folder, new_net, with_net_options
from deltaprop.data import Dataset
from deltaprop.optimizers import OPTIMIZERS
from deltaprop.schedules import CosineDecay, OneCycle, PolynomialDecay, Schedule

DESCENT = 0.5
"""The learning rate of plain descent."""

SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "linear": PolynomialDecay,
    "cosine": CosineDecay,
    "one-cycle": OneCycle,
}


Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def _file(option: str, name: str, default: str, text: str) -> Option:
    path = click.Path(dir_okay=False, writable=True)
    return click.option(
        option, name, default=default, show_default=True, type=path, callback=in_a_folder, help=text
    )


@click.command()
@click.argument("data", type=click.Path(), required=False)
@with_net_options
@click.option("--epochs", default=30, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--learning-rate", type=float, help=f"{DESCENT}, or that of the optimizer.")
@click.option("--optimizer", type=click.Choice(list(OPTIMIZERS), case_sensitive=False))
@click.option("--schedule", type=click.Choice(list(SCHEDULES)), help="Of the learning rate.")
@click.option("--clip-norm", type=float, help="Larger gradients are scaled to this norm.")
@click.option("--validation", type=float, help="Part of the training samples to validate with.")
@click.option("--patience", type=int, help="Epochs without improvement; the best weights count.")
@click.option("--checkpoint", type=click.Path(file_okay=False), help="A folder for checkpoints.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint, if there is one.")
@click.option("--seed", default=0, show_default=True, help="Of the weights and the order.")
@click.option("--backend", type=BACKEND, help="Where to compute.")
@_file("--save", "model", "model.safetensors", "The trained net.")
@_file("--plot", "plot", "loss.png", "The loss curve.")
def train(
    data: str | None,
    hidden: list[int],
    activation: str,
    dtype: str,
    epochs: int,
    batch_size: int,
    learning_rate: float | None,
    optimizer: str | None,
    schedule: str | None,
    clip_norm: float | None,
    validation: float | None,
    patience: int | None,
    checkpoint: str | None,
    resume: bool,
    seed: int,
    backend: str | None,
    model: str,
    plot: str,
) -> None:
    """Train a net by gradient descent, on the handwritten digits or on DATA (.npz, .csv).

    Every fifth sample is kept for testing. Without --validation the test samples are looked at
    after every epoch, and decide nothing.
    """
    if patience is not None and validation is None:
        raise click.UsageError("--patience goes with --validation: test samples decide nothing")
    if resume and checkpoint is None:
        raise click.UsageError("--resume goes with --checkpoint")
    samples = dataset(data)
    training, test = samples.split()
    net = new_net(samples, hidden, activation, seed=seed, dtype=dtype, backend=backend)
    click.echo(
        f"{net!r}\n{samples.name}: {len(training.X)} samples to train, {len(test.X)} to test"
    )
    kept = 0 if validation is None else round(validation * len(training.X))
    steps = max(epochs, 1) * -(-(len(training.X) - kept) // max(batch_size, 1))
    start = time.perf_counter()
    history = net.fit(
        training.X,
        training.Y,
        epochs=epochs,
        batch_size=batch_size,
        **_descent(optimizer, learning_rate, schedule, clip_norm, max(steps, 1)),
        validation=(test.X, test.Y) if validation is None else validation,
        patience=patience,
        checkpoint=checkpoint,
        resume=resume,
        seed=seed,
    )
    _report(net, history, test, time.perf_counter() - start)
    net.save(model)
    click.echo(f"weights {dp.digest(net.parameters)[:16]} saved to {model}")
    _plot_history(history, Path(plot))


def _descent(
    name: str | None,
    learning_rate: float | None,
    schedule: str | None,
    clip_norm: float | None,
    steps: int,
) -> dict[str, Any]:
    """The learning rate or the optimizer, as of `fit`; a schedule takes all the steps."""
    kind = OPTIMIZERS[name or "SGD"]
    rate: Any = learning_rate
    if rate is None:
        rate = kind().learning_rate if name else DESCENT
    if schedule is not None:
        rate = SCHEDULES[schedule](rate, steps)
    if name is None and clip_norm is None:
        return {"learning_rate": rate}
    return {"optimizer": kind(rate, clip_norm=clip_norm)}


def _report(net: dp.MLP, history: dp.History, test: Dataset, seconds: float) -> None:
    loss = history.loss[-1]
    click.echo(f"{len(history.loss)} epochs in {seconds:.1f} s; loss {loss:.4g} in training")
    if history.stopped == "patience":
        click.echo(
            f"nothing improved any more: the weights are those of epoch {history.best_epoch}"
        )
    if not np.isfinite(loss):
        click.echo("training diverged: scale the columns of X, or lower --learning-rate")
    if test.is_classification:
        right = np.mean(np.argmax(net.predict(test.X), axis=1) == test.Y)
        click.echo(f"test accuracy {100 * right:.1f}%")
    else:
        click.echo(f"test loss {net.loss(test.X, test.Y):.4g}")


def _plot_history(history: dp.History, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        click.echo("no picture of the loss: pip install 'deltaprop[plot]'")
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    history.plot(figure.subplots())
    figure.savefig(path, dpi=120)
    click.echo(f"loss curve saved to {path}")
