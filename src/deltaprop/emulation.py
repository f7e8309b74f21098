"""The operations of the dialect, executed by NumPy: rules of arrays, to the bits they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deltaprop.fma import fma
from deltaprop.scalar import Rule, trace


def _exponent(x: np.ndarray) -> Any:
    return (np.frexp(x)[1] - 1).astype(x.dtype)


def _pow2(n: np.ndarray) -> Any:
    return np.ldexp(n.dtype.type(1), n.astype(np.int32))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "fma": fma,
    "select": np.where,
    "sqrt": np.sqrt,
    "fabs": np.abs,
    "copysign": np.copysign,
    "rint": np.rint,
    "exponent": _exponent,
    "pow2": _pow2,
}


def rule(f: Rule, *arrays: np.ndarray) -> np.ndarray:
    """f of arrays of one dtype, element by element, broadcasting."""
    result = trace(f, arrays[0].dtype.name).run(OPERATIONS, *arrays)
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    return np.array(np.broadcast_to(result, shape))
