"""The command that writes one gradient out: deltaprop explain."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from deltaprop.cli_samples import sample_options, samples
from deltaprop.explain import MAX_PATHS, as_graph
from deltaprop.files import load
from deltaprop.graph import Graph
from deltaprop.graphs.topology import Topology
from deltaprop.net import Net

LISTED = 20
"""So many weights are listed."""


def two_paths() -> tuple[Graph, np.ndarray, np.ndarray]:
    """x1, x2 -> h -> y1, y2 and one sample: the error reaches h on two paths."""
    g = Graph(["x1", "x2"], ["y1", "y2"], dtype="float64")
    g.unit("h", "logistic", bias=0.35)
    g.unit("y1", "logistic", bias=0.6)
    g.unit("y2", "logistic", bias=0.6)
    g.edge("x1", "h", 0.15)
    g.edge("x2", "h", 0.2)
    g.edge("h", "y1", 0.4)
    g.edge("h", "y2", 0.5)
    return g, np.array([[0.05, 0.1]]), np.array([[0.01, 0.99]])


@click.command()
@click.argument("net", type=click.Path(), required=False)
@click.option("--weight", help="An edge, 'x1 -> h' or '0.W[1, 0]', or 'h' for its bias.")
@sample_options
@click.option("--max-paths", default=MAX_PATHS, show_default=True, help="Beyond it, unit by unit.")
@click.option("--latex", is_flag=True, help="LaTeX instead of text.")
def explain(
    net: str | None,
    weight: str | None,
    x: np.ndarray | None,
    y: np.ndarray | None,
    data: str | None,
    loss: str | None,
    max_paths: int,
    latex: bool,
) -> None:
    """Write the gradient of one weight out, path by path, with its numbers.

    NET is a file that deltaprop saved; without one, a small graph is explained. Without a
    weight, all are listed and the first is explained.
    """
    model, X, Y = _task(net, x, y, data)
    if net is None and loss is None:
        loss = "half_sse"
    if weight is None:
        graph = as_graph(model)
        click.echo(f"{model!r}\n{_weights(graph.topology)}\n", err=latex)
        weight_: Any = graph._parameters.edges[0]
    else:
        weight_ = weight
    e = model.explain(weight_, X, Y, loss, max_paths=max_paths)
    click.echo(e.latex() if latex else str(e))


def _task(
    path: str | None, X: np.ndarray | None, Y: np.ndarray | None, data: str | None
) -> tuple[Net[Any], Any, Any]:
    """The net and the samples, those of the built-in graph where none are given."""
    if path is None and X is None and Y is None and data is None:
        return two_paths()
    net = load(path) if path else two_paths()[0]
    X, Y = samples(net, X, Y, data, np.float64)
    if X is None:
        raise click.UsageError("a net of yours needs a sample: --x and --y, or --data")
    return net, X, Y


def _weights(graph: Topology) -> str:
    """The edges and biases there are, by name, a few of many."""
    edges = graph.order.edge[:LISTED]
    ends = zip(graph.named(graph.source[edges]), graph.named(graph.target[edges]))
    names = [f"{source} -> {target}" for source, target in ends]
    biased = graph.named(graph.order.unit[graph.order.biased[:LISTED]])
    return "\n".join(
        [
            _list(f"weights of {len(graph.order.edge):,} edges", names, len(graph.order.edge)),
            _list(f"biases of {len(graph.order.biased):,} units", biased, len(graph.order.biased)),
        ]
    )


def _list(title: str, names: list[Any], count: int) -> str:
    left = f", ... {count - len(names):,} more" if count > len(names) else ""
    return f"{title}: {', '.join(map(str, names))}{left}" if count else f"{title}"
