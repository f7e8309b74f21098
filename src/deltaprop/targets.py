"""Targets and sample weights, checked and brought to the backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.arrays import as_input, check_shape, native_to
from deltaprop.contract import Array, Kernels
from deltaprop.foreign import is_cupy
from deltaprop.losses import Loss


def as_targets(
    Y: Array, rows: tuple[int, ...], n: int, dtype: np.dtype[Any], loss: Loss, k: Kernels
) -> Array:
    """Y (*rows, n) where the backend computes; labels (*rows,) become rows of 0 and one 1.

    `rows` is (m,), or (members, m).
    """
    Y = native_to(k, "Y", Y)
    if loss.link == "softmax" and Y.ndim == len(rows):
        host = Y.get() if is_cupy(Y) else Y
        return k.arrays.asarray(one_hot(host, rows, n, dtype))
    targets = as_input("Y", Y, dtype, (*rows, n), k)
    if loss.link == "softmax" and not is_cupy(Y):  # there it would wait for the GPU
        check_probabilities(Y)
    return targets


def check_probabilities(Y: Array) -> None:
    """Raises ValueError unless each row of Y (..., n) sums to 1, to within n float32 roundings.

    p - y is the gradient of cross-entropy for such rows only.
    """
    total = Y.sum(axis=-1)
    off = abs(total - 1) > Y.shape[-1] * np.finfo(np.float32).eps
    if off.any():
        i = np.unravel_index(int(off.argmax()), off.shape)
        row = ", ".join(map(str, i))
        raise ValueError(
            f"each row of Y must sum to 1 for 'cross_entropy', but row {row} sums to {total[i]}"
        )


def as_weights(
    weights: Array | None, rows: tuple[int, ...], dtype: np.dtype[Any], k: Kernels
) -> Array | None:
    """Sample weights (*rows,) as columns (*rows, 1) where the backend computes."""
    if weights is None:
        return None
    return as_input("sample_weight", weights, dtype, rows, k).reshape(*rows, 1)


def one_hot(labels: np.ndarray, shape: tuple[int, ...], n: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Rows (*shape, n) with a 1 at each label; labels are integers 0, ..., n - 1."""
    check_shape("Y", labels.shape, shape)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"Y, labels of shape {shape}, must be integers, got {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= n:
        wrong = low if low < 0 else high
        raise ValueError(f"Y has the label {wrong}; the net has {n} outputs, labels 0 to {n - 1}")
    rows = np.zeros((labels.size, n), dtype)
    rows[np.arange(labels.size), labels.reshape(-1)] = 1
    return rows.reshape(*shape, n)
