"""The command that draws a net: deltaprop plot."""

from __future__ import annotations

import click
import numpy as np

from deltaprop import plot as pictures
from deltaprop.cli_samples import sample_options, samples
from deltaprop.files import load
from deltaprop.graph import Graph


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


@click.command()
@click.argument("net", type=click.Path(), required=False)
@click.option(
    "--out",
    default="network.png",
    show_default=True,
    type=click.Path(dir_okay=False, writable=True),
    help="A .png, .svg or .pdf file.",
)
@sample_options
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
    X, Y = samples(model, x, y, data, model.dtype)
    if X is None and loss is not None:
        raise click.UsageError("a loss needs samples: --x and --y, or --data")
    try:
        pictures.save(out, model, X=X, Y=Y, loss=loss)
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{model!r}\n{'weights' if X is None else 'gradient'} drawn in {out}")
