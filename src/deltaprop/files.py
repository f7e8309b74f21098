"""Nets as safetensors files: numbers as tensors, the architecture as metadata.

Nothing in a file is ever executed. What does not fit is a `ModelFileError`.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from deltaprop.activations import ACTIVATIONS, Activation, activation_named
from deltaprop.arrays import check_count
from deltaprop.backends import resolve as resolve_backend
from deltaprop.ensemble import Ensemble
from deltaprop.errors import ModelFileError
from deltaprop.graph import Graph
from deltaprop.graphs.blueprint import Blueprint
from deltaprop.mlp import MLP
from deltaprop.names import as_names
from deltaprop.net import Net

N = TypeVar("N", bound=Net[Any])
Tensors = dict[str, np.ndarray]
TYPES = {"float32": "F32", "float64": "F64", "int32": "I32", "bool": "BOOL"}
"""Names of dtypes in a safetensors file."""
LARGEST_NET = 1 << 33
"""Numbers in a net that a file may ask for before its size is believed."""


@dataclass
class _File:
    """An open file: its description, and its tensors, read when their shape is as wanted."""

    path: Path
    metadata: dict[str, str]
    tensors: Any

    def described(self, key: str) -> Any:
        return json.loads(self.metadata[key])

    def dtype(self) -> str:
        dtype = self.metadata["dtype"]
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype {dtype!r}")
        return dtype

    def require(self, wanted: dict[str, tuple[tuple[int, ...], str]]) -> None:
        """Raises unless the file has these tensors, of these shapes and dtypes, and no others."""
        here = sorted(self.tensors.keys())
        if here != sorted(wanted):
            raise ModelFileError(f"{self.path}: has tensors {here}, wanted {sorted(wanted)}")
        for name, (shape, dtype) in wanted.items():
            tensor = self.tensors.get_slice(name)
            got = tuple(tensor.get_shape()), tensor.get_dtype()
            if got != (shape, TYPES[dtype]):
                raise ModelFileError(
                    f"{self.path}: tensor {name} is {got[0]} {got[1]}, "
                    f"wanted {shape} {TYPES[dtype]}"
                )

    def length(self, name: str) -> int:
        """Of a tensor that has to be there and one-dimensional."""
        if name not in list(self.tensors.keys()):
            raise ModelFileError(f"{self.path}: has no tensor {name!r}")
        shape = self.tensors.get_slice(name).get_shape()
        if len(shape) != 1:
            raise ModelFileError(f"{self.path}: tensor {name} must be a list, got {tuple(shape)}")
        return int(shape[0])

    def __getitem__(self, name: str) -> np.ndarray:
        tensor: np.ndarray = self.tensors.get_tensor(name)
        return tensor


# ------------------------------------------------------------------------- layered networks


def _mlp_to_file(net: MLP) -> tuple[Tensors, dict[str, str]]:
    _require_registered(net.activations)
    tensors = {name: net.kernels.arrays.to_numpy(x) for name, x in net._parameters.named()}
    return tensors, {
        "sizes": json.dumps(net.sizes),
        "activations": json.dumps([g.name for g in net.activations]),
        "bias": json.dumps(net.bias),
        "dtype": net.dtype.name,
    }


def _ensemble_to_file(net: Ensemble) -> tuple[Tensors, dict[str, str]]:
    """As of one net; every tensor has the axis of members first."""
    tensors, metadata = _mlp_to_file(net)
    return tensors, metadata | {"ensemble": json.dumps(net.ensemble)}


def _mlp_from_file(file: _File, backend: str | None) -> MLP:
    return _layers_from_file(file, backend, None)


def _ensemble_from_file(file: _File, backend: str | None) -> MLP:
    members = check_count("ensemble", file.described("ensemble"))
    return _layers_from_file(file, backend, members)


def _layers_from_file(file: _File, backend: str | None, members: int | None) -> MLP:
    sizes, names, bias = (file.described(key) for key in ("sizes", "activations", "bias"))
    numbers = (members or 1) * sum((n_in + 1) * n for n_in, n in pairwise(sizes))
    if numbers > LARGEST_NET or numbers * 4 > 2 * file.path.stat().st_size + 4096:
        raise ModelFileError(f"{file.path}: sizes {sizes} do not fit the size of the file")
    _require_defined(file, names)
    kind: dict[str, Any] = {"bias": bias, "dtype": file.dtype(), "ensemble": members}
    net = MLP(sizes, names[:-1], names[-1], backend=backend, **kind)
    wanted = dict(net._parameters.named())
    file.require({name: (x.shape, net.dtype.name) for name, x in wanted.items()})
    rows = net.parameters.shape[:-1]
    flat = np.concatenate([file[name].reshape(*rows, -1) for name in wanted], axis=-1)
    net._place(flat, net.kernels)
    return net


# -------------------------------------------------------------------------- graphs of units


def _graph_to_file(net: Graph) -> tuple[Tensors, dict[str, str]]:
    b = net.blueprint()
    _require_registered(b.activations)
    kinds = list(dict.fromkeys(b.activations))
    number = {g: i for i, g in enumerate(kinds)}
    tensors = {
        "source": b.source.astype(np.int32),
        "target": b.target.astype(np.int32),
        "weights": b.weight.astype(net.dtype),
        "activation": np.array([number[g] for g in b.activations], np.int32),
        "biased": np.array([x is not None for x in b.biases], bool),
        "biases": np.array([x for x in b.biases if x is not None], net.dtype),
    }
    return tensors, {
        "names": json.dumps(b.names),
        "inputs": json.dumps(b.inputs),
        "outputs": json.dumps(b.outputs),
        "activations": json.dumps([g.name for g in kinds]),
        "dtype": net.dtype.name,
    }


def _graph_from_file(file: _File, backend: str | None) -> Graph:
    names, outputs = as_names("names", file.described("names")), file.described("outputs")
    inputs, kinds = check_count("inputs", file.described("inputs")), file.described("activations")
    if not isinstance(kinds, list):
        raise TypeError(f"activations must be a list, got {kinds!r:.40}")
    _require_defined(file, kinds)
    units, dtype = len(names) - inputs, file.dtype()
    edges, biases = file.length("source"), file.length("biases")
    file.require(
        {
            "source": ((edges,), "int32"),
            "target": ((edges,), "int32"),
            "weights": ((edges,), dtype),
            "activation": ((units,), "int32"),
            "biased": ((units,), "bool"),
            "biases": ((biases,), dtype),
        }
    )
    kind, biased = file["activation"], file["biased"]
    _require_range(file, "activation", kind, len(kinds))
    if biases != int(biased.sum()):
        raise ModelFileError(f"{file.path}: {biased.sum()} units have a bias, got {biases} of them")
    for end in ("source", "target"):
        _require_range(file, end, file[end], len(names))
    values = iter(file["biases"].tolist())
    blueprint = Blueprint(
        inputs,
        as_names("outputs", outputs),
        names,
        [activation_named(kinds[i]) for i in kind],
        [next(values) if has else None for has in biased],
    )
    blueprint.connect(file["source"], file["target"], file["weights"])
    return Graph.from_blueprint(blueprint, dtype=dtype, backend=backend)


def _require_range(file: _File, name: str, x: np.ndarray, end: int) -> None:
    if x.size and not 0 <= int(x.min()) <= int(x.max()) < end:
        raise ModelFileError(f"{file.path}: tensor {name} must be from 0 to {end - 1}")


# ------------------------------------------------------------------------------- any of them

Save = Callable[[Any], tuple[Tensors, dict[str, str]]]
Load = Callable[[_File, str | None], Net[Any]]
FORMATS: dict[str, tuple[type[Net[Any]], Save, Load]] = {  # what is also another kind comes first
    "deltaprop.Ensemble/1": (Ensemble, _ensemble_to_file, _ensemble_from_file),
    "deltaprop.MLP/1": (MLP, _mlp_to_file, _mlp_from_file),
    "deltaprop.Graph/1": (Graph, _graph_to_file, _graph_from_file),
}


def _require_registered(activations: Iterable[Activation]) -> None:
    for g in activations:
        if ACTIVATIONS.get(g.name) is not g:
            raise ValueError(
                f"activation {g.name!r} is not in deltaprop's table: cannot be saved. Define it "
                "with deltaprop.activation"
            )


def _require_defined(file: _File, names: Iterable[Any]) -> None:
    """Refuses a name that is in no table: a file has the names of activations only."""
    for name in names:
        if isinstance(name, str) and name not in ACTIVATIONS:
            raise ModelFileError(
                f"{file.path}: uses activation {name!r}, which is not defined here: "
                f"define it with deltaprop.activation({name!r}, ...) first, as it was when saved"
            )


def save(net: Net[Any], path: str | os.PathLike[str]) -> None:
    """Writes the net to `path`, whole or not at all: a new file is moved over an old one."""
    write(Path(path), to_bytes(*describe(net)))


def describe(net: Net[Any]) -> tuple[Tensors, dict[str, str]]:
    """The numbers of a net, and what else a file has to say of it."""
    name = next(name for name, (kind, _, _) in FORMATS.items() if isinstance(net, kind))
    tensors, metadata = FORMATS[name][1](net)
    tensors = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    return tensors, {"format": name, **metadata}


def write(target: Path, content: bytes) -> None:
    """Writes a file, whole or not at all whatever stops it: a new one is moved over an old one."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _flush(target.parent)


def _flush(folder: Path) -> None:
    """What was moved in the folder is on the disk, where its file system can say so."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(opened)


def load(path: str | os.PathLike[str], backend: str | None = None, kind: Any = Net) -> Any:
    """The net that `save` wrote to `path`: an `MLP`, an `Ensemble` or a `Graph`, as it was.

    `backend` is as of `MLP`; with a `kind`, one of these, others are refused; an `Ensemble` is
    an `MLP`.
    Raises `ModelFileError` for a file that is damaged, cut short or not deltaprop's, of another
    kind, or that names an activation which is not defined here; FileNotFoundError where there
    is none.
    """
    resolve_backend(backend)
    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"no model file {str(target)!r}")
    try:
        with safe_open(str(target), "numpy") as tensors:
            return _read(_File(target, tensors.metadata() or {}, tensors), backend, kind)
    except SafetensorError as error:
        raise ModelFileError(f"{target}: not a whole safetensors file: {error}") from error


def _other_kind(name: str) -> str:
    """What to do with a file of that format, if it is one of deltaprop's."""
    if name not in FORMATS:
        return ""
    kind = FORMATS[name][0].__name__
    return f"; {kind}.load reads it, and so does deltaprop.load"


def _read(file: _File, backend: str | None, kind: type[N]) -> N:
    formats = {name: row for name, row in FORMATS.items() if issubclass(row[0], kind)}
    name = file.metadata.get("format", "")
    if name not in formats:
        wanted = " or ".join(map(repr, formats))
        got = file.metadata.get("format")
        raise ModelFileError(f"{file.path}: format {got!r}, wanted {wanted}{_other_kind(name)}")
    try:
        net = formats[name][2](file, backend)
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, ModelFileError):
            raise
        message = f"{file.path}: the description of the net is damaged: {error}"
        raise ModelFileError(message) from error
    assert isinstance(net, kind)
    return net
