"""Which activation a piece of an ONNX graph is: known by its form, whatever its values are named.

The form of a value is a digest of the operator that gives it, of its attributes and of the forms
of what it takes; that of z is `Z`. So equal expressions have equal forms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from typing import Any

import numpy as np
from onnx import AttributeProto, NodeProto, defs, helper, numpy_helper

from deltaprop.activations import ACTIVATIONS, Activation
from deltaprop.onnx.activations import PARTS, Write, write_activation
from deltaprop.onnx.nodes import OPSET, Nodes
from deltaprop.onnx.spellings import spellings

Z = "z"
COMMUTATIVE = ("Add", "Equal", "Max", "Mul", "Or")


def form_of(op: str, attributes: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """The form of an operator's output, given the forms of its inputs."""
    given = sorted(inputs) if op in COMMUTATIVE else list(inputs)
    return sha256(repr((op, sorted(attributes.items()), given)).encode()).hexdigest()


def form_of_number(x: np.ndarray) -> str:
    """The form of a constant, an array of one number."""
    return form_of("constant", {"dtype": x.dtype.name, "bits": x.tobytes()}, ())


def attributes_of(node: NodeProto, opset: int) -> dict[str, Any]:
    """The attributes of a node, those left out too; an axis of a matrix counts from the end."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    found = _defaults(node.op_type, opset) | given
    if node.op_type == "Softmax" and found["axis"] == 1:
        found["axis"] = -1
    return found


@cache
def _defaults(op: str, opset: int) -> dict[str, Any]:
    attributes = defs.get_schema(op, opset).attributes.values()
    values = {a.name: a.default_value for a in attributes}
    return {
        name: helper.get_attribute_value(value)
        for name, value in values.items()
        if value.type != AttributeProto.UNDEFINED
    }


# -------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Forms:
    """The activations that are defined now, by form, and the operators of any."""

    table: Mapping[str, Activation]
    exported: Mapping[str, str]
    operators: frozenset[str]

    def activation(self, form: str, name: Any) -> Activation | None:
        """The activation of that form; of several the one of that name, else the first."""
        if isinstance(name, str) and self.exported.get(name) == form:
            return ACTIVATIONS[name]
        return self.table.get(form)


def known_forms(dtype: np.dtype[Any]) -> Forms:
    """The forms of all activations that can be exported, in a dtype."""
    exported: dict[str, str] = {}
    table: dict[str, Activation] = {}
    operators = set(PARTS)
    for name, write in (*_exports(dtype), *spellings(dtype)):
        nodes = Nodes(dtype)
        form = _form_written(nodes, write)
        exported.setdefault(name, form)
        table.setdefault(form, ACTIVATIONS[name])
        operators |= {node.op_type for node in nodes.nodes}
    return Forms(table, exported, frozenset(operators))


def _exports(dtype: np.dtype[Any]) -> Iterator[tuple[str, Write]]:
    for name, g in ACTIVATIONS.items():
        with suppress(ValueError):
            write_activation(Nodes(dtype), Z, g)
            yield name, partial(write_activation, g=g)


def _form_written(nodes: Nodes, write: Write) -> str:
    a = write(nodes, Z)
    forms = {x.name: form_of_number(numpy_helper.to_array(x)) for x in nodes.constants} | {Z: Z}
    for node in nodes.nodes:
        given = [forms[name] for name in node.input]
        forms[node.output[0]] = form_of(node.op_type, attributes_of(node, OPSET), given)
    return forms[a]
