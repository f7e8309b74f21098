"""What a net is given: arrays, a loss, a learning rate; checked, and where they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from deltaprop.activations import Activation
from deltaprop.arrays import as_input, check_rate
from deltaprop.backends import load as load_backend
from deltaprop.contract import Array, Kernels
from deltaprop.equations import Batch
from deltaprop.foreign import on_gpu
from deltaprop.losses import Loss, loss_named
from deltaprop.parts import Part, check_part
from deltaprop.targets import as_targets, as_weights

F = TypeVar("F", bound=Callable[..., Any])


def on_its_device(method: F) -> F:
    """A method of a net, whose arrays it handles itself, where they are."""

    @wraps(method)
    def there(self: Any, *args: Any, **options: Any) -> Any:
        with self.kernels.arrays.here:
            return method(self, *args, **options)

    return there  # type: ignore[return-value]


class Given(ABC):
    """What takes batches: inputs (m, inputs) and targets (m, outputs), of one dtype."""

    inputs: int
    outputs: int
    dtype: np.dtype[Any]

    @property
    @abstractmethod
    def kernels(self) -> Kernels:
        """The backend in use."""

    @property
    @abstractmethod
    def _output_activations(self) -> Sequence[Activation]:
        """The activations that outputs have, each once."""

    def _inputs(self, X: Array, k: Kernels | None = None) -> Array:
        return as_input("X", X, self.dtype, ("m", self.inputs), k or self.kernels)

    def _where(self, X: Array, micro_batch: Part) -> Kernels:
        """Whose arrays X and the batch become: the host's stay there if taken in parts."""
        in_parts = check_part(micro_batch) is not None and not on_gpu(X)
        return load_backend("reference") if in_parts else self.kernels

    def _given(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None,
        weights: Array | None,
        micro_batch: Part = None,
    ) -> tuple[Array, Loss, Batch]:
        """X, the loss and the batch: checked, and where the backend computes."""
        k = self._where(X, micro_batch)
        X = self._inputs(X, k)
        return X, *self._batch(Y, loss, weights, X.shape[-2], k)

    def _batch(
        self,
        Y: Array,
        loss: str | Loss | None,
        weights: Array | None,
        m: int,
        k: Kernels | None = None,
    ) -> tuple[Loss, Batch]:
        chosen, k = self._loss(loss), k or self.kernels
        targets = as_targets(Y, (m,), self.outputs, self.dtype, chosen, k)
        weights = as_weights(weights, (m,), self.dtype, k)
        return chosen, Batch(targets, weights, m, self.outputs)

    def _rate(self, learning_rate: Any) -> Any:
        """eta, checked."""
        return check_rate("learning_rate", learning_rate, self.dtype)

    def _require_one(self, what: str) -> None:  # noqa: B027, most are one
        """Raises TypeError if this is an ensemble of nets, where `what` needs one."""

    def _loss(self, loss: str | Loss | None) -> Loss:
        outputs = self._output_activations
        if loss is None:
            loss = "cross_entropy" if outputs[0].rowwise else "half_mse"
        chosen = loss_named(loss)
        for g in outputs:
            if chosen.link and chosen.link != g.name:
                raise ValueError(
                    f"loss {chosen.name!r} goes with output={chosen.link!r}, "
                    f"but this net has output={g.name!r}"
                )
            if g.rowwise and chosen.link != g.name:
                raise ValueError(
                    f"output={g.name!r} goes with loss 'cross_entropy', got {chosen.name!r}"
                )
        return chosen
