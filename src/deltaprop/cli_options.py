"""What options of several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from deltaprop.backends import CHOICES

BACKEND = click.Choice(list(CHOICES))
DTYPE = click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True
)


def in_a_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A path in a folder that exists: found out before the work, not after it."""
    if value is not None and not Path(value).parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(Path(value).parent)!r}")
    return value
