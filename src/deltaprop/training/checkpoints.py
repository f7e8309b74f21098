"""Checkpoints of a training: all that it needs to go on, bit for bit, as if it never stopped.

A checkpoint is one safetensors file in a folder of its own. It is written whole or not at all,
so that whatever kills the process leaves the one before. Its digest is that of all that is in
it; what it is of (net, data, options) is compared with what is to go on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from deltaprop.backends import is_exact
from deltaprop.contract import Array
from deltaprop.errors import CheckpointError
from deltaprop.files import Tensors, describe, write
from deltaprop.net import Net
from deltaprop.optimizers import RATE
from deltaprop.steps import State, next_state
from deltaprop.training.run import Run
from deltaprop.training.samples import Samples

FORMAT = "deltaprop.checkpoint/1"
NAME = "checkpoint.safetensors"
SERIES = "loss", "validation_loss", "seconds"
"""Of a history: what has an entry for each epoch."""


class Checkpoints:
    """Where the checkpoints of a run are written, each over the one before."""

    def __init__(self, folder: str | os.PathLike[str], every: int, run_of: dict[str, str]) -> None:
        self.path, self.every, self.run_of = Path(folder) / NAME, every, run_of

    def begin(self, run: Run, resume: bool) -> None:
        """Brings the run to where the checkpoint was written, or writes the first one."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._save(run)
        elif resume:
            self._load(run)
        else:
            raise FileExistsError(
                f"{self.path} is of an earlier training: go on with it with resume=True, "
                "or take another folder"
            )
        for partial in self.path.parent.glob(f".{NAME}.*.partial"):  # of a process that was killed
            partial.unlink(missing_ok=True)

    def after_epoch(self, run: Run) -> None:
        """Writes one if it is time, and the last one."""
        if run.epoch % self.every == 0 or run.history.stopped:
            self._save(run)

    def _save(self, run: Run) -> None:
        tensors, metadata = _contents(run)
        metadata |= {"format": FORMAT, "run": json.dumps(self.run_of)}
        metadata["digest"] = _digest(tensors, metadata)
        write(self.path, to_bytes(tensors, metadata))

    def _load(self, run: Run) -> None:
        """Raises CheckpointError before anything has changed."""
        if not self.path.is_file():
            raise CheckpointError(f"{self.path} is not a file")
        try:
            with safe_open(str(self.path), "numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CheckpointError(f"{self.path}: not a whole safetensors file: {error}") from error
        if metadata.get("format") != FORMAT:
            got = metadata.get("format")
            raise CheckpointError(f"{self.path}: format {got!r}, wanted {FORMAT!r}")
        if metadata.pop("digest", "") != _digest(tensors, metadata):
            raise CheckpointError(f"{self.path} is damaged: its digest is not that of its contents")
        self._require_same(json.loads(metadata["run"]))
        if len(tensors["loss"]) > run.epochs:
            raise CheckpointError(
                f"{self.path} is from after epoch {len(tensors['loss'])}, "
                f"but epochs={run.epochs} are wanted"
            )
        _restore(run, tensors, metadata)

    def _require_same(self, there: dict[str, str]) -> None:
        for what, here in self.run_of.items():
            if there.get(what) != here:
                raise CheckpointError(
                    f"{self.path} is of another training: its {what} is {there.get(what)}, "
                    f"here it is {here}"
                )


# ------------------------------------------------------------------------ what a run is one of


def run_of(run: Run, samples: Samples, validation: Any, seed: int | None) -> dict[str, str]:
    """Net, data and options, by name: a run with others would not be the same one."""
    net, held = run.net, run.held
    if held is not None and not isinstance(validation, (float, np.floating)):
        validation = f"data {_digest_of(held, net)}"
    rate = f"learning_rate {run.rate}"
    return {
        "net": _described(net),
        "data": f"data {_digest_of(samples, net)}",
        "validation": str(validation),
        "loss": run.loss.name,
        "batch_size": str(run.batch_size),
        "optimizer": rate if run.optimizer is None else repr(run.optimizer),
        "seed": str(seed),
        "patience": str(run.patience),
        "tolerance": str(run.best.tolerance),
        "arithmetic": "the specification's" if is_exact(net.backend) else net.backend,
    }


def _described(net: Net[Any]) -> str:
    """What a net is but for its numbers and its backend: a digest of what its own file has."""
    tensors, metadata = describe(net)
    digest = _digest({name: x for name, x in tensors.items() if x.dtype.kind != "f"}, metadata)
    return f"{type(net).__name__} of {net.parameters.size} {net.dtype} numbers, {digest[:16]}"


def _digest_of(samples: Samples, net: Net[Any]) -> str:
    arrays = {"X": samples.X, "Y": samples.batch.Y, "weights": samples.batch.weights}
    host = {name: net.kernels.arrays.to_numpy(x) for name, x in arrays.items() if x is not None}
    return _digest(host, {})[:16]


def _digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes, and of the metadata."""
    found = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, x in sorted(tensors.items()):
        little: Any = np.ascontiguousarray(x, x.dtype.newbyteorder("<"))
        found.update(f"{name} {little.dtype.str} {x.shape}".encode())
        found.update(little)
    return found.hexdigest()


# ----------------------------------------------------------------------------- what is in one


def _contents(run: Run) -> tuple[Tensors, dict[str, str]]:
    net, history, best, state = run.net, run.history, run.best, _state(run)
    there: dict[str, Array] = {"parameters": net.parameters}
    if state is not None:
        there |= {f"state.{i}": x for i, x in enumerate(state.arrays)}
    if best.weights is not None:
        there["best.weights"] = best.weights
    tensors = {name: net.kernels.arrays.to_numpy(x) for name, x in there.items()}
    tensors |= {"best.loss": best.loss, "best.epoch": best.epoch}
    for name in SERIES:
        tensors[name] = np.array(getattr(history, name), np.float64)
    generator = None if run.random is None else run.random.bit_generator.state
    return {name: np.ascontiguousarray(x) for name, x in tensors.items()}, {
        "steps": json.dumps(0 if state is None else state.steps),
        "random": json.dumps(generator),
        "stopped": json.dumps(history.stopped),
    }


def _state(run: Run) -> State | None:
    """What the next step of the optimizer goes on from."""
    net = run.net
    if run.optimizer is None:
        return None
    return next_state(net._state, run.optimizer, RATE, net.parameters, net.kernels)


def _restore(run: Run, tensors: Tensors, metadata: dict[str, str]) -> None:
    """Brings the run to where it was: all is brought there first, then it changes."""
    net, best = run.net, run.best
    arrays = net.kernels.arrays
    parameters = arrays.asarray(tensors["parameters"])
    state = None
    if run.optimizer is not None:
        state = State(run.optimizer, net.parameters, net.kernels)
        state.arrays = [arrays.asarray(tensors[f"state.{i}"]) for i in range(len(state.arrays))]
        state.steps = json.loads(metadata["steps"])
    weights = None if best.weights is None else arrays.asarray(tensors["best.weights"])
    net.parameters[...] = parameters
    if state is not None:
        net._state = state
    if run.random is not None:
        run.random.bit_generator.state = json.loads(metadata["random"])
    best.loss, best.epoch = (tensors[f"best.{x}"].reshape(net._losses) for x in ("loss", "epoch"))
    best.weights = weights
    for name in SERIES:
        setattr(run.history, name, _entries(tensors[name]))
    run.go_on(json.loads(metadata["stopped"]))


def _entries(table: np.ndarray) -> list[Any]:
    """One for each epoch: a float, or an array of those of the members."""
    return table.tolist() if table.ndim == 1 else list(table)
