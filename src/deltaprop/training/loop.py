"""fit: minibatch gradient descent over epochs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from deltaprop.arrays import check_count, check_rate
from deltaprop.contract import Array
from deltaprop.losses import Loss
from deltaprop.net import Net
from deltaprop.optimizers import RATE, Optimizer
from deltaprop.scalar import DTYPES
from deltaprop.steps import optimizer_for
from deltaprop.training.best import Best
from deltaprop.training.checkpoints import Checkpoints, run_of
from deltaprop.training.history import History
from deltaprop.training.run import Callback, Run
from deltaprop.training.samples import Samples, split


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
    validation: tuple[Array, Array] | float | None = None,
    patience: int | None = None,
    tolerance: float = 0.0,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
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
        eta, or a schedule of it, as dp.schedules.CosineDecay(0.1, steps=1000), which is
        SGD(schedule); for an ensemble one, or one for each member.
    optimizer
        In place of a learning rate, as of `train_step`: Adam(1e-3).
    validation
        (X, Y) on which the loss is taken after every epoch; or a fraction f, 0 < f < 1, of the
        m samples, which are not trained on: the first round(f m) of a permutation that is drawn
        before those of the epochs, or without a seed the last ones. Their sample weights go with
        them, and are in the validation loss. The members of an ensemble have the same ones.
    patience
        Ends the training once so many epochs have not improved the validation loss, and brings
        back the weights of the best epoch, however the training ended. Without validation data
        the training loss is watched, and the weights stay the last ones: that loss is a mean
        over an epoch in which they moved. The members of an ensemble have a best epoch each;
        the training ends when none has improved. What an optimizer remembers stays that of the
        last epoch.
    tolerance
        An epoch is an improvement if its loss is lower than the best one by more than that.
    callbacks
        Functions (net, history), called after every epoch, which may write to the parameters; the
        training ends after an epoch in which any of them returns True.
    checkpoint
        A folder for a checkpoint of this training: all that it needs to go on, in
        "checkpoint.safetensors", written before the first epoch, then after every one, over the
        one before, whole or not at all. The folder is made if it is not there. One with the
        checkpoint of an earlier training is refused, unless it is to go on.
    checkpoint_every
        Epochs from one checkpoint to the next; the last epoch always has one.
    resume
        Goes on from the checkpoint, and ends bit for bit as if it had never stopped, on any exact
        backend; where there is none yet the training begins, so that the same call is right
        after a crash. The net's parameters are replaced. Net, data and options have to be those
        of the checkpoint, but for `epochs`, which may be more, `callbacks`, `checkpoint_every`
        and `progress`. A training that ended has its results back; if a callback ended it, the
        callbacks are asked again first.
    seed
        Of the order of samples, drawn anew for each epoch by PCG64 on the host, so that a seed
        gives the same run on every backend. None keeps them in order. The members of an
        ensemble take their samples in the same order.
    progress
        True shows a bar with losses and the time that is left, False none; None shows one in a
        terminal. Of an ensemble it has the mean of the losses.

    Notes
    -----
    Bad arguments raise before the net changes: so do FileExistsError for the checkpoint of an
    earlier training, OSError for a folder that cannot be written, and `CheckpointError` for a
    damaged checkpoint, or one of another training.
    """
    epochs, batch_size = check_count("epochs", epochs), check_count("batch_size", batch_size)
    optimizer, learning_rate = optimizer_for(optimizer, learning_rate)
    step = net._next_step(optimizer, learning_rate)
    patience = None if patience is None else check_count("patience", patience)
    tolerance = check_rate("tolerance", tolerance, DTYPES["float64"])
    callbacks = _checked_callbacks(callbacks)
    every = check_count("checkpoint_every", checkpoint_every)
    _check_checkpoint(checkpoint, resume)
    random = None
    if seed is not None:
        random = np.random.Generator(np.random.PCG64(check_count("seed", seed, 0)))
    X, chosen, batch = net._given(X, Y, loss, sample_weight)
    with net.kernels.arrays.here:
        given = Samples(X, batch)
        samples, held = split(given, validation, net, chosen, random)
        kept = None if patience is None or held is None else net.parameters.copy()
        run = Run(
            net=net,
            loss=chosen,
            samples=samples,
            held=held,
            epochs=epochs,
            batch_size=batch_size,
            rate=RATE if optimizer else step,
            optimizer=optimizer,
            patience=patience,
            callbacks=callbacks,
            random=random,
            best=Best(net._losses, tolerance, kept),
        )
        checkpoints = None
        if checkpoint is not None:
            checkpoints = Checkpoints(checkpoint, every, run_of(run, given, validation, seed))
            checkpoints.begin(run, resume)
        with _bar(run, progress) as bar:
            while run.history.stopped is None:
                run.next_epoch()
                if checkpoints:
                    checkpoints.after_epoch(run)
                _show(bar, run.history)
        run.best.restore(net.parameters)
    return run.history


def _checked_callbacks(callbacks: Any) -> Sequence[Callback]:
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a list of functions, got {callbacks!r}")
    for i, callback in enumerate(callbacks):
        if not callable(callback):
            raise TypeError(f"callbacks[{i}] must be a function (net, history), got {callback!r}")
    return callbacks


def _check_checkpoint(checkpoint: Any, resume: Any) -> None:
    if checkpoint is not None and not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(f"checkpoint must be a folder, got {checkpoint!r}")
    if not isinstance(resume, (bool, np.bool_)):
        raise TypeError(f"resume must be True or False, got {resume!r}")
    if resume and checkpoint is None:
        raise ValueError("resume=True goes on from a checkpoint: name its folder, checkpoint=...")


def _bar(run: Run, progress: bool | None) -> Any:
    """One of tqdm's, or None in its place.

    One that nobody sees would still take a lock that a process shares with all its forks: who is
    killed within it stops the others for good.
    """
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    if not progress:
        return nullcontext()
    from tqdm import tqdm

    return tqdm(total=run.epochs, initial=run.epoch, unit="epoch")


def _show(bar: Any, history: History) -> None:
    if bar is None:
        return
    shown = {"loss": f"{np.mean(history.loss[-1]):.4g}"}
    if history.validation_loss:
        shown["validation"] = f"{np.mean(history.validation_loss[-1]):.4g}"
    bar.set_postfix(shown, refresh=False)
    bar.update()
