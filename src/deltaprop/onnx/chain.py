"""The values of an ONNX graph, read from node to node as those of a chain of layers.

A value is a constant or an expression: what operators make of z, the output of a layer, or of the
graph's input. A layer takes an expression of the layer before, so the outputs lead back through
all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from deltaprop.onnx.forms import Z, attributes_of, form_of, form_of_number, known_forms
from deltaprop.onnx.model import Model, element_name


@dataclass(frozen=True, eq=False)
class Linear:
    """z = a W^T + b: W (n, n_in), b (n,)."""

    node: NodeProto
    a: Expression
    W: np.ndarray
    b: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Expression:
    """What `node` makes of `inputs`; without one, z of a layer, or the graph's input."""

    of: Linear | None
    form: str = Z
    node: NodeProto | None = None
    inputs: tuple[Expression, ...] = ()

    def text(self) -> str:
        """Its operators, with the attributes that the model gives."""
        found: dict[int, str] = {}
        pending = [self]
        while pending:
            e = pending.pop()
            if e.node is not None and id(e) not in found:
                given = (f"{a.name}={helper.get_attribute_value(a)!r}" for a in e.node.attribute)
                found[id(e)] = f"{e.node.op_type}({', '.join(given)})"
                pending += e.inputs
        return " of ".join(found.values())


Value = np.ndarray | Expression


class Chain:
    """All values of a model's graph; `outputs` is the one that it gives."""

    def __init__(self, model: Model) -> None:
        self._model = model
        graph = model.proto.graph
        X, outputs, self.inputs, self.dtype = model.interface()
        self.forms = known_forms(self.dtype)
        self._values: dict[str, Value] = {X: Expression(None)}
        for tensor in graph.initializer:
            self._values[tensor.name] = model.array(tensor, tensor.name)
        for node in graph.node:
            self._values[node.output[0]] = self._read(node)
        last = self._value(outputs)
        if not isinstance(last, Expression):
            model.refuse(f"output {outputs!r} does not depend on the input")
        self.outputs = last

    def _value(self, name: str) -> Value:
        if name not in self._values:
            self._model.refuse(f"{name!r} is no value that a chain of layers has")
        return self._values[name]

    def _read(self, node: NodeProto) -> Value:
        """What a node gives."""
        if node.domain not in ("", "ai.onnx"):
            self._model.refuse_node(node, "is none of ONNX's own operators")
        given = [self._value(name) for name in node.input if name]
        if node.op_type in READERS:
            return READERS[node.op_type](self, node, *given)
        return self._part(node, *given)

    def _attributes(self, node: NodeProto) -> dict[str, Any]:
        return attributes_of(node, self._model.opset)

    # ------------------------------------------------------------------------------ layers

    def _gemm(self, node: NodeProto, A: Value, B: Value, C: Value | None = None) -> Value:
        """alpha A B + beta C, B transposed or not."""
        attributes = self._attributes(node)
        if attributes["transA"]:
            self._model.refuse_node(node, "has transA=1: samples have to be rows")
        z = self._linear(node, A, B, attributes["transB"], attributes["alpha"])
        return z if C is None else self._plus(node, z, C, attributes["beta"])

    def _matmul(self, node: NodeProto, A: Value, B: Value) -> Value:
        return self._linear(node, A, B, False, 1)

    def _linear(
        self, node: NodeProto, A: Value, B: Value, transposed: bool, alpha: float
    ) -> Expression:
        if not isinstance(A, Expression) or isinstance(B, Expression):
            self._model.refuse_node(node, "is no layer: wanted inputs times constant weights")
        W = B if transposed else B.T
        if W.ndim != 2 or not W.size:
            self._model.refuse_node(node, f"has weights of shape {B.shape}, wanted a matrix")
        return Expression(Linear(node, A, self._scaled(node, W, alpha), None))

    def _plus(self, node: NodeProto, z: Expression, C: Value, beta: float = 1) -> Expression:
        """z with a bias."""
        assert z.of is not None
        if isinstance(C, Expression):
            self._model.refuse_node(node, "is no layer: wanted a constant bias")
        n = len(z.of.W)
        fits = C.ndim <= 2 and C.shape[-1:] in ((), (1,), (n,)) and C.shape[:-1] in ((), (1,))
        if not fits:
            self._model.refuse_node(node, f"has a bias of shape {C.shape}, wanted ({n},)")
        b = np.broadcast_to(self._scaled(node, C.reshape(-1), beta), (n,))
        return Expression(replace(z.of, b=b))

    def _scaled(self, node: NodeProto, x: np.ndarray, factor: float) -> np.ndarray:
        if x.dtype != self.dtype:
            self._model.refuse_node(node, f"takes {x.dtype}, but the model's input is {self.dtype}")
        with np.errstate(all="ignore"):
            return x if factor == 1 else x * self.dtype.type(factor)

    def _add(self, node: NodeProto, x: Value, y: Value) -> Value:
        """The bias of a layer that has none yet, or a part of an activation."""
        for z, b in ((x, y), (y, x)):
            if isinstance(z, Expression) and isinstance(b, np.ndarray) and b.ndim and _is_bare(z):
                return self._plus(node, z, b)
        return self._part(node, x, y)

    # ------------------------------------------------------------------ constants and no-ops

    def _constant(self, node: NodeProto) -> Value:
        (attribute,) = node.attribute
        x = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            return self._model.array(x, node.output[0])
        if attribute.name in ("value_float", "value_floats"):
            return np.array(x, np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.array(x, np.int64)
        self._model.refuse_node(node, f"has a {attribute.name}, wanted numbers")

    def _identity(self, node: NodeProto, x: Value) -> Value:
        return x

    def _transpose(self, node: NodeProto, x: Value) -> Value:
        if isinstance(x, Expression):
            self._model.refuse_node(node, "transposes what is no constant")
        axes = self._attributes(node).get("perm", range(x.ndim)[::-1])
        if sorted(axes) != list(range(x.ndim)):
            self._model.refuse_node(
                node, f"has perm={list(axes)} for a constant of shape {x.shape}"
            )
        return np.transpose(x, axes)

    def _dropout(self, node: NodeProto, x: Value, *others: Value) -> Value:
        """Nothing, in inference."""
        training = self._value(node.input[2]) if any(node.input[2:]) else np.array(False)
        if isinstance(training, Expression) or training.any():
            self._model.refuse_node(node, "is in training mode")
        return x

    def _flatten(self, node: NodeProto, x: Value) -> Value:
        """Nothing, where samples are rows."""
        if self._attributes(node)["axis"] not in (1, -1):
            self._model.refuse_node(node, "flattens samples too: wanted axis=1")
        return x

    def _cast(self, node: NodeProto, x: Value) -> Value:
        """Nothing, to the dtype that there is."""
        to, here = self._attributes(node)["to"], helper.np_dtype_to_tensor_dtype(self.dtype)
        if isinstance(x, np.ndarray) or to != here:
            names = element_name(to), element_name(here)
            self._model.refuse_node(node, "casts to {}: wanted {} throughout".format(*names))
        return x

    def _reshape(self, node: NodeProto, x: Value, shape: Value) -> Value:
        """Nothing, where samples stay rows."""
        if isinstance(x, np.ndarray) or isinstance(shape, Expression):
            self._model.refuse_node(node, "is no layer: wanted rows, and a constant shape")
        columns = self.inputs if x.of is None else len(x.of.W)
        if shape.tolist() not in ([-1, columns], [0, columns], [0, -1]):
            self._model.refuse_node(node, f"gives rows of {columns} the shape {shape.tolist()}")
        return x

    # ------------------------------------------------------------------------- activations

    def _part(self, node: NodeProto, *given: Value) -> Value:
        """A part of an activation."""
        if node.op_type not in self.forms.operators:
            self._model.refuse_node(node, "is neither a layer nor a part of an activation")
        inputs = tuple(x for x in given if isinstance(x, Expression))
        if not inputs:
            self._model.refuse_node(node, "takes constants only")
        if any(x.of is not inputs[0].of for x in inputs):
            self._model.refuse_node(node, "joins two branches: wanted a chain of layers")
        attributes = self._attributes(node)
        form = form_of(node.op_type, attributes, [self._form(node, x) for x in given])
        return Expression(inputs[0].of, form, node, inputs)

    def _form(self, node: NodeProto, x: Value) -> str:
        if isinstance(x, Expression):
            return x.form
        if x.size != 1:
            self._model.refuse_node(node, f"takes numbers of shape {x.shape}, wanted a single one")
        return form_of_number(x)


def _is_bare(e: Expression) -> bool:
    """Whether it is z of a layer without a bias."""
    return e.form == Z and e.of is not None and e.of.b is None


READERS: dict[str, Callable[..., Value]] = {
    "Add": Chain._add,
    "Cast": Chain._cast,
    "Constant": Chain._constant,
    "Dropout": Chain._dropout,
    "Flatten": Chain._flatten,
    "Gemm": Chain._gemm,
    "Identity": Chain._identity,
    "MatMul": Chain._matmul,
    "Reshape": Chain._reshape,
    "Transpose": Chain._transpose,
}
