"""The command that measures: deltaprop bench; with --peers beside other libraries, with --kernels
beside the machine's ceilings.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deltaprop import results
from deltaprop.backends import BACKENDS, backends, load, resolve
from deltaprop.bench import bench as timings
from deltaprop.cli_kernels import kernels as kernels_command
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
@click.option("--kernels", is_flag=True, help="Every kernel, beside what the machine can do.")
@click.option(
    "--budget",
    type=click.FloatRange(0),
    help="Seconds for all of it with --peers or --kernels; what is not reached is named.",
)
@_file("--out", "Where the figures go, as JSON, with --peers or --kernels.")
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
@_file("--plot", "Where the picture goes: speed against size.")
def bench(
    names: tuple[str, ...],
    dtype: str,
    seconds: float,
    largest: float,
    peers: bool,
    kernels: bool,
    budget: float | None,
    out: str | None,
    **options: Any,
) -> None:
    """Time a gradient on nets from tiny to large, on every backend here.

    With --peers, time a training step (forward, backward, update) beside every library that is
    installed, on the GPU with --backend cuda: each is checked against float64 first, then they
    run in turns in one process. With --kernels, time every kernel of one backend. The options
    below --sweep go with --peers.
    """
    if peers and kernels:
        raise click.UsageError("--peers and --kernels are two commands")
    if not peers:
        for name, value in options.items():
            if value:
                raise click.UsageError(f"--{name} goes with --peers")
    if not peers and not kernels:
        for name, given in (("budget", budget), ("out", out)):
            if given is not None:
                raise click.UsageError(f"--{name} goes with --peers or --kernels")
        return _backends(names, dtype, seconds, largest)
    if len(names) > 1:
        raise click.UsageError(f"{'--peers' if peers else '--kernels'} measures one backend")
    backend = resolve(names[0] if names else "cpu")
    if kernels:
        return kernels_command(backend, dtype, largest, budget, out)
    _peers(backend, dtype, seconds, largest, budget, out, **options)


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
    backend: str,
    dtype: str,
    seconds: float,
    largest: float,
    budget: float | None,
    out: str | None,
    activation: str | None,
    loss: str | None,
    inference: bool,
    sweep: bool,
    threads: int | None,
    plot: str | None,
) -> None:
    from deltaprop.peers import case, machine
    from deltaprop.peers.rivals import device_of

    where = device_of(backend)
    kind = case.like(activation or "logistic", loss or "half_mse", dtype, inference, where)
    if threads is not None and not machine.limited_to(threads):
        return _again(threads)
    cases = [c for c in (case.sweep if sweep else case.table)(kind) if c.operations <= largest]
    if not cases:
        raise click.UsageError(f"no net has {largest:g} operations or fewer")
    end = time.perf_counter() + (math.inf if budget is None else budget)
    _measure(cases, backend, seconds, end, "sweep" if sweep else "table", out, plot)


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


COMPILING = 0.6
"""Of the seconds that a run has: what those that compile for long may take together."""


def _measure(
    cases: Sequence[Case],
    backend: str,
    seconds: float,
    end: float,
    kind: str,
    out: str | None,
    plot: str | None,
) -> None:
    """Figures are written after each case: a long run that is stopped leaves what it has."""
    from deltaprop.peers import allowance, figures, picture, rivals

    first = cases[0]
    compiling = allowance.Allowance(COMPILING * (end - time.perf_counter()))
    names = rivals.OF_SWEEPS if kind == "sweep" else rivals.EVERYBODY
    everyone = rivals.taking_part(backend, names)
    found = figures.Figures(kind, _peak(backend, first.dtype), seconds, first.device)
    what = "a prediction" if first.inference else f"a training step, {first.loss}"
    most = "fma in registers" if first.device == "cpu" else "cuBLAS's products"
    click.echo(
        f"{what}, {first.activation}, {first.dtype}: medians, in turns; deltaprop on {backend!r}\n"
        f"threads: {found.threads}; {most}: {found.peak_gflops:.0f} GFLOP/s\n"
    )
    for case in cases:
        if time.perf_counter() > end:
            found.not_reached.append(case.name)
            continue
        compiling.left = min(compiling.left, end - time.perf_counter())
        row = figures.measure(case, seconds, everyone, compiling)
        found.rows.append(row)
        click.echo("\n".join([*figures.lines(row, found.peak_gflops), ""]))
        if out:
            results.write(found.as_json(), Path(out))
    if out:
        results.write(found.as_json(), Path(out))
    click.echo("\n".join(figures.summary(found)))
    if plot:
        try:
            picture.save(found.as_json(), Path(plot))
        except ImportError as error:
            raise click.ClickException(str(error)) from error
    if found.failures:
        raise click.ClickException("; ".join(found.failures))


def _peak(backend: str, dtype: str) -> float:
    """GFLOP/s: of fused multiply-adds in registers, on a GPU of its library's products."""
    from deltaprop.ceilings import limits
    from deltaprop.ceilings.clock import clock_of
    from deltaprop.peers import peak

    if backend != "cuda":
        return peak.peak_gflops(dtype)
    k = load(backend)
    return limits.measure(k, clock_of(k), dtype).flops / 1e9
