"""What `fit` saw, epoch by epoch, and its picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np


@dataclass
class History:
    """What `fit` saw, one entry for each epoch; of an ensemble, losses are arrays (n,).

    loss
        The mean of the batches' losses, each taken before its step and weighted by its size.
    validation_loss
        After the epoch; empty without validation data.
    seconds
        How long the epoch took.
    best_epoch
        The epoch, from 1, whose validation loss was the lowest, or whose loss was without
        validation data: lower than every one before by more than the tolerance. 0 where none
        was a number. Of an ensemble an array (n,).
    stopped
        Why the training ended: "epochs" if it took as many as it was given, "patience" if
        nothing improved, "callback" if one said so; None before.
    """

    loss: list[Any] = field(default_factory=list)
    validation_loss: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: Any = 0
    stopped: Literal["epochs", "patience", "callback"] | None = None

    def plot(self, ax: Any = None) -> Any:
        """Draws the losses over the epochs, and the best of the validation; needs matplotlib.

        `ax` is the matplotlib Axes to draw in; without one, a new figure of pyplot. Returns
        the Axes. Raises ImportError without matplotlib.
        """
        if ax is None:
            ax = _new_axes()
        _curves(ax, self.loss, "C0", "training, before each step")
        if self.validation_loss:
            _curves(ax, self.validation_loss, "C1", "validation, after each epoch")
            _dots(ax, self.validation_loss, self.best_epoch)
        losses = np.array(self.loss + self.validation_loss)
        if np.all(losses[np.isfinite(losses)] > 0):
            ax.set_yscale("log")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="epoch", ylabel="loss")
        ax.grid(alpha=0.3)
        ax.legend()
        return ax


def _new_axes() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("matplotlib is missing: pip install 'deltaprop[plot]'") from error
    _, ax = pyplot.subplots(figsize=(6, 4), layout="constrained")
    return ax


def _curves(ax: Any, losses: list[Any], colour: str, label: str) -> None:
    """One line, or one for each member of an ensemble."""
    table = np.array(losses).reshape(len(losses), -1)
    many = table.shape[1] > 1
    style = {"color": colour, "linewidth": 0.8 if many else 1.5, "alpha": 0.7 if many else 1}
    for member, curve in enumerate(table.T):
        named = {} if member else {"label": label}
        ax.plot(range(1, len(curve) + 1), curve, **style, **named)


def _dots(ax: Any, losses: list[Any], best: Any) -> None:
    """One at the best epoch of each line."""
    table, best = np.array(losses).reshape(len(losses), -1), np.reshape(best, -1)
    found = np.flatnonzero(best)
    if found.size:
        values = table[best[found] - 1, found]
        label = f"best, epoch {best[0]}" if best.size == 1 else "best of each member"
        ax.plot(best[found], values, "o", color="C1", markersize=5, label=label, zorder=3)
