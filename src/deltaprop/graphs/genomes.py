"""Genomes of neat-python: as graphs of units, and back after training.

A node of a genome computes g(bias + response * sum_i w_i a_i), and some of neat's g scale what
they are given: its sigmoid is logistic(5 z), its tanh is tanh(2.5 z). With s for that scale a
unit's weights are s * response * w_i, and its bias is s * bias. A node that no input reaches is
a constant c: it is no unit, its targets have s * response * w * c in their biases instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltaprop.activations import Activation, activation_named
from deltaprop.errors import GraphError
from deltaprop.graph import Graph
from deltaprop.graphs.blueprint import Blueprint, as_number
from deltaprop.graphs.topology import Topology
from deltaprop.names import listed

Activations = Mapping[str, str | Activation] | None


def _neat() -> Any:
    try:
        import neat.activations
        import neat.aggregations
    except ImportError as error:
        raise ImportError("neat-python is missing: pip install neat-python") from error
    return neat


def _scaled_activations(neat: Any) -> dict[Any, tuple[str, float]]:
    """Neat's functions that are one of ours at s z, as (name, s).

    Their clamps, |s z| <= 60, change nothing: there both are 0 or 1 within 1e-26.
    """
    own = neat.activations
    return {
        own.identity_activation: ("identity", 1.0),
        own.relu_activation: ("relu", 1.0),
        own.elu_activation: ("elu", 1.0),
        own.sigmoid_activation: ("logistic", 5.0),
        own.tanh_activation: ("tanh", 2.5),
    }


def from_neat(
    genome: Any,
    config: Any,
    *,
    activations: Activations = None,
    dtype: Any = "float64",
    backend: str | None = None,
) -> Graph:
    """What neat.nn.FeedForwardNetwork.create(genome, config) computes, as a graph.

    Only enabled connections count, and only nodes that lead to an output. Units are named by
    the genome's keys: inputs -1, -2, ..., outputs 0, 1, ....

    Parameters
    ----------
    config
        A neat.Config.
    activations
        Activations for names of neat's that are none of ours: {"gauss": my_gauss}, a name or an
        `Activation` that is applied to neat's z as it is.

    Raises
    ------
    GraphError
        Names the nodes of a cycle, outputs that no input leads to, a node whose activation is
        none of ours, or whose aggregation of several inputs is not their sum.
    ImportError
        Without neat-python.
    """
    found = _express(genome, config, activations)
    units = list(found.into)
    blueprint = Blueprint(len(found.inputs), [*found.outputs], [*found.inputs, *units])
    blueprint.activations = [found.activation[key] for key in units]
    blueprint.biases = [found.bias(genome, key) for key in units]
    edges = found.edges
    number = blueprint.number
    blueprint.connect(
        np.array([number[i] for i, _ in edges], np.int64),
        np.array([number[j] for _, j in edges], np.int64),
        [found.weight(genome, *edge) for edge in edges],
    )
    return Graph.from_blueprint(blueprint, dtype=dtype, backend=backend)


def to_neat(graph: Any, genome: Any, config: Any, *, activations: Activations = None) -> None:
    """Writes the graph's weights and biases into the genome that it was made from.

    The genome's network then computes what the graph does, to rounding; what is as `from_neat`
    made it keeps its bits. A response of 0 becomes 1 where weights have come to count. Bounds
    in the config, such as weight_max_value, are not looked at: neat applies them when it
    mutates. Raises `GraphError`, and changes nothing, if the graph has other units or edges.
    """
    found = _express(genome, config, activations)
    b = graph.blueprint()
    ends = zip(b.source.tolist(), b.target.tolist())
    weights = {(b.names[i], b.names[j]): w for (i, j), w in zip(ends, b.weight.tolist())}
    units = b.names[b.inputs :]
    biases = dict(zip(units, b.biases))
    _check_same("units", found.into, units)
    _check_same("edges", found.edges, weights)
    for key, g in zip(units, b.activations):
        if g != found.activation[key] or biases[key] is None:
            raise GraphError(f"unit {key!r} has another activation than its node, or no bias")
    for key in units:
        own = {i: weights[i, key] for i in found.into[key]}
        _write_node(found, genome, key, own, biases[key], graph.dtype.type)


def _check_same(what: str, wanted: Any, got: Any) -> None:
    different = set(wanted).symmetric_difference(got)
    if different:
        raise GraphError(f"the genome and the graph differ in {what} {listed(list(different))}")


def _write_node(
    found: _Expressed, genome: Any, key: int, weights: dict[int, float], bias: Any, dtype: Any
) -> None:
    """The weights into a node and its bias, where they are not what they were."""
    node, scale = genome.nodes[key], found.scale[key]
    old = {i: float(dtype(found.weight(genome, i, key))) for i in weights}
    bias_is_old = bias == float(dtype(found.bias(genome, key)))
    if node.response == 0 and any(weights.values()):
        node.response, old, bias_is_old = 1.0, {}, False
    for i, w in weights.items():
        if w != old.get(i):
            genome.connections[i, key].weight = w / (scale * node.response)
    if not bias_is_old:
        node.bias = bias / scale - node.response * found.constant(genome, key)


# ------------------------------------------------------------------------- what a genome computes


@dataclass(frozen=True)
class _Expressed:
    """The units of a genome: `into` has their sources, `constants` the nodes that are none."""

    inputs: list[int]
    outputs: list[int]
    into: dict[int, list[int]]
    fixed: dict[int, list[int]]
    constants: dict[int, float]
    activation: dict[int, Activation]
    scale: dict[int, float]

    @property
    def edges(self) -> list[tuple[int, int]]:
        return [(i, j) for j, sources in self.into.items() for i in sources]

    def weight(self, genome: Any, source: int, target: int) -> float:
        """s * response * w."""
        response, w = genome.nodes[target].response, genome.connections[source, target].weight
        return as_number(f"weight {source} -> {target}", self.scale[target] * response * w)

    def constant(self, genome: Any, key: int) -> float:
        """The sum of w * c over the constants that lead to a node."""
        weights = {i: genome.connections[i, key].weight for i in self.fixed[key]}
        return float(sum(w * self.constants[i] for i, w in weights.items()))

    def bias(self, genome: Any, key: int) -> float:
        """s * (bias + response * sum w c)."""
        node = genome.nodes[key]
        inner = node.bias + node.response * self.constant(genome, key)
        return as_number(f"bias of {key}", self.scale[key] * inner)


def _express(genome: Any, config: Any, activations: Activations) -> _Expressed:
    neat, own = _neat(), config.genome_config
    inputs, outputs = list(own.input_keys), list(own.output_keys)
    into = _needed(genome, inputs, outputs)
    constants = _constants(genome, own, _in_order(inputs, into), into)
    lost = [key for key in outputs if key in constants]
    if lost:
        raise GraphError(f"no path leads from an input to output {listed(lost)}")
    units = [key for key in into if key not in constants]
    scaled = {key: _activation(neat, own, genome.nodes[key], activations) for key in units}
    for key in units:
        _check_aggregation(neat, own, genome.nodes[key], len(into[key]))
    return _Expressed(
        inputs,
        outputs,
        {key: [i for i in into[key] if i not in constants] for key in units},
        {key: [i for i in into[key] if i in constants] for key in units},
        constants,
        {key: g for key, (g, _) in scaled.items()},
        {key: s for key, (_, s) in scaled.items()},
    )


def _needed(genome: Any, inputs: list[int], outputs: list[int]) -> dict[int, list[int]]:
    """The nodes that lead to an output, and for each the sources of its enabled connections."""
    into: dict[int, list[int]] = {}
    for connection in genome.connections.values():
        if connection.enabled:
            source, target = connection.key
            into.setdefault(target, []).append(source)
    needed, waiting = set(inputs), list(outputs)
    while waiting:
        key = waiting.pop()
        if key not in needed:
            needed.add(key)
            waiting += into.get(key, [])
    missing = needed.difference(inputs, genome.nodes)
    if missing:
        raise GraphError(f"the genome has connections to nodes it lacks: {listed(list(missing))}")
    return {key: into.get(key, []) for key in genome.nodes if key in needed}


def _in_order(inputs: Sequence[int], into: dict[int, list[int]]) -> list[int]:
    """Every node after those that lead to it. Raises `GraphError` where there is a cycle."""
    names = [*inputs, *into]
    number = {key: i for i, key in enumerate(names)}
    ends = [(number[i], number[j]) for j, sources in into.items() for i in sources]
    source, target = np.array(ends, np.int64).reshape(-1, 2).T
    none = np.empty(0, np.int64)
    levels = Topology(names, len(inputs), none, (), none, source, target).levels
    return [names[i] for i in np.argsort(levels, kind="stable") if i >= len(inputs)]


def _constants(
    genome: Any, own: Any, order: list[int], into: dict[int, list[int]]
) -> dict[int, float]:
    """The values of the nodes that no input leads to, by neat's own functions."""
    values: dict[int, float] = {}
    for key in order:
        if all(i in values for i in into[key]):
            node = genome.nodes[key]
            weighted = [values[i] * genome.connections[i, key].weight for i in into[key]]
            combined = own.aggregation_function_defs.get(node.aggregation)(weighted)
            g = own.activation_defs.get(node.activation)
            values[key] = g(node.bias + node.response * combined)
    return values


def _activation(
    neat: Any, own: Any, node: Any, activations: Activations
) -> tuple[Activation, float]:
    """The activation of a node and the scale of its argument."""
    name = node.activation
    if activations is not None and name in activations:
        return activation_named(activations[name]), 1.0
    known = _scaled_activations(neat)
    g = own.activation_defs.get(name)
    if g not in known:
        raise GraphError(
            f"node {node.key} has activation {name!r}, which deltaprop does not have: pass "
            f"activations={{{name!r}: ...}}, the name of one or an Activation of your own"
        )
    ours, scale = known[g]
    return activation_named(ours), scale


def _check_aggregation(neat: Any, own: Any, node: Any, sources: int) -> None:
    """A sum, or neat's aggregation of one number, which is that number."""
    function = own.aggregation_function_defs.get(node.aggregation)
    built_in = neat.aggregations
    alone = [
        getattr(built_in, f"{name}_aggregation")
        for name in ("product", "max", "min", "maxabs", "median", "mean")
    ]
    if function is built_in.sum_aggregation or (sources == 1 and function in alone):
        return
    raise GraphError(
        f"node {node.key} has aggregation {node.aggregation!r} of {sources} inputs; a unit adds "
        "them: only 'sum' is the same"
    )
