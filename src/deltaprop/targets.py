"""Targets and sample weights, checked and brought to the backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.arrays import as_input, check_array, check_shape, is_cupy
from deltaprop.contract import Array, Kernels
from deltaprop.losses import Loss


def as_targets(Y: Array, m: int, n: int, dtype: np.dtype[Any], loss: Loss, k: Kernels) -> Array:
    """Y (m, n) where the backend computes; labels (m,) become rows of 0 and one 1."""
    check_array("Y", Y, k)
    if loss.link == "softmax" and Y.ndim == 1:
        host = Y.get() if is_cupy(Y) else Y
        return k.arrays.asarray(one_hot(host, m, n, dtype))
    targets = as_input("Y", Y, dtype, (m, n), k)
    if loss.link == "softmax":
        check_probabilities(Y)
    return targets


def check_probabilities(Y: Array) -> None:
    """Raises ValueError unless each row of Y (m, n) sums to 1, to within n float32 roundings.

    p - y is the gradient of cross-entropy for such rows only.
    """
    total = Y.sum(axis=1)
    off = abs(total - 1) > Y.shape[1] * np.finfo(np.float32).eps
    if off.any():
        i = int(off.argmax())
        raise ValueError(
            f"each row of Y must sum to 1 for 'cross_entropy', but row {i} sums to {total[i]}"
        )


def as_weights(weights: Array | None, m: int, dtype: np.dtype[Any], k: Kernels) -> Array | None:
    """Sample weights (m,) as a column (m, 1) where the backend computes."""
    if weights is None:
        return None
    return as_input("sample_weight", weights, dtype, (m,), k).reshape(m, 1)


def one_hot(labels: np.ndarray, m: int, n: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Rows (m, n) with a 1 at each label; labels are integers 0, ..., n - 1."""
    check_shape("Y", labels.shape, (m,))
    if labels.dtype.kind not in "iu":
        raise TypeError(f"Y, labels of shape ({m},), must be integers, got {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= n:
        wrong = low if low < 0 else high
        raise ValueError(f"Y has the label {wrong}; the net has {n} outputs, labels 0 to {n - 1}")
    rows = np.zeros((m, n), dtype)
    rows[np.arange(m), labels] = 1
    return rows
