"""Graphs from what others have: arrays of edges, networkx, layered nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deltaprop.activations import ACTIVATIONS, Activation, activation_named
from deltaprop.arrays import check_count
from deltaprop.errors import GraphError, nearest
from deltaprop.foreign import to_numpy
from deltaprop.graph import Graph
from deltaprop.graphs.blueprint import Blueprint, as_number
from deltaprop.mlp import MLP
from deltaprop.names import Name, as_name, as_names, listed
from deltaprop.scalar import DTYPES

LARGEST = np.iinfo(np.int64).max
"""The largest number that names a unit in an array of edges."""


def from_arrays(
    source: Any,
    target: Any,
    weight: Any = None,
    *,
    inputs: Sequence[int] | int,
    outputs: Sequence[int],
    activation: str | Activation | Mapping[int, str | Activation] = "logistic",
    output: str | Activation = "identity",
    bias: Any = 0.0,
    seed: int = 0,
    dtype: Any = None,
    backend: str | None = None,
) -> Graph:
    """A graph from edges: edge e leads from unit source[e] to unit target[e].

    Parameters
    ----------
    source, target
        (edges,) integers from 0: units are named by numbers.
    weight
        (edges,) numbers; without them they are drawn (Glorot uniform, PCG64(seed)).
    inputs
        The units that are inputs, the columns of X; a number n stands for 0, ..., n - 1.
    outputs
        The units that are outputs, the columns of Y.
    activation
        Of the units that are no outputs; one, or {unit: activation} for those that have another
        than "logistic".
    output
        Activation of the outputs, unless `activation` names theirs.
    bias
        One for all units, None for none, or an array (units,) by number; those of inputs
        are not looked at.
    dtype
        Without one, that of `weight` if it is float32 or float64, else float32.
    """
    ends = [_integers(name, x) for name, x in (("source", source), ("target", target))]
    if ends[0].shape != ends[1].shape:
        raise ValueError(
            f"source and target must be of one length, got {len(ends[0])} and {len(ends[1])}"
        )
    weights = _weights(weight, len(ends[0]))
    if isinstance(inputs, (int, np.integer)):
        inputs = range(check_count("inputs", inputs))
    first, last = _numbers("inputs", inputs), _numbers("outputs", outputs)
    known = np.unique(np.concatenate([*ends, np.array(last)]))
    others = np.setdiff1d(known, np.array(first))
    names: list[Name] = [*first, *others.tolist()]
    by_id = np.argsort(np.array(names, np.int64))
    source, target = [by_id[np.searchsorted(names, x, sorter=by_id)] for x in ends]
    blueprint = Blueprint(
        len(first),
        last,
        names,
        _activations(others.tolist(), set(last), activation, output),
        _biases(others, bias),
    )
    blueprint.connect(source, target, weights)
    if dtype is None:
        dtype = "float32" if weights is None or weights.dtype.name not in DTYPES else weights.dtype
    return Graph.from_blueprint(blueprint, seed=seed, dtype=dtype, backend=backend)


def _integers(name: str, x: Any) -> np.ndarray:
    """(edges,) whole numbers from 0."""
    x = np.asarray(to_numpy(x, name))
    if x.ndim != 1 or x.dtype.kind not in "iu" or not x.size:
        raise TypeError(
            f"{name} must be a list of integers, one for each edge, got {x.dtype} {x.shape}"
        )
    if x.min() < 0 or x.max() > LARGEST:
        raise ValueError(f"{name} must be from 0 to 2^63 - 1, got {x.min()} to {x.max()}")
    numbers: np.ndarray = x.astype(np.int64)
    return numbers


def _numbers(what: str, units: Any) -> list[Name]:
    """Units that are numbers from 0."""
    names = as_names(what, units)
    wrong = [name for name in names if isinstance(name, str) or not 0 <= name <= LARGEST]
    if wrong:
        raise ValueError(f"{what} must be integers from 0 to 2^63 - 1, got {listed(wrong)}")
    return names


def _weights(weight: Any, edges: int) -> np.ndarray | None:
    """(edges,) numbers, or None if they are to be drawn."""
    if weight is None:
        return None
    weights: np.ndarray = np.asarray(to_numpy(weight, "weight"))
    if weights.dtype.kind not in "biuf":
        raise TypeError(f"weight must be numbers, got {weights.dtype}")
    if weights.shape != (edges,):
        raise ValueError(f"weight must have shape ({edges},), one an edge, got {weights.shape}")
    if not np.isfinite(weights).all():
        raise ValueError("weight must be finite")
    return weights


def _activations(
    units: list[int],
    outputs: set[Any],
    activation: str | Activation | Mapping[int, str | Activation],
    output: str | Activation,
) -> list[Activation]:
    given = activation if isinstance(activation, Mapping) else {}
    hidden = activation_named("logistic" if isinstance(activation, Mapping) else activation)
    last = activation_named(output)
    unknown = given.keys() - set(units)
    if unknown:
        raise ValueError(f"activation names units that are not there: {sorted(unknown)[:6]}")
    own = {unit: activation_named(g) for unit, g in given.items()}
    return [own.get(unit, last if unit in outputs else hidden) for unit in units]


def _biases(units: np.ndarray, bias: Any) -> list[float | None]:
    if bias is None:
        return [None] * len(units)
    values = np.asarray(to_numpy(bias, "bias"))
    if values.ndim == 0:
        return [as_number("bias", values.item())] * len(units)
    if values.ndim != 1 or values.dtype.kind not in "biuf" or len(values) <= units.max():
        raise ValueError(
            f"bias must be one number, or one for each unit 0 to {units.max()}, "
            f"got {values.dtype} {values.shape}"
        )
    return [as_number("bias", x) for x in values[units].tolist()]


# --------------------------------------------------------------------------------- networkx

ROLES = ("input", "output", "hidden")


def from_networkx(
    G: Any,
    *,
    inputs: Sequence[Name] | None = None,
    outputs: Sequence[Name] | None = None,
    seed: int = 0,
    dtype: Any = None,
    backend: str | None = None,
) -> Graph:
    """A graph from a networkx.DiGraph; its nodes are the units, in their order.

    An edge attribute "weight" is the edge's; without one it is drawn (Glorot uniform,
    PCG64(seed)). A node may have the attributes "activation" (without one: "identity" for
    outputs, else "logistic") and "bias" (without one 0.0; None for a unit that has none); those
    of inputs are not looked at.

    Parameters
    ----------
    inputs, outputs
        The nodes that are the columns of X and of Y. Without them: those whose attribute
        "role" is "input" or "output", in the order of the attribute "column" if they have it,
        else of the nodes. Where no node has that role either: the nodes that no edge leads
        into are the inputs, those that none leads out of the outputs.
    dtype
        Without one, that of a graph made by `to_networkx`, else float32.

    Raises
    ------
    TypeError
        For anything but a networkx.DiGraph, and for nodes that are no str or int.
    GraphError
        Names what keeps the graph from having a forward sweep.
    """
    _check_digraph(G)
    first = _with_role(G, "input", inputs, G.in_degree)
    last = _with_role(G, "output", outputs, G.out_degree)
    blueprint, is_output = Blueprint(len(first), last, list(first)), set(last)
    for name, attributes in G.nodes.items():
        if name not in blueprint.number:
            default = "identity" if name in is_output else "logistic"
            g = _activation_of(name, attributes.get("activation", default))
            blueprint.unit(name, g, attributes.get("bias", 0.0))
    edges = list(G.edges(data="weight"))
    blueprint.connect(
        np.array([blueprint.number[i] for i, _, _ in edges], np.int64),
        np.array([blueprint.number[j] for _, j, _ in edges], np.int64),
        [_weight_of(*edge) for edge in edges],
    )
    if dtype is None:
        dtype = G.graph.get("dtype", "float32")
    return Graph.from_blueprint(blueprint, seed=seed, dtype=dtype, backend=backend)


def _check_digraph(G: Any) -> None:
    if not all(hasattr(G, name) for name in ("is_directed", "is_multigraph", "nodes", "edges")):
        raise TypeError(f"wanted a networkx.DiGraph, got {type(G).__name__}")
    if not G.is_directed():
        raise TypeError(
            "the edges of an undirected graph do not say which way they lead; make a "
            "networkx.DiGraph of edges (source, target)"
        )
    if G.is_multigraph():
        raise TypeError(
            "a multigraph may have several edges from one unit to another; networkx.DiGraph(G) "
            "keeps one of each"
        )
    for name in G.nodes:
        try:
            as_name(name)
        except TypeError as error:
            raise TypeError(
                f"{error}; networkx.relabel_nodes(G, str) or "
                "networkx.convert_node_labels_to_integers(G) names them so"
            ) from error
        role = G.nodes[name].get("role", "hidden")
        if role not in ROLES:
            raise ValueError(f"role of node {name!r} must be one of {ROLES}, got {role!r}")


def _with_role(G: Any, role: str, given: Sequence[Name] | None, degree: Any) -> list[Name]:
    """The inputs or the outputs: as given, by their role, or by their edges."""
    if given is not None:
        names = as_names(f"{role}s", given)
        unknown = [name for name in names if name not in G]
        if unknown:
            hint = nearest(unknown[0], map(str, G))
            raise GraphError(f"there is no node for {role} {listed(unknown)}{hint}")
        return names
    columns = {
        as_name(name): attributes.get("column")
        for name, attributes in G.nodes.items()
        if attributes.get("role") == role
    }
    if columns:
        return _by_column(columns)
    alone = [name for name, edges in G.degree if not edges]
    if alone:
        raise GraphError(
            f"no edge leads to or from {listed(alone)}: say what it is by inputs= and outputs=, "
            'or by a node attribute "role"'
        )
    names = [as_name(name) for name, edges in degree if not edges]
    if not names:
        raise GraphError(f"no node is an {role}: name them by {role}s=")
    return names


def _by_column(columns: dict[Name, Any]) -> list[Name]:
    """The names in the order of their columns, or as they stand where none has one."""
    numbers = list(columns.values())
    if all(number is None for number in numbers):
        return list(columns)
    if not all(isinstance(number, (int, np.integer)) for number in numbers):
        raise ValueError(f'"column" must be a number at all of {listed(list(columns))} or at none')
    if len(set(numbers)) < len(numbers):
        raise ValueError(f'"column" is the same number at some of {listed(list(columns))}')
    return sorted(columns, key=columns.__getitem__)


def _activation_of(name: Name, activation: Any) -> Activation:
    try:
        return activation_named(activation)
    except ValueError as error:
        raise ValueError(f"node {name!r}: {error}") from error


def _weight_of(source: Any, target: Any, weight: Any) -> float | None:
    """None for one that is to be drawn."""
    if weight is None:
        return None
    return as_number(f"the weight of edge {source!r} -> {target!r}", weight)


def to_networkx(graph: Any) -> Any:
    """The graph as a networkx.DiGraph with the attributes that `from_networkx` reads.

    An activation that is not in deltaprop's table is its own attribute, others are names.
    """
    try:
        import networkx
    except ImportError as error:
        raise ImportError("networkx is missing: pip install 'deltaprop[graph]'") from error
    b = graph.blueprint()
    G = networkx.DiGraph(dtype=graph.dtype.name)
    for i, name in enumerate(b.names[: b.inputs]):
        G.add_node(name, role="input", column=i)
    for name, g, bias in zip(b.names[b.inputs :], b.activations, b.biases):
        known = ACTIVATIONS.get(g.name) is g
        G.add_node(name, role="hidden", activation=g.name if known else g, bias=bias)
    for i, name in enumerate(b.outputs):
        G.add_node(name, role="output", column=i)
    for source, target, weight in zip(b.source, b.target, b.weight.tolist()):
        G.add_edge(b.names[source], b.names[target], weight=weight)
    return G


# -------------------------------------------------------------------------------- layered nets


def from_layers(net: MLP) -> Graph:
    """The same net as a graph, whose results have the same bits.

    Inputs are x1, x2, ...; unit i of hidden layer l is "h<l>.<i>", outputs are y1, y2, ...;
    all count from 1. The weights come in the order of `net.parameters`, biases after all weights.
    """
    last = len(net.sizes) - 1

    def names(l: int) -> list[Name]:
        letter = {0: "x", last: "y"}.get(l, f"h{l}.")
        return [f"{letter}{i + 1}" for i in range(net.sizes[l])]

    to_numpy = net.kernels.arrays.to_numpy
    layers = [(to_numpy(W), None if b is None else to_numpy(b), g) for W, b, g in net.layers]
    first = np.cumsum([0, *net.sizes])
    source, target = [], []
    for l, (W, _, _) in enumerate(layers):
        j, i = np.indices(W.shape).reshape(2, -1)
        source.append(first[l] + i)
        target.append(first[l + 1] + j)
    blueprint = Blueprint(
        net.sizes[0],
        names(last),
        [name for l in range(last + 1) for name in names(l)],
        [g for W, _, g in layers for _ in W],
        [None if b is None else float(b[j]) for W, b, _ in layers for j in range(len(W))],
    )
    weights = np.concatenate([W.reshape(-1) for W, _, _ in layers])
    blueprint.connect(np.concatenate(source), np.concatenate(target), weights)
    return Graph.from_blueprint(blueprint, dtype=net.dtype, backend=net.backend)
