"""fit: minibatch gradient descent over epochs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deltaprop.arrays import check_count, is_cupy
from deltaprop.contract import Array, Steps
from deltaprop.equations import Batch
from deltaprop.losses import Loss
from deltaprop.net import Net
from deltaprop.optimizers import RATE, Optimizer


@dataclass
class History:
    """What `fit` saw, one entry for each epoch; of an ensemble, losses are arrays (n,).

    loss
        The mean of the batches' losses, each taken before its step and weighted by its size.
    validation_loss
        After the epoch; empty without validation data.
    seconds
        How long the epoch took.
    """

    loss: list[Any] = field(default_factory=list)
    validation_loss: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def fit(
    net: Net[Any],
    X: Array,
    Y: Array,
    loss: str | Loss | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: Any = RATE,
    optimizer: Optimizer | None = None,
    sample_weight: Array | None = None,
    validation: tuple[Array, Array] | None = None,
    seed: int | None = 0,
    progress: bool | None = None,
) -> History:
    """Minibatch gradient descent, w <- w - eta dE/dw for every batch, or steps of an optimizer.

    Parameters
    ----------
    X, Y, loss, sample_weight
        As of `value_and_grad`.
    epochs, batch_size
        How often each sample is used, and how many samples a step takes; the last batch of an
        epoch may be smaller.
    learning_rate
        eta; for an ensemble a number, or one for each member.
    optimizer
        In place of a learning rate, as of `train_step`: Adam(1e-3).
    validation
        (X, Y) on which the loss is taken after every epoch.
    seed
        Of the order of samples, drawn anew for each epoch by PCG64 on the host, so that a seed
        gives the same run on every backend. None keeps them in order. The members of an
        ensemble take their samples in the same order.
    progress
        True shows a bar, False none; None shows one in a terminal. Of an ensemble it has the
        mean of the losses.

    Bad arguments raise before the net changes.
    """
    from tqdm import tqdm

    epochs, batch_size = check_count("epochs", epochs), check_count("batch_size", batch_size)
    rate = net._rate(learning_rate)
    if optimizer is not None:
        net._next_step(optimizer, learning_rate)
    if seed is not None:
        check_count("seed", seed, 0)
    X, chosen, batch = net._given(X, Y, loss, sample_weight)
    if validation is not None:
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError("validation must be a pair (X, Y)")
        net.loss(*validation, chosen)

    history = History()
    random = None if seed is None else np.random.Generator(np.random.PCG64(seed))
    hidden = None if progress is None else not progress
    bar = tqdm(total=epochs, disable=hidden, unit="epoch")
    with bar, net.kernels.arrays.here:
        for _ in range(epochs):
            start = time.perf_counter()
            m = batch.samples
            order = np.arange(m) if random is None else random.permutation(m)
            steps = Steps(rate, batch_size, net.kernels.arrays.asarray(order))
            history.loss.append(_epoch(net, X, batch, chosen, steps, optimizer))
            history.seconds.append(time.perf_counter() - start)
            shown: dict[str, Any] = {"loss": f"{np.mean(history.loss[-1]):.4g}"}
            if validation is not None:
                history.validation_loss.append(_double(net.loss(*validation, chosen)))
                shown["validation"] = f"{np.mean(history.validation_loss[-1]):.4g}"
            bar.set_postfix(shown, refresh=False)
            bar.update()
    return history


def _epoch(
    net: Net[Any],
    X: Array,
    batch: Batch,
    loss: Loss,
    steps: Steps,
    optimizer: Optimizer | None,
) -> Any:
    """One pass over the samples in those steps; the mean loss."""
    total: Any = 0.0
    m, size = batch.samples, steps.size
    losses = net._steps(X, batch, loss, steps, optimizer)
    for start, E in zip(range(0, m, size), losses):
        total = total + _double(E) * min(size, m - start)
    return total / m


def _double(E: Any) -> Any:
    """A loss, or those of the members, in float64 on the host: Python's float is one."""
    E = E.get() if is_cupy(E) else E
    return E.astype(np.float64) if np.ndim(E) else float(E)
