"""Activations as other exporters write them, where it is not as it is written here."""

from __future__ import annotations

import math

import numpy as np

from deltaprop.onnx.activations import FLOAT32_OPERATORS, Write
from deltaprop.onnx.nodes import Nodes


def _erf_term(nodes: Nodes, z: str) -> str:
    """1 + erf(z / sqrt 2)."""
    return nodes.add("Add", nodes.add("Erf", nodes.add("Div", z, math.sqrt(2))), 1)


def _tanh_term(nodes: Nodes, z: str, cube: str) -> str:
    """1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))."""
    inner = nodes.add("Add", z, nodes.add("Mul", 0.044715, cube))
    return nodes.add("Add", nodes.add("Tanh", nodes.add("Mul", math.sqrt(2 / math.pi), inner)), 1)


def _halved(nodes: Nodes, z: str, term: str) -> str:
    return nodes.add("Mul", nodes.add("Mul", z, term), 0.5)


def _by_half(nodes: Nodes, z: str, term: str) -> str:
    return nodes.add("Mul", z, nodes.add("Mul", 0.5, term))


def _gelu(nodes: Nodes, z: str) -> str:
    return _halved(nodes, z, _erf_term(nodes, z))


def _gelu_by_half(nodes: Nodes, z: str) -> str:
    return _by_half(nodes, z, _erf_term(nodes, z))


def _gelu_tanh(nodes: Nodes, z: str) -> str:
    cube = nodes.add("Mul", z, nodes.add("Mul", z, z))
    return _halved(nodes, z, _tanh_term(nodes, z, cube))


def _gelu_tanh_by_half(nodes: Nodes, z: str) -> str:
    return _by_half(nodes, z, _tanh_term(nodes, z, nodes.add("Pow", z, 3)))


def _mish(nodes: Nodes, z: str) -> str:
    return nodes.add("Mul", z, nodes.add("Tanh", nodes.add("Softplus", z)))


def _softplus_to_20(nodes: Nodes, z: str) -> str:
    """In float32 it rounds to z above 20."""
    return nodes.add("Where", nodes.add("Greater", z, 20), z, nodes.add("Softplus", z))


ALWAYS: tuple[tuple[str, Write], ...] = (
    *FLOAT32_OPERATORS.items(),
    ("softplus", lambda nodes, z: nodes.add("Softplus", z)),
    ("mish", _mish),
    ("gelu", _gelu),
    ("gelu", _gelu_by_half),
    ("gelu_tanh", _gelu_tanh),
    ("gelu_tanh", _gelu_tanh_by_half),
)
"""PyTorch's older exporter takes the half last, the newer one first."""


def spellings(dtype: np.dtype) -> tuple[tuple[str, Write], ...]:
    """The names of activations and how they may be written in a dtype."""
    return ALWAYS if dtype == np.float64 else (*ALWAYS, ("softplus", _softplus_to_20))
