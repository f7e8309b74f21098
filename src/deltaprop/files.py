"""Nets as safetensors files: the parameters as tensors, the architecture as metadata.

Nothing in a file is ever executed. What does not fit is a `ModelFileError`.
"""

from __future__ import annotations

import json
import os
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from deltaprop.activations import ACTIVATIONS
from deltaprop.backends import resolve as resolve_backend
from deltaprop.errors import ModelFileError
from deltaprop.mlp import MLP

FORMAT = "deltaprop.MLP/1"
DTYPES = {"float32": "F32", "float64": "F64"}
"""Names of dtypes in a safetensors file."""
LARGEST_NET = 1 << 33
"""Numbers in a net that a file may ask for before its size is believed."""


def save(net: MLP, path: str | os.PathLike[str]) -> None:
    """Writes the net to `path`, whole or not at all: a new file is moved over an old one."""
    for g in net.activations:
        if ACTIVATIONS.get(g.name) is not g:
            raise ValueError(
                f"activation {g.name!r} is not in deltaprop's table: cannot be saved. Define it "
                "with deltaprop.activation"
            )
    target = Path(path)
    tensors = {
        name: np.ascontiguousarray(net.kernels.arrays.to_numpy(x))
        for name, x in net._parameters.named()
    }
    metadata = {
        "format": FORMAT,
        "sizes": json.dumps(net.sizes),
        "activations": json.dumps([g.name for g in net.activations]),
        "bias": json.dumps(net.bias),
        "dtype": net.dtype.name,
    }
    partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(to_bytes(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], backend: str | None = None) -> MLP:
    """The net that `save` wrote to `path`.

    Raises `ModelFileError` for a file that is damaged, cut short or not deltaprop's, or that names
    an activation which is not defined here; FileNotFoundError where there is none.
    """
    resolve_backend(backend)
    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"no model file {str(target)!r}")
    try:
        with safe_open(str(target), "numpy") as file:
            net = _architecture(file.metadata() or {}, target, backend)
            _fill(net, file, target)
            return net
    except SafetensorError as error:
        raise ModelFileError(f"{target}: not a whole safetensors file: {error}") from error


def _architecture(metadata: dict[str, str], path: Path, backend: str | None) -> MLP:
    if metadata.get("format") != FORMAT:
        raise ModelFileError(f"{path}: format {metadata.get('format')!r}, wanted {FORMAT!r}")
    try:
        sizes = json.loads(metadata["sizes"])
        names = json.loads(metadata["activations"])
        bias = json.loads(metadata["bias"])
        numbers = sum((n_in + 1) * n for n_in, n in pairwise(sizes))
        if numbers > LARGEST_NET or numbers * 4 > 2 * path.stat().st_size + 4096:
            raise ModelFileError(f"{path}: sizes {sizes} do not fit the size of the file")
        _check_defined(names, path)
        return MLP(
            sizes, names[:-1], names[-1], bias=bias, dtype=metadata["dtype"], backend=backend
        )
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{path}: the description of the net is damaged: {error}") from error


def _check_defined(names: list[str], path: Path) -> None:
    """Refuses a name that is in no table: a file has the names of activations only."""
    for name in names:
        if isinstance(name, str) and name not in ACTIVATIONS:
            raise ModelFileError(
                f"{path}: uses activation {name!r}, which is not defined here: "
                f"define it with deltaprop.activation({name!r}, ...) first, as it was when saved"
            )


def _fill(net: MLP, file: Any, path: Path) -> None:
    """The net's parameters from the file's tensors, read when all are known to fit."""
    here, wanted = sorted(file.keys()), dict(net._parameters.named())
    if here != sorted(wanted):
        raise ModelFileError(f"{path}: has tensors {here}, wanted {sorted(wanted)}")
    for name, x in wanted.items():
        tensor = file.get_slice(name)
        shape, dtype = tuple(tensor.get_shape()), tensor.get_dtype()
        if shape != x.shape or dtype != DTYPES[net.dtype.name]:
            raise ModelFileError(
                f"{path}: tensor {name} is {shape} {dtype}, "
                f"wanted {x.shape} {DTYPES[net.dtype.name]}"
            )
    flat = np.concatenate([file.get_tensor(name).reshape(-1) for name in wanted])
    net._place(flat, net.kernels)
