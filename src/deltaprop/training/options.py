"""The keywords of `fit`, for type checkers: what they mean is told there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypedDict

from deltaprop.contract import Array
from deltaprop.optimizers import Optimizer
from deltaprop.training.run import Callback


class FitOptions(TypedDict, total=False):
    """Keywords of `fit`; any may be left out."""

    epochs: int
    batch_size: int
    learning_rate: Any
    optimizer: Optimizer | None
    sample_weight: Array | None
    validation: tuple[Array, Array] | float | None
    patience: int | None
    tolerance: float
    callbacks: Sequence[Callback]
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: int
    resume: bool
    seed: int | None
    progress: bool | None
