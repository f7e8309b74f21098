"""An ONNX model from a file or a caller, checked as far as onnx checks it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto, checker, defs, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from deltaprop.errors import ModelFileError
from deltaprop.scalar import DTYPES

OLDEST = 7
"""The first opset whose Gemm and Add broadcast as today."""


@dataclass(frozen=True)
class Model:
    """A model, and the name it has in errors."""

    proto: ModelProto
    name: str
    opset: int

    def refuse(self, what: str) -> NoReturn:
        raise ModelFileError(f"{self.name}: {what}")

    def refuse_node(self, node: NodeProto, what: str) -> NoReturn:
        self.refuse(f"{title(node)} {what}")

    def array(self, tensor: TensorProto, name: str) -> np.ndarray:
        """A constant's numbers; onnx would look for external ones in the current folder."""
        if uses_external_data(tensor):
            self.refuse(f"constant {name!r} lies in another file, which is not loaded")
        try:
            x: np.ndarray = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            self.refuse(f"constant {name!r} cannot be read: {error}")
        return x

    def interface(self) -> tuple[str, str, int | None, np.dtype[Any]]:
        """The names of the input and of the output, the number of inputs, and the dtype.

        The number is None where the model leaves it open.
        """
        graph = self.proto.graph
        constants = {tensor.name for tensor in graph.initializer}
        inputs = [x for x in graph.input if x.name not in constants]
        for kind, values in (("input", inputs), ("output", graph.output)):
            if len(values) != 1:
                names = ", ".join(repr(x.name) for x in values) or "none"
                self.refuse(f"wanted one {kind}, got {names}")
        (X,), (outputs,) = inputs, graph.output
        tensor = X.type.tensor_type
        dtype = _dtype(tensor.elem_type)
        if dtype is None:
            kind = element_name(tensor.elem_type)
            self.refuse(f"input {X.name!r} is {kind}, wanted FLOAT or DOUBLE")
        shape = [x.dim_value or x.dim_param or "?" for x in tensor.shape.dim]
        if not tensor.HasField("shape") or len(shape) != 2:
            self.refuse(f"input {X.name!r} has shape {shape}, wanted (m, n_in)")
        return X.name, outputs.name, shape[1] if isinstance(shape[1], int) else None, dtype


def _dtype(element: int) -> np.dtype[Any] | None:
    if element not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        return None
    return DTYPES[helper.tensor_dtype_to_np_dtype(element).name]


def element_name(element: int) -> str:
    """ONNX's name of a type of numbers, or its number if it has none."""
    names: dict[int, str] = {number: name for name, number in TensorProto.DataType.items()}
    return names.get(element, str(element))


def title(node: NodeProto) -> str:
    """How a node is named in errors."""
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    return f"node {node.name or node.output[0]!r} ({domain}{node.op_type})"


def opened(model: Any) -> Model:
    """The model that is given, or that the file at a path holds.

    Raises `ModelFileError` for one that is damaged, FileNotFoundError where there is no file,
    TypeError for what is neither.
    """
    if isinstance(model, ModelProto):
        name, proto = "the model", model
    elif isinstance(model, (str, os.PathLike)):
        path = Path(model)
        if not path.is_file():
            raise FileNotFoundError(f"no model file {str(path)!r}")
        name, proto = str(path), _parsed(path)
    else:
        raise TypeError(f"model must be an onnx.ModelProto or a path, got {type(model).__name__}")
    try:
        checker.check_model(proto)
    except (checker.ValidationError, ValueError, TypeError) as error:
        raise ModelFileError(f"{name}: not a valid ONNX model: {error}") from error
    opset = next(x.version for x in proto.opset_import if x.domain in ("", "ai.onnx"))
    newest = defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ModelFileError(f"{name}: uses opset {opset}, wanted {OLDEST} to {newest}")
    return Model(proto, name, opset)


def _parsed(path: Path) -> ModelProto:
    """The model in a file, with what it keeps in files beside it."""
    proto = ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelFileError(f"{path}: not a whole ONNX file: {error}") from error
    try:
        load_external_data_for_model(proto, str(path.parent))
    except Exception as error:  # onnx's C++ raises RuntimeError's relatives, Python's part OSError
        raise ModelFileError(f"{path}: its external data cannot be read: {error}") from error
    return proto
