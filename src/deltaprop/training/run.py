"""A training that is under way, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deltaprop.contract import Steps
from deltaprop.losses import Loss
from deltaprop.net import Net
from deltaprop.optimizers import Optimizer
from deltaprop.training.best import Best
from deltaprop.training.history import History
from deltaprop.training.samples import Samples, double

Callback = Callable[[Any, History], Any]
"""(net, history) -> whether the training ends."""


@dataclass
class Run:
    """What `fit` was given, checked, and how far it is: `random`, `best` and `history` change."""

    net: Net[Any]
    loss: Loss
    samples: Samples
    held: Samples | None
    """What is validated with."""
    epochs: int
    batch_size: int
    rate: Any
    optimizer: Optimizer | None
    patience: int | None
    callbacks: Sequence[Callback]
    random: np.random.Generator | None
    best: Best
    history: History = field(default_factory=History)

    @property
    def epoch(self) -> int:
        """How many there were."""
        return len(self.history.loss)

    def next_epoch(self) -> None:
        """One pass over the samples, then whatever is looked at after it."""
        history, held, start = self.history, self.held, time.perf_counter()
        history.loss.append(self._pass())
        history.seconds.append(time.perf_counter() - start)
        watched = history.loss
        if held is not None:
            E = self.net._loss_of(held.X, held.batch, self.loss)
            history.validation_loss.append(double(E))
            watched = history.validation_loss
        self.best.see(self.epoch, watched[-1], self.net.parameters)
        history.best_epoch = self.best.number
        self._look(self._asked())

    def go_on(self, stopped: str | None) -> None:
        """From where a run was that stopped so: callbacks that ended it are asked once more."""
        self.history.best_epoch = self.best.number
        self._look(stopped == "callback" and self._asked())

    def _asked(self) -> bool:
        """Whether any callback ends the training; all are called."""
        return any([callback(self.net, self.history) for callback in self.callbacks])

    def _look(self, ended: bool) -> None:
        """Whether this was the last epoch, and why."""
        if ended:
            self.history.stopped = "callback"
        elif self.patience is not None and self.best.waited(self.epoch) >= self.patience:
            self.history.stopped = "patience"
        elif self.epoch >= self.epochs:
            self.history.stopped = "epochs"

    def _pass(self) -> Any:
        """One pass over the samples, in a new order; the mean loss."""
        (X, batch), size = self.samples, self.batch_size
        m, total = batch.samples, 0.0
        order = np.arange(m) if self.random is None else self.random.permutation(m)
        steps = Steps(self.rate, size, self.net.kernels.arrays.asarray(order))
        losses = self.net._steps(X, batch, self.loss, steps, self.optimizer)
        for start, E in zip(range(0, m, size), losses):
            total = total + double(E) * min(size, m - start)
        return total / m
