"""What y of an estimator is to a net: its targets, its outputs, its loss, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Targets(Protocol):
    """One kind of y, as the first fit saw it."""

    @property
    def outputs(self) -> int:
        """How many the net has."""

    @property
    def activation(self) -> str:
        """Of the outputs."""

    @property
    def loss(self) -> str:
        """That is made small."""

    def encode(self, y: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """Targets of the net. Raises ValueError for y of another kind."""

    def decode(self, a: np.ndarray) -> np.ndarray:
        """y from the outputs a (m, outputs)."""


@dataclass(frozen=True)
class Values:
    """Numbers (m, outputs), or (m,) where they are `flat`: the mean of a normal distribution."""

    outputs: int
    flat: bool

    activation = "identity"
    loss = "half_mse"

    @classmethod
    def of(cls, y: np.ndarray) -> Values:
        """As they are in y."""
        return cls(1 if y.ndim == 1 else y.shape[1], y.ndim == 1)

    def encode(self, y: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """As columns."""
        if Values.of(y) != self:
            wanted = "(m,)" if self.flat else f"(m, {self.outputs})"
            raise ValueError(f"y must have shape {wanted}, as before, got {y.shape}")
        return y.reshape(len(y), self.outputs).astype(dtype)

    def decode(self, a: np.ndarray) -> np.ndarray:
        """In the shape that y had."""
        return a[:, 0] if self.flat else a


@dataclass(frozen=True)
class Labels:
    """One of the `classes` (m,) for each sample: of two the odds of the second, else softmax."""

    classes: np.ndarray

    @property
    def outputs(self) -> int:
        """One for two classes."""
        return 1 if self._two else len(self.classes)

    @property
    def activation(self) -> str:
        """Of the outputs."""
        return "logistic" if self._two else "softmax"

    @property
    def loss(self) -> str:
        """Minus the log-likelihood, over m."""
        return "binary_cross_entropy" if self._two else "cross_entropy"

    @property
    def _two(self) -> bool:
        return len(self.classes) == 2

    def encode(self, y: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """Numbers of classes."""
        if y.ndim != 1:
            raise ValueError(f"y must be labels (m,), as before, got shape {y.shape}")
        unknown = np.setdiff1d(y, self.classes)
        if unknown.size:
            raise ValueError(f"y has labels {unknown}, not among the classes {self.classes}")
        labels = np.searchsorted(self.classes, y)
        return labels[:, None].astype(dtype) if self._two else labels

    def decode(self, a: np.ndarray) -> np.ndarray:
        """The likeliest class."""
        chosen = (a[:, 0] > 0.5).astype(int) if self._two else a.argmax(axis=1)
        found: np.ndarray = self.classes[chosen]
        return found

    def probabilities(self, a: np.ndarray) -> np.ndarray:
        """Of every class (m, classes)."""
        return np.hstack([1 - a, a]) if self._two else a

    def log_probabilities(self, z: np.ndarray) -> np.ndarray:
        """Of every class, from z of the outputs: finite where probabilities are rounded to 0."""
        if self._two:
            return np.hstack([_log_logistic(-z), _log_logistic(z)])
        z = z - z.max(axis=1, keepdims=True)
        found: np.ndarray = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return found


@dataclass(frozen=True)
class LabelSets:
    """0 or 1 for each of several labels (m, labels), which do not exclude one another."""

    outputs: int

    activation = "logistic"
    loss = "binary_cross_entropy"

    @property
    def classes(self) -> np.ndarray:
        """The numbers of the columns."""
        return np.arange(self.outputs)

    def encode(self, y: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """As they are."""
        if y.ndim != 2 or y.shape[1] != self.outputs:
            wanted = f"0 or 1 for each of {self.outputs} labels"
            raise ValueError(f"y must be {wanted}, as before, got shape {y.shape}")
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"y (m, labels) must be 0 or 1, got {np.unique(y)}")
        return y.astype(dtype)

    def decode(self, a: np.ndarray) -> np.ndarray:
        """The labels that are likelier than not."""
        return (a > 0.5).astype(int)

    def probabilities(self, a: np.ndarray) -> np.ndarray:
        """Of every label (m, labels)."""
        return a

    def log_probabilities(self, z: np.ndarray) -> np.ndarray:
        """Of every label, from z of the outputs."""
        return _log_logistic(z)


def _log_logistic(z: np.ndarray) -> np.ndarray:
    found: np.ndarray = -np.logaddexp(0, -z)
    return found
