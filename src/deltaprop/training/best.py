"""The best epoch so far: its loss, its number, its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltaprop.contract import Array


class Best:
    """Of one net, or of each member of an ensemble: arrays have the shape of the loss.

    An epoch is better if its loss is lower than that of the best one by more than `tolerance`;
    a NaN never is.
    """

    def __init__(self, shape: tuple[int, ...], tolerance: float, weights: Array | None) -> None:
        self.loss, self.epoch = np.full(shape, np.inf), np.zeros(shape, np.int64)
        self.tolerance, self.weights = tolerance, weights

    def see(self, epoch: int, loss: Any, parameters: Array) -> None:
        """Takes in the loss of an epoch; the weights are copied if they are kept."""
        better = np.asarray(loss) < self.loss - self.tolerance
        self.loss, self.epoch = (
            np.where(better, loss, self.loss),
            np.where(better, epoch, self.epoch),
        )
        if self.weights is not None:
            self._copy(better, parameters, self.weights)

    def restore(self, parameters: Array) -> None:
        """Writes the best weights to `parameters`; where no epoch was best they stay."""
        if self.weights is not None:
            self._copy(self.epoch > 0, self.weights, parameters)

    @property
    def number(self) -> Any:
        """The best epoch, an int, or those of members."""
        return self.epoch if self.epoch.ndim else int(self.epoch)

    def waited(self, epoch: int) -> int:
        """How many epochs no member has improved for."""
        return epoch - int(self.epoch.max())

    @staticmethod
    def _copy(members: np.ndarray, source: Array, target: Array) -> None:
        """The rows of those members, or all of one net."""
        source, target = (x.reshape(members.size, -1) for x in (source, target))
        for e in np.flatnonzero(members):
            target[e] = source[e]
