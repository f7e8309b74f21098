"""Nodes of an ONNX graph, written one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 20, 9
"""The operators and the format of what is written: Gelu is there from opset 20 on."""

Value = str | float | np.generic
"""The name of a value of the graph, or a number."""


class Nodes:
    """Nodes in order, and the constants they take; those that are computed with have one dtype."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, op: str, *inputs: Value, **attributes: Any) -> str:
        """The name of the output of a new node."""
        name = f"{op}_{len(self.nodes)}"
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        self.nodes.append(helper.make_node(op, names, [name], name, **attributes))
        return name

    def constant(self, x: Any, name: str | None = None) -> str:
        """The name of a constant."""
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(x, self.dtype), name))
        return name

    def indices(self, x: np.ndarray) -> str:
        """The name of a constant that numbers columns."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(x.astype(np.int64), name))
        return name

    def rename(self, value: str, name: str) -> str:
        """Another name for what the last node gives, which nothing takes yet."""
        assert self.nodes[-1].output[0] == value
        self.nodes[-1].output[0] = self.nodes[-1].name = name
        return name
