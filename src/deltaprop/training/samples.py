"""Samples to train on and to validate with: where the backend has them, and one batch each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from deltaprop.contract import Array
from deltaprop.equations import Batch
from deltaprop.foreign import to_numpy
from deltaprop.losses import Loss
from deltaprop.net import Net


class Samples(NamedTuple):
    """X (m, n_in) and the batch of all m, checked; both may have an axis of members first."""

    X: Array
    batch: Batch

    def take(self, rows: np.ndarray, net: Net[Any]) -> Samples:
        """Those samples, copied."""
        here, weights = net.kernels.arrays.asarray(rows), self.batch.weights
        if weights is not None:
            weights = weights.take(here, axis=-2)
        Y = self.batch.Y.take(here, axis=-2)
        batch = replace(self.batch, Y=Y, weights=weights, samples=len(rows))
        return Samples(self.X.take(here, axis=-2), batch)


def split(
    samples: Samples, validation: Any, net: Net[Any], loss: Loss, random: np.random.Generator | None
) -> tuple[Samples, Samples | None]:
    """Those to train on, and those that `validation`, as of `fit`, asks for."""
    if validation is None:
        return samples, None
    if isinstance(validation, (tuple, list)) and len(validation) == 2:
        X, Y = validation
        X, _, batch = net._given(X, Y, loss, None)
        return samples, Samples(X, batch)
    if not isinstance(validation, (float, np.floating)):
        raise TypeError(
            "validation must be a pair (X, Y), or the fraction of the samples to validate with"
        )
    m = samples.batch.samples
    count = round(float(validation) * m) if 0 < validation < 1 else 0
    if not 0 < count < m:
        raise ValueError(
            "validation must be a fraction that leaves samples on both sides, "
            f"got {validation} of {m} samples"
        )
    rows = np.arange(m)[::-1] if random is None else random.permutation(m)
    taken, left = np.sort(rows[:count]), np.sort(rows[count:])
    return samples.take(left, net), samples.take(taken, net)


def double(E: Any) -> Any:
    """A loss, or those of the members, in float64 on the host: Python's float is one."""
    E = to_numpy(E)
    return E.astype(np.float64) if np.ndim(E) else float(E)
