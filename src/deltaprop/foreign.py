"""Arrays of other libraries: seen as NumPy's or CuPy's, and results as theirs, without a copy.

DLPack leads there and back, `__cuda_array_interface__` there. On a GPU both ways follow the
protocol of streams: neither library reads what the other has yet to write, and nobody waits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from deltaprop.contract import Array

HOST, GPU = (1, 3), (2, 13)
"""Memory as DLPack numbers it: of the machine, pinned; of a GPU, managed by CUDA."""


def is_cupy(x: Any) -> bool:
    """Whether x is a CuPy array; CuPy is not imported to find out."""
    return type(x).__module__.partition(".")[0] == "cupy"


def on_gpu(x: Any) -> bool:
    """Whether x is an array in a GPU's memory."""
    if isinstance(x, np.ndarray):
        return False
    if is_cupy(x):
        return True
    try:
        return x.__dlpack_device__()[0] in GPU if _has_dlpack(x) else _has_interface(x)
    except Exception:  # of a library's own kind: `native` says what is wrong
        return False


def native(name: str, x: Any) -> Array:
    """x if it is NumPy's or CuPy's; an array of another library as a view of its memory.

    Raises TypeError, with the argument's name, for what is no array or cannot be shared.
    """
    if isinstance(x, np.ndarray) or is_cupy(x):
        return x
    if not _has_dlpack(x) and not _has_interface(x):
        raise TypeError(
            f"{name} must be an array of NumPy, CuPy or a library with DLPack, "
            f"got {type(x).__name__}{_remedy(name, x)}"
        )
    try:
        return _view(x)
    except Exception as error:  # each library has errors of its own
        raise TypeError(f"{name}, {_what(x)}, cannot be shared: {error}") from error


def _has_dlpack(x: Any) -> bool:
    return hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__")


def _has_interface(x: Any) -> bool:
    return hasattr(x, "__cuda_array_interface__")


def _view(x: Any) -> Array:
    if not _has_dlpack(x):
        import cupy

        return cupy.asarray(x)
    memory, number = x.__dlpack_device__()
    if memory in HOST:
        return np.from_dlpack(x)
    if memory not in GPU:
        raise BufferError(f"memory {memory}:{number} of DLPack is neither a CPU's nor CUDA's")
    import cupy

    return cupy.from_dlpack(x)


def _what(x: Any) -> str:
    """The kind of an array, as far as it tells: "Tensor of torch.float32 on cpu"."""
    words = [type(x).__name__]
    for word, name in (("of", "dtype"), ("on", "device")):
        if (value := getattr(x, name, None)) is not None:
            words += [word, str(value)]
    return " ".join(words)


def _remedy(name: str, x: Any) -> str:
    return f"; pass {name}.to_numpy()" if hasattr(x, "to_numpy") else ""


def to_kind_of(like: Any) -> Callable[[Array], Any]:
    """A function from NumPy's or CuPy's arrays to those of the library that `like` is of.

    Where a library has no `from_dlpack`, they stay as they are.
    """
    if isinstance(like, np.ndarray) or is_cupy(like):
        return lambda x: x
    return getattr(_library(like), "from_dlpack", lambda x: x)


def _library(x: Any) -> Any:
    """The module that x comes from: what the array API calls its namespace, or the package."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    packages = [sys.modules[c.__module__.partition(".")[0]] for c in type(x).__mro__]
    return next((p for p in packages if hasattr(p, "from_dlpack")), None)


def to_numpy(x: Any, name: str = "the array") -> Any:
    """x, an array of any library, in this machine's memory as NumPy's; no array as it is."""
    if isinstance(x, np.ndarray) or not (is_cupy(x) or _has_dlpack(x) or _has_interface(x)):
        return x
    x = native(name, x)
    return x.get() if is_cupy(x) else x


def batch_to_numpy(X: Any, Y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Each as by `to_numpy`."""
    return to_numpy(X, "X"), to_numpy(Y, "Y"), to_numpy(sample_weight, "sample_weight")
