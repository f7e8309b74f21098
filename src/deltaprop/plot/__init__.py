"""Pictures of nets: units in columns by level, edges coloured by weight or by gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.arrays import check_count
from deltaprop.contract import Array
from deltaprop.foreign import to_numpy
from deltaprop.graph import Graph
from deltaprop.graphs.topology import Topology
from deltaprop.graphs.unit_arrays import GraphBack, UnitParameters
from deltaprop.losses import Loss
from deltaprop.mlp import MLP, Back
from deltaprop.parameters import Parameters
from deltaprop.plot.drawing import Picture, draw, inches, style_of
from deltaprop.plot.layout import places


def network(
    net: Any,
    gradients: Any = None,
    *,
    X: Array | None = None,
    Y: Array | None = None,
    loss: str | Loss | None = None,
    labels: bool | None = None,
    most_edges: int = 3000,
    colorbar: bool = True,
    ax: Any = None,
) -> Any:
    """Draws a net: inputs on the left, then its units in columns by level.

    Blue edges are negative, orange ones positive; strong ones are wide and on top. Edges show
    the weights, or with gradients dE/dw, and each unit then its delta, summed over samples.
    Graphs of up to 16 units have names, activations, biases and numbers on the edges; outputs
    have a dark ring.

    Parameters
    ----------
    net
        A `Graph` or an `MLP`; it stays as it is.
    gradients
        What `value_and_grad` returned, or `backward`. From the former come the deltas of
        units with a bias: dE/db is their sum.
    X, Y, loss
        X (m, inputs) and targets instead of `gradients`: they are computed.
    labels
        Whether to write names and numbers; without it, the size decides.
    most_edges
        The strongest so many are drawn.
    colorbar
        Whether to add the scale of the colours.
    ax
        The matplotlib Axes to draw in; without one, a new figure of pyplot.

    Returns
    -------
    The Axes. Raises ImportError without matplotlib, TypeError for gradients of another net.
    """
    _require_matplotlib()
    graph = _as_graph(net)
    picture = _picture(net, graph, _gradients(graph, gradients, X, Y, loss))
    most_edges = check_count("most_edges", most_edges)
    style = style_of(graph.topology, labels)
    xy = places(graph.topology)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.figure(figsize=inches(xy, style), layout="constrained").add_subplot()
    draw(ax, graph.topology, xy, picture, style, most_edges, colorbar)
    return ax


def save(path: Any, net: Any, gradients: Any = None, **options: Any) -> None:
    """Writes the picture of `network` to a file, without pyplot; .png, .svg and .pdf are known.

    Arguments as of `network`; ValueError for other endings.
    """
    _require_matplotlib()
    from matplotlib.figure import Figure

    graph = _as_graph(net)
    style = style_of(graph.topology, options.get("labels"))
    figure = Figure(figsize=inches(places(graph.topology), style), layout="constrained")
    network(net, gradients, ax=figure.add_subplot(), **options)
    figure.savefig(path, dpi=120)


def _require_matplotlib() -> None:
    try:
        import matplotlib.collections  # noqa: F401
    except ImportError as error:
        raise ImportError("matplotlib is missing: pip install 'deltaprop[plot]'") from error


# -------------------------------------------------------------------------- what is to be seen


def _as_graph(net: Any) -> Graph:
    if isinstance(net, Graph):
        return net
    if isinstance(net, MLP):
        graph: Graph = net.to_graph()
        return graph
    raise TypeError(f"net must be a Graph or an MLP, got {type(net).__name__}")


def _gradients(graph: Graph, gradients: Any, X: Any, Y: Any, loss: Any) -> Any:
    """The gradients that were given, or those at X."""
    if X is None and Y is None:
        return gradients
    if gradients is not None:
        raise TypeError("give gradients, or X and Y to compute them, not both")
    if X is None or Y is None:
        raise TypeError("gradients are computed from both X and Y")
    return graph.backward(graph.forward(X), Y, loss)


def _picture(net: Any, graph: Graph, gradients: Any) -> Picture:
    shape = graph.topology
    own = _in_order(graph.kernels.arrays.to_numpy(graph.parameters), shape)
    edges = shape.source[shape.order.edge], shape.target[shape.order.edge]
    if gradients is None:
        return Picture(*edges, *own, None)
    flat = _flat(net, gradients)
    if flat.shape != graph.parameters.shape:
        raise TypeError(
            f"gradients are {flat.size} numbers, but the net has {graph.parameters.size} parameters"
        )
    value, delta = _in_order(flat, shape)
    if isinstance(gradients, GraphBack):
        rows = to_numpy(gradients.delta.array)
        delta[shape.order.unit[shape.inputs :]] = rows.sum(axis=1)
    elif isinstance(gradients, Back):
        layers = [to_numpy(x).sum(axis=0) for x in gradients.delta if x is not None]
        delta[shape.inputs :] = np.concatenate(layers)
    return Picture(*edges, value, own[1], delta)


def _flat(net: Any, gradients: Any) -> np.ndarray:
    """Gradients as the parameters of the graph are laid out: all weights, then all biases."""
    found = gradients.gradients if isinstance(gradients, (GraphBack, Back)) else gradients
    if isinstance(found, UnitParameters):
        return np.asarray(to_numpy(found.flat))
    if not (isinstance(found, Parameters) and isinstance(net, MLP)):
        raise TypeError(
            "gradients must be what value_and_grad or backward of this net returned, "
            f"got {type(gradients).__name__}"
        )
    layers = [(to_numpy(W), None if b is None else to_numpy(b)) for W, b in found]
    weights = [W.reshape(-1) for W, _ in layers]
    return np.concatenate([*weights, *(b for _, b in layers if b is not None)])


def _in_order(flat: np.ndarray, shape: Topology) -> tuple[np.ndarray, np.ndarray]:
    """Those of the edges, and those of biases by unit, in float64."""
    edges, order = len(shape.source), shape.order
    biases = np.full(shape.units, np.nan)
    biases[order.unit[order.biased]] = flat[edges:]
    return flat[:edges].astype(np.float64), biases
