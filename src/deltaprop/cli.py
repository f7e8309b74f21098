"""The command line: deltaprop info, check; others are in modules of their own."""

from __future__ import annotations

import sys
from typing import Any

import click

import deltaprop as dp
from deltaprop.backends import resolve
from deltaprop.cli_bench import bench
from deltaprop.cli_explain import explain
from deltaprop.cli_options import BACKEND, dataset, new_net, with_net_options
from deltaprop.cli_plot import plot as plot_command
from deltaprop.cli_train import train
from deltaprop.cli_warmup import warmup
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


@main.command()
@click.option("--net", "model", type=click.Path(), help="A net or graph saved by deltaprop.")
@click.option("--data", type=click.Path(), help="A .npz or .csv file; the digits otherwise.")
@with_net_options
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
    samples = dataset(data)
    if model:
        net = dp.load(model, "reference")
    else:
        net = new_net(samples, hidden, activation, dtype=dtype, backend="reference")
    click.echo(f"{net!r}\n{samples.name}: {len(samples.X)} samples\n")
    result = dp.crosscheck(net, samples.X, samples.Y, backends=chosen)
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


main.add_command(bench)
main.add_command(explain)
main.add_command(plot_command)
main.add_command(train)
main.add_command(warmup)

if __name__ == "__main__":
    main()
