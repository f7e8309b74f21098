"""A layered net as an ONNX model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from onnx import ModelProto, helper

from deltaprop.files import write
from deltaprop.onnx.activations import write_activation
from deltaprop.onnx.nodes import IR_VERSION, OPSET, Nodes
from deltaprop.version import version

ACTIVATIONS_KEY = "deltaprop.activations"
"""The names of all layers' activations, as JSON, in a model's metadata."""
LARGEST_FILE = 2**31 - 2**16
"""Bytes of parameters; what remains of protobuf's 2 GiB is for the description."""


def to_onnx(net: Any, path: str | os.PathLike[str] | None = None) -> ModelProto:
    """The model of a net, written to `path` too if there is one: see `MLP.to_onnx`."""
    net._require_one("to_onnx")
    if net.parameters.nbytes > LARGEST_FILE:
        raise ValueError(
            f"an ONNX model has up to 2 GiB, got {net.parameters.nbytes} bytes of parameters"
        )
    model = _model(net)
    if path is not None:
        write(Path(path), model.SerializeToString(deterministic=True))
    return model


def _model(net: Any) -> ModelProto:
    element = helper.np_dtype_to_tensor_dtype(net.dtype)
    nodes = _layers(net)
    graph = helper.make_graph(
        nodes.nodes,
        "MLP",
        [helper.make_tensor_value_info("X", element, ["m", net.inputs])],
        [helper.make_tensor_value_info("outputs", element, ["m", net.outputs])],
        nodes.constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="deltaprop",
        producer_version=version(),
    )
    names = [g.name for g in net.activations]
    helper.set_model_props(model, {ACTIVATIONS_KEY: json.dumps(names)})
    return model


def _layers(net: Any) -> Nodes:
    """z^l = Gemm(a^(l-1), W^l, b^l) and a^l = g^l(z^l), layer by layer."""
    nodes, a = Nodes(net.dtype), "X"
    names = {name: nodes.constant(_host(net, x), name) for name, x in net._parameters.named()}
    for l, g in enumerate(net.activations):
        parameters = [names[key] for key in (f"{l}.W", f"{l}.b") if key in names]
        z = nodes.add("Gemm", a, *parameters, transB=1)
        z = nodes.rename_last(f"z{l + 1}")
        a = write_activation(nodes, z, g)
        if a != z:
            a = nodes.rename_last(f"a{l + 1}")
    nodes.rename_last("outputs")
    return nodes


def _host(net: Any, x: Any) -> Any:
    return net.kernels.arrays.to_numpy(x)
