"""Graphs of units as ONNX models: part after part, in the order of evaluation."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from onnx import ModelProto

from deltaprop.activations import IDENTITY
from deltaprop.onnx.activations import write_activation
from deltaprop.onnx.export import OUTPUTS, finished, require_room
from deltaprop.onnx.nodes import Nodes
from deltaprop.units import Part, Wiring


def to_onnx(graph: Any, path: str | os.PathLike[str] | None = None) -> ModelProto:
    """The model of a graph, written to `path` too if there is one: see `Graph.to_onnx`."""
    here = graph.to("numpy")
    topology = here.topology
    names = {"inputs": range(topology.inputs), "outputs": topology.outputs}
    metadata = {f"deltaprop.{key}": json.dumps(topology.named(x)) for key, x in names.items()}
    rows = topology.order.row[topology.outputs]
    nodes = _parts(here._finished.wiring, here.parameters, rows)
    return finished(graph, nodes, metadata, path)


def _parts(wiring: Wiring, parameters: np.ndarray, outputs: np.ndarray) -> Nodes:
    """z = Gemm(a of the sources, W, b) and a = g(z), part after part.

    All a so far are columns of one value, in the order of evaluation; `outputs` are columns.
    """
    sources = [np.unique(part.incoming.peer) for part in wiring.parts]
    numbers = sum(len(x) * (p.rows.stop - p.rows.start) for x, p in zip(sources, wiring.parts))
    require_room(numbers * parameters.itemsize)
    nodes, a = Nodes(parameters.dtype), "X"
    for part, columns in zip(wiring.parts, sources):
        taken = nodes.add("Gather", a, nodes.indices(columns), axis=1)
        numbers_of = [_matrix(part, columns, parameters)]
        if part.biases is not None:
            numbers_of.append(parameters[part.biases])
        z = nodes.add("Gemm", taken, *map(nodes.constant, numbers_of), transB=1)
        g = part.activation
        a = nodes.add("Concat", a, write_activation(nodes, z, IDENTITY if g.rowwise else g), axis=1)
    found = nodes.add("Gather", a, nodes.indices(outputs), axis=1)
    last = wiring.parts[-1].activation
    if last.rowwise:
        found = write_activation(nodes, found, last)
    nodes.rename(found, OUTPUTS)
    return nodes


def _matrix(part: Part, sources: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """W (units, sources) of a part, 0 where there is no edge."""
    fan, units = part.incoming, part.rows.stop - part.rows.start
    W = np.zeros((units, len(sources)), parameters.dtype)
    row = np.repeat(np.arange(units), np.diff(fan.start))
    W[row, np.searchsorted(sources, fan.peer)] = parameters[part.weights]
    return W
