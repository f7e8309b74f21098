"""Samples on the command line: the options --x, --y, --data and --loss."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from deltaprop.data import read
from deltaprop.net import Net


def _rows(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    """Samples from "0.05,0.1" each: an array (m, n), or None."""
    try:
        rows = [[float(x) for x in value.split(",")] for value in values]
    except ValueError:
        raise click.BadParameter("give numbers such as 0.05,0.1") from None
    if len({len(row) for row in rows}) > 1:
        raise click.BadParameter("each sample must have as many numbers")
    return np.array(rows) if rows else None


OPTIONS = (
    click.option("--x", multiple=True, callback=_rows, help="A sample: 0.05,0.1. May be repeated."),
    click.option("--y", multiple=True, callback=_rows, help="Its targets: 0.01,0.99; or a label."),
    click.option("--data", type=click.Path(), help="A .npz or .csv file instead of --x and --y."),
    click.option("--loss", help="half_sse, half_mse, mse, cross_entropy, binary_cross_entropy."),
)


def sample_options(command: Any) -> Any:
    """A decorator that adds them to a command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def samples(
    net: Net[Any], X: np.ndarray | None, Y: np.ndarray | None, data: str | None, dtype: Any
) -> tuple[Any, Any]:
    """X (m, inputs) and Y as the net takes them, targets or labels; None and None without any."""
    if data is not None:
        if X is not None or Y is not None:
            raise click.UsageError("give --data, or --x and --y")
        X, Y = read(data).X, read(data).Y
    if (X is None) != (Y is None):
        raise click.UsageError("a sample and its targets go together: --x and --y")
    if X is None or Y is None:
        return None, None
    rowwise = net._output_activations[0].rowwise
    if rowwise and Y.ndim == 2 and Y.shape[1] == 1 != net.outputs and np.all(np.rint(Y) == Y):
        Y = Y[:, 0].astype(np.int64)
    elif not rowwise and Y.ndim == 1:
        Y = Y[:, None]
    return X.astype(dtype), Y if Y.ndim == 1 else Y.astype(dtype)
