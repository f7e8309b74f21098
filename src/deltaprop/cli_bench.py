"""The commands that measure: deltaprop bench, and with --peers beside other libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deltaprop.backends import BACKENDS, backends, resolve
from deltaprop.bench import bench as timings
from deltaprop.cli_options import BACKEND, DTYPE, in_a_folder

if TYPE_CHECKING:
    from deltaprop.peers.case import Case

T = TypeVar("T", bound=Callable[..., Any])
FILE = click.Path(dir_okay=False, writable=True)


def _file(name: str, text: str) -> Callable[[T], T]:
    return click.option(name, type=FILE, callback=in_a_folder, help=text)


@click.command()
@click.option("--backend", "names", multiple=True, type=BACKEND, help="Only these backends.")
@DTYPE
@click.option("--seconds", default=1.0, show_default=True, help="For each net.")
@click.option("--largest", default=1e12, show_default=True, help="Operations of the largest net.")
@click.option("--peers", is_flag=True, help="A training step, beside NumPy, PyTorch, JAX, ...")
@click.option("--sweep", is_flag=True, help="Widths 1 to 4096 and batches 1 to 100,000 instead.")
@click.option("--inference", is_flag=True, help="A prediction in place of a training step.")
@click.option(
    "--activation",
    type=click.Choice(["logistic", "tanh", "relu", "identity"]),
    help="Of hidden layers; outputs are logistic with logistic, else identity.  [logistic]",
)
@click.option(
    "--loss",
    type=click.Choice(["half_mse", "cross_entropy"]),
    help="cross_entropy has softmax outputs.  [half_mse]",
)
@click.option("--threads", type=click.IntRange(1), help="So many threads and processors for all.")
@_file("--out", "Where the figures go, as JSON.")
@_file("--plot", "Where the picture goes: speed against size.")
def bench(
    names: tuple[str, ...], dtype: str, seconds: float, largest: float, **options: Any
) -> None:
    """Time a gradient on nets from tiny to large, on every backend here.

    With --peers, time a training step (forward, backward, update) beside every library that is
    installed: each is checked against float64 first, then they run in turns in one process.
    The options below --peers go with it.
    """
    if options.pop("peers"):
        return _peers(names, dtype, seconds, largest, **options)
    for name, value in options.items():
        if value:
            raise click.UsageError(f"--{name} goes with --peers")
    _backends(names, dtype, seconds, largest)


def _backends(names: tuple[str, ...], dtype: str, seconds: float, largest: float) -> None:
    chosen = [resolve(name) for name in names] or [b.name for b in backends() if b.available]
    chosen.sort(key=list(BACKENDS).index)
    click.echo(f"one gradient of a logistic net, {dtype}, half_mse: median, and GFLOP/s\n")
    for sizes, m, row in timings(chosen, dtype, seconds, largest):
        shape = "-".join(map(str, sizes)) if len(sizes) < 8 else f"{sizes[0]} x {len(sizes) - 1}"
        click.echo(f"{shape}, batch {m}")
        for timing in row:
            click.echo(
                f"  {timing.backend:<10} {timing.seconds * 1e6:>12.1f} us"
                f" {timing.gflops:>9.2f} GFLOP/s"
            )


def _peers(
    names: tuple[str, ...],
    dtype: str,
    seconds: float,
    largest: float,
    activation: str | None,
    loss: str | None,
    inference: bool,
    sweep: bool,
    threads: int | None,
    out: str | None,
    plot: str | None,
) -> None:
    from deltaprop.peers import case, machine

    if len(names) > 1:
        raise click.UsageError("--peers compares one backend")
    backend = resolve(names[0] if names else "cpu")
    kind = case.like(activation or "logistic", loss or "half_mse", dtype, inference)
    if threads is not None and not machine.limited_to(threads):
        return _again(threads)
    cases = [c for c in (case.sweep if sweep else case.table)(kind) if c.operations <= largest]
    if not cases:
        raise click.UsageError(f"no net has {largest:g} operations or fewer")
    _measure(cases, backend, seconds, "sweep" if sweep else "table", out, plot)


def _again(threads: int) -> None:
    """The same command in a process with that limit."""
    from deltaprop.peers.machine import run_limited

    context = click.get_current_context()
    arguments = ["bench"]
    for parameter in context.command.params:
        value, option = context.params[str(parameter.name)], parameter.opts[0]
        if value is True:
            arguments.append(option)
        elif value is not None and value is not False:
            for x in value if isinstance(value, tuple) else (value,):
                arguments += [option, str(x)]
    try:
        for line in run_limited(threads, "deltaprop.cli", arguments):
            click.echo(line)
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error


def _measure(
    cases: Sequence[Case], backend: str, budget: float, kind: str, out: str | None, plot: str | None
) -> None:
    """Figures are written after each case: a long run that is stopped leaves what it has."""
    from deltaprop.peers import figures, peak, picture, rivals

    first = cases[0]
    names = rivals.OF_SWEEPS if kind == "sweep" else rivals.EVERYBODY
    everyone = rivals.taking_part(backend, names)
    found = figures.Figures(kind, peak.peak_gflops(first.dtype), budget)
    what = "a prediction" if first.inference else f"a training step, {first.loss}"
    click.echo(
        f"{what}, {first.activation}, {first.dtype}: medians, in turns; deltaprop on {backend!r}\n"
        f"threads: {found.threads}; fma in registers: {found.peak_gflops:.0f} GFLOP/s\n"
    )
    for case in cases:
        try:
            row = figures.measure(case, budget, everyone)
        except figures.WrongAnswerError as error:
            raise click.ClickException(str(error)) from error
        found.rows.append(row)
        click.echo("\n".join([*figures.lines(row, found.peak_gflops), ""]))
        if out:
            found.write(Path(out))
    click.echo("\n".join(figures.summary(found.rows, found.peak_gflops)))
    if plot:
        try:
            picture.save(found.as_json(), Path(plot))
        except ImportError as error:
            raise click.ClickException(str(error)) from error
