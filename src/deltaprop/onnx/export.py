"""Nets as ONNX models."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto, helper

from deltaprop.files import write
from deltaprop.onnx.activations import write_activation
from deltaprop.onnx.nodes import IR_VERSION, OPSET, Nodes
from deltaprop.version import version

ACTIVATIONS_KEY = "deltaprop.activations"
"""The names of all layers' activations, as JSON, in a model's metadata."""
OUTPUTS = "outputs"
LARGEST_FILE = 2**31 - 2**16
"""Bytes of parameters; what remains of protobuf's 2 GiB is for the description."""


def to_onnx(net: Any, path: str | os.PathLike[str] | None = None) -> ModelProto:
    """The model of a layered net, written to `path` too if there is one: see `MLP.to_onnx`."""
    net._require_one("to_onnx")
    require_room(net.parameters.nbytes)
    names = [g.name for g in net.activations]
    return finished(net, _layers(net), {ACTIVATIONS_KEY: json.dumps(names)}, path)


def _layers(net: Any) -> Nodes:
    """z^l = Gemm(a^(l-1), W^l, b^l) and a^l = g^l(z^l), layer by layer."""
    nodes, a, host = Nodes(net.dtype), "X", net.kernels.arrays.to_numpy
    names = {name: nodes.constant(host(x), name) for name, x in net._parameters.named()}
    for l, g in enumerate(net.activations):
        parameters = [names[key] for key in (f"{l}.W", f"{l}.b") if key in names]
        z = nodes.rename(nodes.add("Gemm", a, *parameters, transB=1), f"z{l + 1}")
        a = write_activation(nodes, z, g)
        if a != z:
            a = nodes.rename(a, f"a{l + 1}")
    nodes.rename(a, OUTPUTS)
    return nodes


def require_room(size: int) -> None:
    """Raises ValueError if so many bytes of weights and biases are too many for a model."""
    if size > LARGEST_FILE:
        raise ValueError(f"an ONNX model has up to 2 GiB, got {size} bytes of weights and biases")


def finished(
    net: Any, nodes: Nodes, metadata: Mapping[str, str], path: str | os.PathLike[str] | None
) -> ModelProto:
    """The model that gives the value `OUTPUTS`, written to `path` if there is one."""
    element = helper.np_dtype_to_tensor_dtype(net.dtype)
    graph = helper.make_graph(
        nodes.nodes,
        type(net).__name__,
        [helper.make_tensor_value_info("X", element, ["m", net.inputs])],
        [helper.make_tensor_value_info(OUTPUTS, element, ["m", net.outputs])],
        nodes.constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="deltaprop",
        producer_version=version(),
    )
    helper.set_model_props(model, metadata)
    if path is not None:
        write(Path(path), model.SerializeToString())
    return model
