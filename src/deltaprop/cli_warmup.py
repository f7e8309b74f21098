"""The command that compiles ahead of the first gradient: deltaprop warmup."""

from __future__ import annotations

import click

from deltaprop.ahead import warmup as compile_ahead
from deltaprop.scalar import DTYPES


@click.command()
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(list(DTYPES)), help="Only it.")
@click.option("--activation", "activations", multiple=True, help="Only it, and usual outputs.")
def warmup(dtypes: tuple[str, ...], activations: tuple[str, ...]) -> None:
    """Compile for this CPU now what layered nets and graphs need on the numba backend.

    It is kept on disk, so that no program has to wait for it. Options can be repeated.
    """
    done = compile_ahead(dtypes or tuple(DTYPES), activations or None, progress=True)
    click.echo(
        f"{done.compiled} functions compiled, {done.there} were there: {done.seconds:.1f} s\n"
        f"kept in {done.folder}"
    )
