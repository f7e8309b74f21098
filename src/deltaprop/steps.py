"""Steps of an optimizer: what it remembers of a net from one to the next, how they are taken."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deltaprop.arrays import LARGEST
from deltaprop.clipping import clip
from deltaprop.contract import Array, Kernels
from deltaprop.optimizers import RATE, SGD, Optimizer
from deltaprop.schedules import Schedule


class State:
    """What an optimizer remembers of a net: how many steps there were, and its arrays."""

    def __init__(self, optimizer: Optimizer, parameters: Array, k: Kernels) -> None:
        self.optimizer, self.parameters, self.kernels, self.steps = optimizer, parameters, k, 0
        zeros = (np.zeros(parameters.shape, parameters.dtype) for _ in optimizer.rules[:-1])
        self.arrays = [k.arrays.asarray(x) for x in zeros]


class OptimizerStep(NamedTuple):
    """The next step: all of it is checked, it has only to be taken."""

    state: State
    optimizer: Optimizer
    constants: list[tuple[float, ...]]
    """For all parameters, or for each row of them."""

    def take(self, gradient: Array | None) -> State:
        """The state after the step with this gradient, which may be clipped in place.

        None where the parameters have changed already.
        """
        if gradient is not None:
            self._update(gradient)
        self.state.optimizer, self.state.steps = self.optimizer, self.state.steps + 1
        return self.state

    def _update(self, gradient: Array) -> None:
        state, rows = self.state, len(self.constants)
        if self.optimizer.clip_norm is not None:
            clip(state.kernels, gradient, self.optimizer.clip_norm)
        parts = [x.reshape(rows, -1) for x in (state.parameters, gradient, *state.arrays)]
        for row, c in enumerate(self.constants):
            w, g, *states = (x[row] for x in parts)
            state.kernels.update(w, g, states, self.optimizer.rules, c)


Step = float | list[float] | OptimizerStep
"""eta of a step down the gradient, for all members or for each, or a step of an optimizer."""


def rate_of(step: Step) -> float | list[float] | None:
    """eta of a step down the gradient, which a sweep may take itself; None for other steps."""
    if not isinstance(step, OptimizerStep):
        return step
    if type(step.optimizer) is not SGD or step.optimizer.weight_decay or step.optimizer.clip_norm:
        return None
    rates = [constants[0] for constants in step.constants]
    return rates if len(rates) > 1 else rates[0]


def optimizer_for(optimizer: Any, learning_rate: Any) -> tuple[Any, Any]:
    """The optimizer, if any, and the learning rate: a schedule alone is that of an `SGD`.

    Its steps are those down the gradient, and they are counted.
    """
    rates = learning_rate if isinstance(learning_rate, (list, tuple)) else (learning_rate,)
    if optimizer is None and any(isinstance(rate, Schedule) for rate in rates):
        return SGD(learning_rate), RATE
    return optimizer, learning_rate


def next_state(
    state: State | None, optimizer: Any, learning_rate: Any, parameters: Array, k: Kernels
) -> State:
    """What the next step of `optimizer` goes on from: `state`, or nothing that it remembers.

    Raises TypeError for what is no optimizer, and for a learning rate that is given beside it.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer must be one of deltaprop's, as deltaprop.Adam(1e-3), got {optimizer!r}"
        )
    if learning_rate is not RATE:
        raise TypeError(f"the learning rate is that of {optimizer}: pass no other one")
    if state is None or state.optimizer is not optimizer:
        optimizer.check(parameters.dtype)
    if state and state.parameters is parameters and type(state.optimizer) is type(optimizer):
        return state
    return State(optimizer, parameters, k)


def constants_of(
    state: State, optimizer: Optimizer, rate: float | list[float]
) -> list[tuple[float, ...]]:
    """Of the next step, for each rate. Raises ValueError for one that the dtype cannot hold."""
    dtype, step, found = state.parameters.dtype, state.steps + 1, []
    for eta in [rate] if isinstance(rate, float) else rate:
        found.append(optimizer.constants(eta, step))
        if max(found[-1]) > LARGEST[dtype]:
            raise ValueError(
                f"{dtype} cannot hold a constant of step {step} of {optimizer}, {max(found[-1])}"
            )
    return found
