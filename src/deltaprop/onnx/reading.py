"""A layered net from an ONNX model: from node to node, and nothing is executed."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np

from deltaprop.activations import Activation
from deltaprop.ensemble import Ensemble
from deltaprop.onnx.chain import Chain, Expression, Linear
from deltaprop.onnx.export import ACTIVATIONS_KEY
from deltaprop.onnx.forms import Z
from deltaprop.onnx.model import Model, opened


def from_onnx(kind: Any, model: Any, backend: str | None = None) -> Any:
    """The net, of the class `kind`, that a model describes: see `MLP.from_onnx`."""
    if issubclass(kind, Ensemble):
        raise TypeError(
            "an ONNX model is one net: MLP.from_onnx reads it, Ensemble.of([...]) makes an "
            "ensemble of some"
        )
    source = opened(model)
    chain = Chain(source)
    expressions = _expressions(source, chain.outputs)
    layers = [_layer(e) for e in expressions]
    _require_sizes(source, layers, chain.inputs)
    activations = _activations(source, chain, expressions)
    sizes = [layers[0].W.shape[1], *(len(layer.W) for layer in layers)]
    bias = any(layer.b is not None for layer in layers)
    *hidden, output = activations
    net = kind(sizes, hidden, output, bias=bias, dtype=chain.dtype, backend=backend)
    net._place(np.concatenate([x for layer in layers for x in _flat(layer, bias)]), net.kernels)
    return net


def _layer(e: Expression) -> Linear:
    assert e.of is not None
    return e.of


def _flat(layer: Linear, bias: bool) -> list[np.ndarray]:
    """W and b one after the other; where only other layers have a bias, it is 0."""
    if not bias:
        return [layer.W.reshape(-1)]
    return [layer.W.reshape(-1), np.zeros_like(layer.W[:, 0]) if layer.b is None else layer.b]


def _expressions(model: Model, outputs: Expression) -> list[Expression]:
    """a of every layer, the last one being the outputs."""
    found = []
    e = outputs
    while e.of is not None:
        found.append(e)
        e = e.of.a
    if e.node is not None:
        model.refuse_node(e.node, "comes before the first layer")
    if not found:
        model.refuse("has no layer")
    return found[::-1]


def _require_sizes(model: Model, layers: list[Linear], inputs: int | None) -> None:
    """Raises unless each layer takes what the one before it gives."""
    given = [layers[0].W.shape[1] if inputs is None else inputs]
    given += [len(layer.W) for layer in layers]
    for layer, n_in in zip(layers, given):
        if layer.W.shape[1] != n_in:
            model.refuse_node(layer.node, f"takes {layer.W.shape[1]} numbers, but gets {n_in}")


def _activations(model: Model, chain: Chain, expressions: list[Expression]) -> list[Activation]:
    names = _names(model, len(expressions))
    found = [_activation(model, chain, *given) for given in zip(expressions, names)]
    for (e, _), (g, _) in zip(pairwise(expressions), pairwise(found)):
        if g.rowwise:
            model.refuse_node(_last(e), f"is for the outputs: {g.name} of a hidden layer")
    return found


def _names(model: Model, layers: int) -> list[Any]:
    """The names of the activations that the model itself tells, None where it does not."""
    told = {x.key: x.value for x in model.proto.metadata_props}.get(ACTIVATIONS_KEY, "null")
    try:
        names = json.loads(told)
    except (ValueError, RecursionError):
        model.refuse(f"metadata {ACTIVATIONS_KEY!r} is no JSON: {told[:80]!r}")
    return names if isinstance(names, list) and len(names) == layers else [None] * layers


def _activation(model: Model, chain: Chain, e: Expression, name: Any) -> Activation:
    g = chain.forms.activation(e.form, name)
    if g is None:
        hint = ""
        if name is not None:
            hint = (
                f". The model calls it {name!r}: define it with deltaprop.activation first, "
                "as it was when exported"
            )
        model.refuse_node(_last(e), f"ends no activation known here: {e.text()}{hint}")
    return g


def _last(e: Expression) -> Any:
    """The node that gives an expression."""
    return e.node if e.form != Z else _layer(e).node
