"""Gradients as somebody else holds them: lists, pairs, dicts or one vector, brought to one form.

The form is a dict from the name of a parameter to an array; what the names and shapes are, the
caller says, in the order of the buffer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from deltaprop.foreign import to_numpy
from deltaprop.parameters import Parameters

Shapes = Mapping[str, tuple[int, ...]]


def named_gradients(given: Any, shapes: Shapes) -> dict[str, np.ndarray]:
    """The gradients by name, in the order of `shapes`.

    Accepts `Parameters`; a dict by name; a list with a pair (dW, db), or an object with W and b,
    for each layer; a flat list of arrays; one vector of all numbers in the order of `shapes`.
    Arrays may be nested lists, of any real dtype. Raises TypeError for what is no array of
    numbers, ValueError for a wrong number of them or one that is not finite.
    """
    found = _by_name(given, shapes)
    return {name: _array(name, found[name]) for name in shapes}


def _by_name(given: Any, shapes: Shapes) -> Mapping[str, Any]:
    if isinstance(given, Parameters):
        return _checked_names(dict(given.named()), shapes)
    if isinstance(given, Mapping):
        return _checked_names(given, shapes)
    if isinstance(given, np.ndarray) and given.dtype == object:
        given = list(given)
    if isinstance(given, (list, tuple)) and given and all(map(_is_layer, given)):
        return _from_layers(given, shapes)
    if _depth(given) == 1:
        return _cut(given, shapes)
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise TypeError(
            "the gradients must be Parameters, a dict, a list with (dW, db) for each layer, a flat "
            f"list of arrays, or a vector of {_total(shapes)} numbers, got {_what(given)}"
        )
    if len(given) != len(shapes):
        raise ValueError(
            f"the gradients are a list of {len(given)} arrays, "
            f"but the net has {len(shapes)} parameters: {', '.join(shapes)}"
        )
    return dict(zip(shapes, given))


def _checked_names(given: Mapping[str, Any], shapes: Shapes) -> Mapping[str, Any]:
    for kind, names in (
        ("lack", shapes.keys() - given.keys()),
        ("have", given.keys() - shapes.keys()),
    ):
        if names:
            listed = ", ".join(sorted(map(repr, names)))
            raise ValueError(f"the gradients {kind} {listed}; the net has {', '.join(shapes)}")
    return given


def _cut(vector: Any, shapes: Shapes) -> dict[str, Any]:
    """The parts of one vector, in the order of `shapes`."""
    flat = _array("the vector of gradients", vector)
    if flat.size != _total(shapes):
        raise ValueError(
            f"the vector of gradients has {flat.size} numbers, but the net has {_total(shapes)}"
        )
    ends = np.cumsum([prod(shape) for shape in shapes.values()])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts)}


def _from_layers(given: Sequence[Any], shapes: Shapes) -> dict[str, Any]:
    """From a pair or an object for each layer; the names of a layer begin alike."""
    layers = [list(names) for _, names in groupby(shapes, lambda name: name.rpartition(".")[0])]
    if len(given) != len(layers):
        raise ValueError(f"the gradients are of {len(given)} layers, but the net has {len(layers)}")
    found: dict[str, Any] = {}
    for l, (names, layer) in enumerate(zip(layers, given)):
        arrays = [layer.W, getattr(layer, "b", None)] if hasattr(layer, "W") else list(layer)
        arrays = [x for x in arrays if x is not None]
        if len(arrays) != len(names):
            raise ValueError(
                f"layer {l} has {len(names)} parameters, {', '.join(names)}, "
                f"but {len(arrays)} gradients"
            )
        found.update(zip(names, arrays))
    return found


def _is_layer(x: Any) -> bool:
    """Whether x is a pair (dW, db), or has a W, and is not an array itself."""
    return hasattr(x, "W") or (isinstance(x, (list, tuple)) and bool(x) and _depth(x[0]) == 2)


def _depth(x: Any) -> int:
    """How many indices lead to a number."""
    if isinstance(x, (list, tuple)):
        return 1 + max(map(_depth, x), default=0)
    return int(getattr(x, "ndim", 0))


def _total(shapes: Shapes) -> int:
    return sum(map(prod, shapes.values()))


def _what(x: Any) -> str:
    shape = getattr(x, "shape", None)
    return type(x).__name__ if shape is None else f"an array of shape {shape}"


def _array(name: str, x: Any) -> np.ndarray:
    """x as a NumPy array of finite reals, its dtype kept."""
    try:
        array = np.asarray(to_numpy(x, name))
    except ValueError:
        raise ValueError(f"{name} is no array: its rows differ in length") from None
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got {_what(x)} of dtype {array.dtype}")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        position = ", ".join(map(str, bad[0]))
        raise ValueError(f"{name}[{position}] is {array[tuple(bad[0])]}")
    return array


def check_shapes(
    arrays: Mapping[str, np.ndarray], understood: Mapping[str, Collection[tuple[int, ...]]]
) -> None:
    """Raises ValueError for an array of a shape that is not understood; the first is right."""
    for name, array in arrays.items():
        shapes = list(understood[name])
        if array.shape not in shapes:
            others = ", ".join(map(str, dict.fromkeys(shapes[1:])))
            raise ValueError(
                f"{name} has shape {array.shape}; right is {shapes[0]} (understood are {others})"
            )


def unit_roundoff(arrays: Collection[np.ndarray]) -> float:
    """u of the coarsest dtype the gradients have, at least float64's.

    Float64 numbers that are all float32 numbers were float32 before they became a list: unless
    all are 0, which tells nothing.
    """
    dtypes = [x.dtype for x in arrays if x.dtype.kind == "f"]
    u = max((float(np.finfo(dtype).eps) / 2 for dtype in dtypes), default=0.0)
    wide = [np.asarray(x, np.float64) for x in arrays]
    with np.errstate(over="ignore", under="ignore"):
        narrow = all(np.array_equal(x, x.astype(np.float32)) for x in wide)
    if narrow and any(x.any() for x in wide):
        u = max(u, float(np.finfo(np.float32).eps) / 2)
    return max(u, float(np.finfo(np.float64).eps) / 2)
