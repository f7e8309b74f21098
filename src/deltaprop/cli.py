"""The command line: deltaprop info, check, train; others are in modules of their own."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import deltaprop as dp
from deltaprop.backends import resolve
from deltaprop.cli_bench import bench
from deltaprop.cli_explain import explain
from deltaprop.cli_options import BACKEND, DTYPE, in_a_folder
from deltaprop.cli_plot import plot as plot_command
from deltaprop.cli_warmup import warmup
from deltaprop.data import Dataset, digits, read
from deltaprop.devices.cache import cache_folder

MISTAKES = (
    dp.BackendUnavailableError,
    ValueError,
    TypeError,
    FloatingPointError,
    MemoryError,
    OSError,
)
"""What options, files and machines can raise: told in one line, without a traceback."""


class Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except MISTAKES as error:
            raise click.ClickException(str(error)) from error


def _units(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    """Units of hidden layers from "64,32"; from "" none."""
    try:
        return [int(n) for n in value.split(",") if n.strip()]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 64,32") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dp.__version__, prog_name="deltaprop")
def main() -> None:
    """Backpropagation kernels for CPU and GPU whose gradients agree to the last bit."""


@main.command()
def info() -> None:
    """The backends, their versions, and why one is missing."""
    click.echo(f"deltaprop {dp.__version__}, Python {sys.version.split()[0]}")
    click.echo(f"compiled kernels are kept in {cache_folder()}\n")
    for b in dp.backends():
        state = "ready" if b.available else "not here"
        kind = "exact" if b.exact else "within bounds"
        click.echo(f"{b.name:<10} {state:<9} {kind:<14} {b.version}")
        if b.reason:
            click.echo(f"{'':<10} {b.reason}")
    click.echo(f"\nwithout a choice, backend {resolve()!r} computes")


def _dataset(path: str | None) -> Dataset:
    return read(path) if path else digits()


def _new_net(data: Dataset, hidden: list[int], activation: str, **options: Any) -> dp.MLP:
    sizes = [data.X.shape[1], *hidden, data.outputs]
    output = "softmax" if data.is_classification else "identity"
    return dp.MLP(sizes, activation, output, **options)


net_options = [
    click.option(
        "--hidden",
        default="32",
        show_default=True,
        callback=_units,
        help="Units of hidden layers: 64,32.",
    ),
    click.option("--activation", default="logistic", show_default=True, help="Of hidden layers."),
    DTYPE,
]


def _with_net_options(command: Any) -> Any:
    for option in reversed(net_options):
        command = option(command)
    return command


@main.command()
@click.option("--net", "model", type=click.Path(), help="A net or graph saved by deltaprop.")
@click.option("--data", type=click.Path(), help="A .npz or .csv file; the digits otherwise.")
@_with_net_options
@click.option("--backend", "names", multiple=True, type=BACKEND, help="Only these backends.")
@click.option("--digest", is_flag=True, help="Check the fixed nets' gradients instead.")
def check(
    model: str | None,
    data: str | None,
    hidden: list[int],
    activation: str,
    dtype: str,
    names: tuple[str, ...],
    digest: bool,
) -> None:
    """Run the gradient of a net on every backend here, side by side, bit by bit.

    Trains nothing. Exit status 1 if a backend is off.
    """
    chosen = [resolve(name) for name in names] or None
    if digest:
        sys.exit(0 if _check_digests(chosen) else 1)
    dataset = _dataset(data)
    if model:
        net = dp.load(model, "reference")
    else:
        net = _new_net(dataset, hidden, activation, dtype=dtype, backend="reference")
    click.echo(f"{net!r}\n{dataset.name}: {len(dataset.X)} samples\n")
    result = dp.crosscheck(net, dataset.X, dataset.Y, backends=chosen)
    _print_crosscheck(result)
    if not result:
        sys.exit(1)


def _print_crosscheck(result: Any) -> None:
    ran = [row for row in result.rows if not row.reason]
    names = list(ran[0].differences)
    width = max(10, *map(len, names))
    head = "".join(f"{name:>{width}}" for name in names)
    click.echo(f"{'backend':<11}{head}  {'':<15}{'digest of gradient':<20}{'seconds':>9}")
    for row in ran:
        cells = "".join(
            f"{d:>{width}.0f}" if row.exact else f"{d:>{width}.1g}"
            for d in row.differences.values()
        )
        unit = "differing bits" if row.exact else "of the bound"
        mark = "" if row.ok else "  WRONG"
        click.echo(
            f"{row.backend:<11}{cells}  {unit:<15}{row.digest[:16]:<20}{row.seconds:>9.4f}{mark}"
        )
    for row in result.rows:
        if row.reason:
            click.echo(f"{row.backend:<11}not here: {row.reason}")
    click.echo()
    verdicts = {
        "the same gradient, bit for bit": [row for row in ran if row.exact and row.ok],
        "within the error bound": [row for row in ran if not row.exact and row.ok],
        "WRONG": [row for row in ran if not row.ok],
    }
    for verdict, rows in verdicts.items():
        if rows:
            click.echo(f"{', '.join(row.backend for row in rows)}: {verdict}")


def _check_digests(names: list[str] | None) -> bool:
    right = True
    for b in dp.backends():
        if names is not None and b.name not in names:
            continue
        if not b.available:
            click.echo(f"{b.name:<10} not here: {b.reason}")
            right = right and names is None
        elif not b.exact:
            click.echo(f"{b.name:<10} within bounds: has no bits to check")
        else:
            wrong = dp.check_digests(b.name)
            click.echo(f"{b.name:<10} {'all digests as they must be' if not wrong else 'WRONG'}")
            for name in wrong:
                click.echo(f"{'':<10} {name}")
            right = right and not wrong
    return right


@main.command()
@click.argument("data", type=click.Path(), required=False)
@_with_net_options
@click.option("--epochs", default=30, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--learning-rate", default=0.5, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the weights and the order.")
@click.option("--backend", type=BACKEND, help="Where to compute.")
@click.option(
    "--save",
    "model",
    default="model.safetensors",
    show_default=True,
    type=click.Path(dir_okay=False, writable=True),
    callback=in_a_folder,
)
@click.option(
    "--plot",
    default="loss.png",
    show_default=True,
    type=click.Path(dir_okay=False, writable=True),
    callback=in_a_folder,
    help="The loss curve.",
)
def train(
    data: str | None,
    hidden: list[int],
    activation: str,
    dtype: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    backend: str | None,
    model: str,
    plot: str,
) -> None:
    """Train a net by gradient descent, on the handwritten digits or on DATA (.npz, .csv).

    Every fifth sample is kept for testing.
    """
    dataset = _dataset(data)
    training, test = dataset.split()
    net = _new_net(dataset, hidden, activation, seed=seed, dtype=dtype, backend=backend)
    click.echo(
        f"{net!r}\n{dataset.name}: {len(training.X)} samples to train, {len(test.X)} to test"
    )
    start = time.perf_counter()
    history = net.fit(
        training.X,
        training.Y,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        validation=(test.X, test.Y),
        seed=seed,
    )
    seconds = time.perf_counter() - start
    click.echo(f"{epochs} epochs in {seconds:.1f} s; loss {history.loss[-1]:.4g} in training")
    if not np.isfinite(history.loss[-1]):
        click.echo("training diverged: scale the columns of X, or lower --learning-rate")
    if dataset.is_classification:
        right = np.mean(np.argmax(net.predict(test.X), axis=1) == test.Y)
        click.echo(f"test accuracy {100 * right:.1f}%")
    else:
        click.echo(f"test loss {history.validation_loss[-1]:.4g}")
    net.save(model)
    click.echo(f"weights {dp.digest(net.parameters)[:16]} saved to {model}")
    _plot_history(history, Path(plot))


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


main.add_command(bench)
main.add_command(explain)
main.add_command(plot_command)
main.add_command(warmup)

if __name__ == "__main__":
    main()
