"""Whole sweeps of layered nets, one call into compiled code each."""

from __future__ import annotations

from collections import OrderedDict
from threading import local
from typing import Any

import numpy as np

from deltaprop.backends.plans import Plan
from deltaprop.contract import Form
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
        self._of_this_thread = local()

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
        a = np.empty((*parameters.shape[:-1], m, n), parameters.dtype)
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
        gradient = np.empty_like(parameters)
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
        plan = self._of_this_thread.latest = self._plan(parameters, X.shape[-2], loss, True)
        scale = loss.delta_scale(batch.samples, batch.outputs)
        return plan.run(parameters, X, batch.Y, batch.weights, delta_scale=scale, **given)

    def is_ready(self, loss: str | Loss | None) -> None:
        """The last gradient or step was of the loss called so."""
        if loss is None or type(loss) is str:
            self._last = loss, getattr(self._of_this_thread, "latest", None)

    def ready(self, X: Any, Y: Any, loss: str | Loss | None) -> Plan | None:
        """The plan of the last gradient or step, if it takes these arrays as they are."""
        name, plan = self._last
        if plan is None or not (loss is None or type(loss) is str) or loss != name:
            return None
        return plan if plan.takes(X, Y) else None
