"""Whole sweeps of layered nets, one call into compiled code each."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from deltaprop.backends.plans import Plan
from deltaprop.contract import Form
from deltaprop.devices.memory import empty
from deltaprop.equations import Batch
from deltaprop.losses import Loss

KEPT = 8
"""Plans that are kept: for the batches of an epoch, its last one, validation, inference."""


class WholeSweeps:
    """The `Sweeps` of a form: a plan for each loss and number of samples, made when needed."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        self._last: tuple[str | None, Plan | None] = None, None
        self._latest: Plan | None = None

    def _plan(
        self, parameters: np.ndarray, samples: int, loss: Loss | None, gradient: bool
    ) -> Plan:
        members = 1 if parameters.ndim == 1 else len(parameters)
        key = id(loss), samples, gradient, members
        plan = self._plans.get(key)
        if plan is None:
            plan = Plan(self.form, loss, samples, gradient, members)
            self._plans[key] = plan
            while len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        return plan

    def outputs(self, parameters: np.ndarray, X: np.ndarray) -> np.ndarray:
        """a^L (m, n), or (members, m, n)."""
        m, n = X.shape[-2], self.form.sizes[-1]
        a = empty((*parameters.shape[:-1], m, n), parameters.dtype)
        self._plan(parameters, m, None, False).run(parameters, X, outputs=a)
        return a

    def error(self, parameters: np.ndarray, X: np.ndarray, batch: Batch, loss: Loss) -> np.ndarray:
        """The errors alone."""
        plan = self._plan(parameters, X.shape[-2], loss, False)
        return plan.run(parameters, X, batch.Y, batch.weights)

    def gradient(
        self, parameters: np.ndarray, X: np.ndarray, batch: Batch, loss: Loss
    ) -> tuple[np.ndarray, np.ndarray]:
        """The errors, and the gradient, laid out as the parameters are."""
        gradient = empty(parameters.shape, parameters.dtype)
        return self._run(parameters, X, batch, loss, gradient=gradient), gradient

    def step(
        self,
        parameters: np.ndarray,
        X: np.ndarray,
        batch: Batch,
        loss: Loss,
        rate: float | list[float],
    ) -> np.ndarray:
        """The errors; then w <- fma(-eta, dE/dw, w)."""
        return self._run(parameters, X, batch, loss, rate=rate)

    def _run(
        self, parameters: np.ndarray, X: np.ndarray, batch: Batch, loss: Loss, **given: Any
    ) -> np.ndarray:
        plan = self._latest = self._plan(parameters, X.shape[-2], loss, True)
        scale = loss.delta_scale(batch.samples, batch.outputs)
        return plan.run(parameters, X, batch.Y, batch.weights, delta_scale=scale, **given)

    def steps(self, *_: Any) -> None:
        """A call costs little: step by step is as good."""

    def is_ready(self, name: str | Loss | None, loss: Loss) -> None:
        """There was a gradient or a step for this loss, which the caller named so."""
        plan = self._latest
        # Another thread may have been here since, for another loss.
        if plan is not None and plan.loss is loss and (name is None or type(name) is str):
            self._last = name, plan

    def ready(self, X: Any, Y: Any, name: str | Loss | None) -> Plan | None:
        """A plan for the loss of this name, if it takes these arrays as they are."""
        known, plan = self._last
        if plan is None or not (name is None or type(name) is str) or name != known:
            return None
        return plan if plan.takes(X, Y) else None
