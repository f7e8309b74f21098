"""One gradient explained: the products of the chain rule, path by path, beside backpropagation."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from deltaprop import equations
from deltaprop.activations import IDENTITY
from deltaprop.arrays import check_count
from deltaprop.contract import Array
from deltaprop.equations import Batch, Outputs
from deltaprop.explain import latex as as_latex
from deltaprop.explain import text as as_text
from deltaprop.explain.paths import Contributions, Factor, Path, Sweep, UnitNumbers, Weight, total
from deltaprop.foreign import batch_to_numpy
from deltaprop.graph import Graph
from deltaprop.graphs.unit_arrays import GraphBack, GraphTrace
from deltaprop.losses import Loss
from deltaprop.mlp import MLP
from deltaprop.names import Name, listed
from deltaprop.net import Net

MAX_PATHS = 12

Ends = tuple[Name | None, Name]
"""The units at the ends of an edge; a bias has no source."""


class Explanation(Contributions):
    """A gradient dE/dw as the sum over the paths from the weight to the outputs.

    `print` shows it as text, a notebook as LaTeX; it is true if the sum agrees to rounding with
    the gradient that backpropagation computed. Its numbers are those of `Contributions`.
    """

    def __str__(self) -> str:
        return as_text.text(self)

    __repr__ = __str__

    def latex(self) -> str:
        """The derivation as an `aligned` environment of LaTeX."""
        return as_latex.latex(self)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


def explain(
    net: Net[Any],
    weight: Weight,
    X: Array,
    Y: Array,
    loss: str | Loss | None = None,
    sample_weight: Array | None = None,
    max_paths: int = MAX_PATHS,
) -> Explanation:
    """dE/dw of one weight of a graph or an MLP: see `Net.explain`."""
    check_count("max_paths", max_paths, 0)
    graph = as_graph(net).to(dtype="float64")
    ends = find_weight(net, graph, weight)
    X, Y, sample_weight = batch_to_numpy(X, Y, sample_weight)
    with np.errstate(all="ignore"):
        trace = graph.forward(X)
        back = graph.backward(trace, Y, loss, sample_weight)
        chosen, batch = graph._batch(Y, loss, sample_weight, len(X))
        sweep = _sweep(graph, trace, back, chosen, batch)
        return _explain(graph, ends, sweep, (trace, back, chosen, batch), max_paths)


def as_graph(net: Net[Any]) -> Graph:
    """The net as a graph of units."""
    graph = net.to_graph() if isinstance(net, MLP) else net
    assert isinstance(graph, Graph)
    return graph


def _explain(
    graph: Graph,
    ends: Ends,
    sweep: Sweep,
    seen: tuple[GraphTrace, GraphBack, Loss, Batch],
    max_paths: int,
) -> Explanation:
    trace, back, loss, batch = seen
    source, target = ends
    count = sweep.count_paths(target)
    few = count <= max_paths
    paths = tuple(sweep.path(source, units) for units in sweep.walk(target)) if few else ()
    deltas = () if few else tuple(sweep.deltas(target))
    a = None if source is None else Factor("a", (source,), trace.a[source])
    x = 1.0 if a is None else a.values
    size = total(sweep.size(target) * np.abs(x))
    f = np.finfo(np.float64)
    key = target if source is None else (source, target)
    return Explanation(
        weight=key,
        loss=loss.name,
        samples=batch.samples,
        weighted=batch.weights is not None,
        count=count,
        cancelled=bool(loss.link),
        paths=paths,
        deltas=deltas,
        arriving=a,
        units=_units(graph, trace, back, batch, paths),
        total=total(path.product for path in paths) if few else total(deltas[0].values * x),
        gradient=back.gradients[key],
        rounding=float(sweep.roundings(target) * (f.eps * size + f.tiny)),
    )


def _sweep(graph: Graph, trace: GraphTrace, back: GraphBack, loss: Loss, batch: Batch) -> Sweep:
    """The sweep's numbers by name. dE/da is the delta that an output of slope 1 would have."""
    k = graph.kernels
    names = _outputs(graph)
    z, a = (k.arrays.asarray(np.stack([x[y] for y in names], 1)) for x in (trace.z, trace.a))
    error = k.arrays.to_numpy(equations.output_delta(k, Outputs(z, a), IDENTITY, batch, loss))
    leads: dict[Name, list[tuple[Name, float]]] = {}
    weights = k.arrays.to_numpy(graph.parameters)[: len(back.gradients.weights)]
    for (source, target), w in zip(back.gradients.edges, weights.tolist()):
        leads.setdefault(source, []).append((target, w))
    return Sweep(
        list(trace.z),
        trace.a,
        back.slope,
        dict(zip(names, error.T)),
        bool(loss.link),
        leads,
    )


def _outputs(graph: Graph) -> list[Name]:
    return graph.topology.named(graph.topology.outputs)


def _units(
    graph: Graph, trace: GraphTrace, back: GraphBack, batch: Batch, paths: tuple[Path, ...]
) -> tuple[UnitNumbers, ...]:
    """What the units on these paths saw, in the order of evaluation."""
    shape = graph.topology
    on_a_path = {name for path in paths for name in path.units}
    targets = dict(zip(_outputs(graph), graph.kernels.arrays.to_numpy(batch.Y).T))

    def numbers(name: Name) -> UnitNumbers:
        i = shape.number[name] - shape.inputs
        if i < 0:
            return UnitNumbers(name, "input", None, trace.a[name], None, None)
        g = shape.activations[i]
        slope = None if g.rowwise else back.slope[name]
        return UnitNumbers(name, g.name, trace.z[name], trace.a[name], slope, targets.get(name))

    return tuple(numbers(name) for name in trace.a if name in on_a_path)


# ------------------------------------------------------------------------ which weight is meant

OF_A_LAYER = re.compile(r"(\d+)\.([Wb])\[([\d, ]+)\]")


def find_weight(net: Net[Any], graph: Graph, weight: Any) -> Ends:
    """The ends of the edge that is meant, or the unit of the bias.

    Beside ("x1", "h") and "h", the text "x1 -> h" is understood, and "0.W[1, 0]" of an MLP.
    Raises TypeError for what names no weight, ValueError for a weight that is not there.
    """
    key = weight
    if isinstance(weight, str) and weight not in graph.topology.number:
        of_a_layer = OF_A_LAYER.fullmatch(weight.replace(" ", ""))
        if of_a_layer and isinstance(net, MLP):
            return _of_layer(net, graph, weight, of_a_layer)
        spelt = {str(name): name for name in graph.topology.names}
        ends = [spelt.get(end.strip(), end.strip()) for end in weight.split("->")]
        key = tuple(ends) if len(ends) > 1 else ends[0]
    is_edge = isinstance(key, tuple) and len(key) == 2
    if not all(isinstance(end, (str, int, np.integer)) for end in (key if is_edge else [key])):
        raise TypeError(
            f"weight must be an edge (source, target), or a unit for its bias, got {weight!r}"
        )
    try:
        graph.topology.position(key)
    except KeyError as error:
        raise ValueError(error.args[0] + _sources(graph, key)) from None
    return key if is_edge else (None, key)


def _sources(graph: Graph, key: Any) -> str:
    """Where the edges into a unit come from, for an edge that is not there."""
    shape = graph.topology
    if not isinstance(key, tuple) or not all(end in shape.number for end in key):
        return ""
    into = shape.source[shape.target == shape.number[key[1]]]
    if not into.size:
        return f"; {key[1]!r} is an input"
    return f"; to {key[1]!r} lead {listed(shape.named(into))}"


def _of_layer(net: MLP, graph: Graph, weight: str, found: re.Match[str]) -> Ends:
    """The units of "0.W[1, 0]" or "0.b[1]", by the order in which they are declared."""
    l, index = int(found[1]), [int(i) for i in found[3].split(",") if i]
    wanted = {name: x.shape for name, x in net._parameters.named()}
    shape = wanted.get(f"{l}.{found[2]}")
    if shape is None:
        raise ValueError(f"there is no weight {weight!r}; layers have {', '.join(wanted)}")
    if len(index) != len(shape) or any(i >= n for i, n in zip(index, shape)):
        raise ValueError(f"there is no weight {weight!r}: {l}.{found[2]} has shape {shape}")
    names = graph.topology.names
    first = [sum(net.sizes[:i]) for i in (l, l + 1)]
    target: Any = names[first[1] + index[0]]
    source: Any = names[first[0] + index[1]] if len(index) == 2 else None
    return source, target
