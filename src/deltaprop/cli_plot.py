"""The command that draws a net: deltaprop plot."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from deltaprop import plot as pictures
from deltaprop.data import read
from deltaprop.files import load
from deltaprop.graph import Graph
from deltaprop.net import Net


def small_graph() -> Graph:
    """Five units between three inputs and two outputs, some edges past a level."""
    g = Graph(3, ["y1", "y2"], dtype="float64")
    for name, activation, bias in (
        ("h1", "tanh", 0.1),
        ("h2", "tanh", -0.4),
        ("h3", "logistic", 0.2),
        ("y1", "identity", 0.0),
        ("y2", "identity", 0.5),
    ):
        g.unit(name, activation, bias)
    for source, target, weight in (
        ("x1", "h1", 0.8),
        ("x2", "h1", -0.5),
        ("x2", "h2", 1.1),
        ("x3", "h2", 0.3),
        ("h1", "h3", -1.2),
        ("h2", "h3", 0.9),
        ("h3", "y1", 1.6),
        ("h3", "y2", -0.7),
        ("x1", "y1", 0.4),
        ("h2", "y2", -0.6),
    ):
        g.edge(source, target, weight)
    return g


def _rows(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    """Samples from "0.05,0.1" each: an array (m, n), or None."""
    try:
        rows = [[float(x) for x in value.split(",")] for value in values]
    except ValueError:
        raise click.BadParameter("give numbers such as 0.05,0.1") from None
    if len({len(row) for row in rows}) > 1:
        raise click.BadParameter("each sample must have as many numbers")
    return np.array(rows) if rows else None


@click.command()
@click.argument("net", type=click.Path(), required=False)
@click.option(
    "--out",
    default="network.png",
    show_default=True,
    type=click.Path(dir_okay=False, writable=True),
    help="A .png, .svg or .pdf file.",
)
@click.option("--x", multiple=True, callback=_rows, help="A sample: 0.05,0.1. May be repeated.")
@click.option("--y", multiple=True, callback=_rows, help="Its targets: 0.01,0.99; or a label.")
@click.option("--data", type=click.Path(), help="A .npz or .csv file instead of --x and --y.")
@click.option("--loss", help="half_sse, half_mse, mse, cross_entropy, binary_cross_entropy.")
def plot(
    net: str | None,
    out: str,
    x: np.ndarray | None,
    y: np.ndarray | None,
    data: str | None,
    loss: str | None,
) -> None:
    """Draw a net: units in columns by level, edges coloured by weight.

    NET is a file that deltaprop saved; without one, a small graph is drawn. With samples and
    their targets, edges are coloured by the gradient and each unit has its delta.
    """
    model = load(net) if net else small_graph()
    X, Y = _samples(model, x, y, data)
    if X is None and loss is not None:
        raise click.UsageError("a loss needs samples: --x and --y, or --data")
    try:
        pictures.save(out, model, X=X, Y=Y, loss=loss)
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{model!r}\n{'weights' if X is None else 'gradient'} drawn in {out}")


def _samples(
    net: Net[Any], X: np.ndarray | None, Y: np.ndarray | None, data: str | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """X and Y as the net takes them, or None and None."""
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
    return X.astype(net.dtype), Y if Y.ndim == 1 else Y.astype(net.dtype)
