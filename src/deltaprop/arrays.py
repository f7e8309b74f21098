"""The caller's arrays: checked, and brought to a backend without loss.

Accepted are arrays of NumPy and of any library that shares its own (foreign.py), those on a GPU
where the backend computes there, with any strides, byte order and write protection. A dtype is
converted only where every value of it survives: bool, int8, uint8, int16, uint16, float16 to
float32 and float64; int32, uint32, float32 to float64. Results come back in the caller's kind of
array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deltaprop.contract import Array, Kernels
from deltaprop.errors import find
from deltaprop.foreign import is_cupy, native, on_gpu, to_kind_of
from deltaprop.scalar import DTYPES

LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in DTYPES.values()}


def float_dtype(dtype: Any) -> np.dtype[Any]:
    """float32 or float64 from a name or dtype."""
    if isinstance(dtype, (str, type, np.dtype)):
        for known in DTYPES.values():
            if known == dtype:
                return known
    return find("dtype", dtype, DTYPES)


def lossless(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether every number of `source` is one of `target`, float32 or float64."""
    if source.kind not in "biuf" or (source.kind in "iu" and source.itemsize == 8):
        return False
    return np.can_cast(source, target, "safe")


def native_to(k: Kernels, name: str, x: Any) -> Array:
    """x as NumPy's array, or as CuPy's on the GPU where the backend computes; not copied.

    Raises TypeError unless x is an array that this backend can take.
    """
    number = getattr(k.arrays, "number", None)
    if number is None and on_gpu(x):
        kind, copy = ("a CuPy array", ".get()") if is_cupy(x) else ("on a GPU", " on the CPU")
        raise TypeError(
            f"{name} is {kind}, but backend {k.name!r} computes on NumPy arrays; "
            f"pass {name}{copy}, or use backend='cuda'"
        )
    x = native(name, x)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; fill it first")
    if is_cupy(x) and x.device.id != number:
        raise TypeError(
            f"{name} is on GPU {x.device.id}, but backend {k.name!r} computes on GPU {number}; "
            f"copy it there, or use backend='cuda:{x.device.id}'"
        )
    return x


def as_input(
    name: str, x: Any, dtype: np.dtype[Any], shape: tuple[int | str, ...], k: Kernels
) -> Array:
    """x as a C-contiguous array of `dtype` where the backend computes.

    `shape` gives each dimension as a number, or as a name for one that may have any size but 0.
    Raises TypeError for the wrong kind or dtype, ValueError for the wrong shape.
    """
    if type(x) is not np.ndarray:
        x = native_to(k, name, x)
    if type(x) is np.ndarray and x.dtype is dtype and x.flags.carray and _fits(x.shape, shape):
        return k.arrays.asarray(x)
    if not lossless(x.dtype, dtype):
        raise TypeError(
            f"{name} has dtype {x.dtype}, which {dtype} cannot hold without loss; "
            f"wanted {dtype}: convert it, in NumPy by {name}.astype('{dtype}')"
        )
    check_shape(name, x.shape, shape)
    if is_cupy(x):
        import cupy

        with k.arrays.here:
            return cupy.ascontiguousarray(x, dtype)
    return k.arrays.asarray(np.require(x, dtype, ["C", "A", "E"]))


def _fits(got: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    if len(got) != len(wanted) or 0 in got:
        return False
    for g, w in zip(got, wanted):  # noqa: SIM110, faster than all() of a generator
        if g != w and type(w) is not str:
            return False
    return True


def check_shape(name: str, got: tuple[int, ...], wanted: tuple[int | str, ...]) -> None:
    """Raises ValueError unless the shape is as wanted and no dimension is 0."""
    if 0 in got:
        raise ValueError(f"{name} must not be empty, got shape {got}")
    if not _fits(got, wanted):
        text = ", ".join(map(str, wanted)) + ("," if len(wanted) == 1 else "")
        raise ValueError(f"{name} must have shape ({text}), got {got}")


def back_to(like: Any, k: Kernels) -> Callable[[Array], Array]:
    """A function that brings the backend's arrays to the kind that `like` is of."""
    if isinstance(like, np.ndarray):
        return k.arrays.to_numpy
    to_kind = to_kind_of(like)
    return to_kind if on_gpu(like) else lambda x: to_kind(k.arrays.to_numpy(x))


def check_rate(name: str, value: float, dtype: np.dtype[Any]) -> float:
    """A number that is finite in `dtype` and not negative, or ValueError."""
    if type(value) is float and 0.0 <= value <= LARGEST[dtype]:
        return value
    if not isinstance(value, (int, float, np.floating, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    number = value if isinstance(value, int) else float(value)
    if not 0 <= number <= LARGEST[dtype]:
        raise ValueError(f"{name} must be finite in {dtype} and not negative, got {value}")
    return float(number)


def check_count(name: str, value: int, least: int = 1) -> int:
    """An integer from `least`, or ValueError."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return int(value)
