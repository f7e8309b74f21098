"""What options of several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import deltaprop as dp
from deltaprop.backends import CHOICES
from deltaprop.data import Dataset, digits, read

BACKEND = click.Choice(list(CHOICES))
DTYPE = click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True
)


def in_a_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A path in a folder that exists: found out before the work, not after it."""
    if value is not None and not Path(value).parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(Path(value).parent)!r}")
    return value


def _units(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    """Units of hidden layers from "64,32"; from "" none."""
    try:
        return [int(n) for n in value.split(",") if n.strip()]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 64,32") from None


NET = (
    click.option(
        "--hidden",
        default="32",
        show_default=True,
        callback=_units,
        help="Units of hidden layers: 64,32.",
    ),
    click.option("--activation", default="logistic", show_default=True, help="Of hidden layers."),
    DTYPE,
)


def with_net_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that adds the options of a new net."""
    for option in reversed(NET):
        command = option(command)
    return command


def dataset(path: str | None) -> Dataset:
    """What is in that file, or the digits."""
    return read(path) if path else digits()


def new_net(data: Dataset, hidden: list[int], activation: str, **options: Any) -> dp.MLP:
    """A net for that data."""
    sizes = [data.X.shape[1], *hidden, data.outputs]
    output = "softmax" if data.is_classification else "identity"
    return dp.MLP(sizes, activation, output, **options)
