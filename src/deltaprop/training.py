"""fit: minibatch gradient descent over epochs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deltaprop import targets
from deltaprop.arrays import as_input, check_count, check_rate
from deltaprop.contract import Array
from deltaprop.losses import Loss
from deltaprop.net import Net


@dataclass
class History:
    """What `fit` saw, one entry for each epoch.

    loss
        The mean of the batches' losses, each taken before its step and weighted by its size.
    validation_loss
        After the epoch; empty without validation data.
    seconds
        How long the epoch took.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def fit(
    net: Net[Any],
    X: Array,
    Y: Array,
    loss: str | Loss | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 0.1,
    sample_weight: Array | None = None,
    validation: tuple[Array, Array] | None = None,
    seed: int | None = 0,
    progress: bool | None = None,
) -> History:
    """Minibatch gradient descent, w <- w - eta dE/dw for every batch.

    Parameters
    ----------
    X, Y, loss, sample_weight
        As of `value_and_grad`.
    epochs, batch_size
        How often each sample is used, and how many samples a step takes; the last batch of an
        epoch may be smaller.
    learning_rate
        eta.
    validation
        (X, Y) on which the loss is taken after every epoch.
    seed
        Of the order of samples, drawn anew for each epoch by PCG64 on the host, so that a seed
        gives the same run on every backend. None keeps them in order.
    progress
        True shows a bar, False none; None shows one in a terminal.

    Bad arguments raise before the net changes.
    """
    from tqdm import tqdm

    epochs, batch_size = check_count("epochs", epochs), check_count("batch_size", batch_size)
    rate = check_rate("learning_rate", learning_rate, net.dtype)
    if seed is not None:
        check_count("seed", seed, 0)
    k, n_out = net.kernels, net.outputs
    X = as_input("X", X, net.dtype, ("m", net.inputs), k)
    chosen = net._loss(loss)
    Y = targets.as_targets(Y, len(X), n_out, net.dtype, chosen, k)
    weights = targets.as_weights(sample_weight, len(X), net.dtype, k)
    if validation is not None:
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError("validation must be a pair (X, Y)")
        net.loss(*validation, chosen)

    history = History()
    random = None if seed is None else np.random.Generator(np.random.PCG64(seed))
    hidden = None if progress is None else not progress
    with tqdm(total=epochs, disable=hidden, unit="epoch") as bar:
        for _ in range(epochs):
            start = time.perf_counter()
            order = np.arange(len(X)) if random is None else random.permutation(len(X))
            history.loss.append(_epoch(net, X, Y, chosen, weights, order, batch_size, rate))
            history.seconds.append(time.perf_counter() - start)
            shown: dict[str, Any] = {"loss": f"{history.loss[-1]:.4g}"}
            if validation is not None:
                history.validation_loss.append(net.loss(*validation, chosen))
                shown["validation"] = f"{history.validation_loss[-1]:.4g}"
            bar.set_postfix(shown, refresh=False)
            bar.update()
    return history


def _epoch(
    net: Net[Any],
    X: Array,
    Y: Array,
    loss: Loss,
    weights: Array | None,
    order: np.ndarray,
    batch_size: int,
    rate: float,
) -> float:
    """One pass over the samples in that order; the mean loss."""
    total = 0.0
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        w = None if weights is None else weights[rows].reshape(-1)
        total += net.train_step(X[rows], Y[rows], loss, rate, w) * len(rows)
    return total / len(order)
