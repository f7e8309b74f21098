"""What every net can do, whatever its shape: the gradient of a loss, and training by it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

import numpy as np

from deltaprop import equations
from deltaprop.arrays import back_to
from deltaprop.contract import Array, Replays, Steps
from deltaprop.equations import Batch, OutputArrays
from deltaprop.foreign import on_gpu, to_kind_of
from deltaprop.given import Given
from deltaprop.losses import Loss
from deltaprop.optimizers import DESCENT, RATE, Optimizer
from deltaprop.parameters import Flat
from deltaprop.parts import Part, Sweep, in_parts, outputs_in_parts, part_for
from deltaprop.schedules import Rate
from deltaprop.steps import (
    OptimizerStep,
    State,
    Step,
    constants_of,
    next_state,
    optimizer_for,
    rate_of,
)

if TYPE_CHECKING:
    from deltaprop.explain import Explanation
    from deltaprop.training import FitOptions, History

TYPICAL_BATCH = 1024

REPLAYED = 1 << 31
"""Parameters times samples of sweeps that may be replayed: beyond it, launches cost nothing."""


P = TypeVar("P", bound=Flat)


class Net(Given, Generic[P]):
    """A network of units: inputs (m, inputs) to outputs (m, outputs), of one dtype."""

    _replays: Replays | None = None

    # What the shape of a net decides.

    @property
    @abstractmethod
    def _parameters(self) -> P:
        """The parameters where the backend has them."""

    @abstractmethod
    def _like_parameters(self, flat: Array) -> P:
        """`flat`, one number for each parameter, seen as the parameters are."""

    @abstractmethod
    def _forward_outputs(self, X: Array) -> OutputArrays:
        """z and a of the outputs, for X where the backend has it."""

    @abstractmethod
    def _sweep(self, X: Array, batch: Batch, loss: Loss) -> tuple[Array, Array]:
        """sum_i w_i e_i and the gradient, one flat array: forward and backward."""

    @abstractmethod
    def _bytes(self) -> int:
        """Of a sample, in all that a sweep keeps."""

    def _part(self) -> int | None:
        """How many samples at a time are fastest, a multiple of 64; None for all of them."""
        return None

    @abstractmethod
    def _bounds(self, X: np.ndarray, batch: Batch, loss: Loss, u: float) -> np.ndarray:
        """A bound on the error of each element of the gradient, from float64 arrays."""

    @abstractmethod
    def to(self, backend: str | None = None, dtype: Any = None) -> Self:
        """A copy of the net on another backend, of another dtype.

        Going to float32 rounds the parameters.
        """

    @property
    def parameters(self) -> Array:
        """Every weight and bias, in one contiguous array. Writing to it changes the net."""
        return self._parameters.flat

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self.kernels.name

    # -------------------------------------------------------------------------- sweeps

    def predict(self, X: Array, micro_batch: Part = None) -> Array:
        """The outputs (m, outputs) for inputs X (m, inputs); `micro_batch` as `value_and_grad`."""
        k = self.kernels
        with k.arrays.here:
            if micro_batch is None:
                outputs = self._predict(self._inputs(X))
                return back_to(X, k)(outputs)
            here, part = self._inputs(X, self._where(X, micro_batch)), self._size(micro_batch)
            outputs = outputs_in_parts(k, self._predict, here, part or here.shape[-2])
            return to_kind_of(X)(outputs)

    def _predict(self, X: Array) -> Array:
        """a of the outputs, for X where the backend has it."""
        (a,) = self._replayed("a", (X,), lambda: (self._forward_outputs(X).a,))
        return a

    def value_and_grad(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        sample_weight: Array | None = None,
        micro_batch: Part = None,
    ) -> tuple[float, P]:
        """The loss E and its gradient with respect to every parameter.

        Parameters
        ----------
        X
            Inputs (m, inputs).
        Y
            Targets (m, outputs); for "cross_entropy" rows of probabilities that sum to 1, or
            labels (m,), integers from 0. Sums of rows on a GPU are not checked: that would wait.
        loss
            "half_sse", "half_mse", "mse", "cross_entropy" or "binary_cross_entropy". Without
            one: "cross_entropy" after a softmax output, else "half_mse".
        sample_weight
            w (m,): each sample's error is multiplied by it. The scale stays 1/m.
        micro_batch
            Compute with that many samples at a time, a multiple of 64 (a power of two times 64
            is fastest), or "auto": as many as a GPU has room for. Less memory, and the same bits on
            an exact backend. The machine's own arrays go to a GPU part by part, and may be larger.

        Returns
        -------
        E and the gradient, laid out as the parameters are and all of it in `.flat`, in the
        kind of array that X is: NumPy's, CuPy's, or those of a library with DLPack, as PyTorch and
        JAX. For arrays on a GPU E is one of shape (), and the call does not wait for the GPU:
        `float(E)` does. For others it is a float.
        """
        if sample_weight is None and micro_batch is None and (plan := self._ready(X, Y, loss)):
            flat = np.empty_like(self.parameters)
            return plan.value(self.parameters, X, Y, flat), self._like_parameters(flat)
        with self.kernels.arrays.here:
            here, chosen, batch = self._given(X, Y, loss, sample_weight, micro_batch)
            error, gradient = self._summed(here, batch, chosen, self._size(micro_batch))
            self._is_ready(loss, chosen)
            gradient = back_to(X, self.kernels)(gradient)
            return self._scaled(error, batch, chosen, X), self._like_parameters(gradient)

    def _size(self, micro_batch: Part) -> int | None:
        """Samples at a time; None for all of them."""
        if micro_batch == "auto":
            room = self.kernels.arrays.room()
            return self._part() if room is None else part_for(room // 2, self._bytes())
        return self._part() if micro_batch is None else micro_batch

    def _summed(
        self, X: Array, batch: Batch, loss: Loss, part: int | None, lent: bool = False
    ) -> tuple[Array, Array]:
        """As `_sweep`, `part` samples at a time."""

        def sweep(X: Array, batch: Batch) -> tuple[Array, Array]:
            return self._sweep(X, batch, loss)

        error, gradient = self._in_parts(loss, sweep, X, batch, part, lent)
        return error, gradient

    def _in_parts(
        self,
        what: Hashable,
        sweep: Sweep,
        X: Array,
        batch: Batch,
        part: int | None,
        lent: bool = False,
    ) -> tuple[Array, ...]:
        """What `sweep` sums over all samples, `part` of them at a time."""
        if part is not None:
            return in_parts(self.kernels, sweep, X, batch, part)
        return self._replayed(what, (X, batch.Y, batch.weights), lambda: sweep(X, batch), lent)

    def _replayed(
        self,
        what: Hashable,
        arrays: tuple[Array | None, ...],
        sweep: Callable[[], tuple[Array, ...]],
        lent: bool = False,
    ) -> tuple[Array, ...]:
        """What `sweep` returns: of work so small that launches matter, maybe as a replay."""
        samples = arrays[0].shape[-2]  # type: ignore[union-attr]
        if self._replays is None or samples * self.parameters.size > REPLAYED:
            return sweep()
        return self._replays.run(what, (self.parameters, *arrays), sweep, lent)

    def loss(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        sample_weight: Array | None = None,
        micro_batch: Part = None,
    ) -> float:
        """E alone: the forward sweep. Arguments and E as of `value_and_grad`."""
        with self.kernels.arrays.here:
            here, chosen, batch = self._given(X, Y, loss, sample_weight, micro_batch)
            part = None if micro_batch is None else self._size(micro_batch)
            E: float = self._loss_of(here, batch, chosen, part, X)
            return E

    def _loss_of(
        self, X: Array, batch: Batch, loss: Loss, part: int | None = None, like: Any = None
    ) -> Any:
        """E of what is checked and where it is needed, `part` samples at a time."""

        def sweep(X: Array, batch: Batch) -> tuple[Array]:
            return (self._error(X, batch, loss),)

        (error,) = self._in_parts(("error", loss), sweep, X, batch, part)
        return self._scaled(error, batch, loss, like)

    def _error(self, X: Array, batch: Batch, loss: Loss) -> Array:
        """sum_i w_i e_i, from a forward sweep."""
        return equations.sum_of_errors(self.kernels, self._forward_outputs(X), batch, loss)

    _losses: tuple[int, ...] = ()
    """The shape of E: that of an ensemble has one for each member."""

    def _scaled(self, error: Array, batch: Batch, loss: Loss, like: Any) -> Any:
        """E = scale * sum_i w_i e_i, one rounded multiplication; on the GPU where `like` is."""
        scale, k = loss.scale(batch.samples, self.outputs), self.kernels
        if on_gpu(like):
            E = k.scale(error.reshape(-1), scale).reshape(self._losses)
            return to_kind_of(like)(E)
        with np.errstate(all="ignore"):
            E = (k.arrays.to_numpy(error) * self.dtype.type(scale)).reshape(self._losses)
        return to_kind_of(like)(E) if self._losses else float(E)

    # ------------------------------------------------------------------------ training

    def train_step(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        learning_rate: Rate = RATE,
        sample_weight: Array | None = None,
        micro_batch: Part = None,
        optimizer: Optimizer | None = None,
    ) -> float:
        """One step of gradient descent, w <- w - eta dE/dw, or of an optimizer, as `Adam(1e-3)`.

        An optimizer has a learning rate of its own; a schedule in place of one is SGD(schedule).
        What it has to remember is kept by the net, until `reset_optimizer` or a step of another
        class of optimizers. Returns E before the step. Arguments and E as of `value_and_grad`.
        """
        E: float
        step = self._next_step(optimizer, learning_rate)
        if sample_weight is None and micro_batch is None and (plan := self._ready(X, Y, loss)):
            rate = rate_of(step)
            gradient = np.empty_like(self.parameters) if rate is None else None
            E = plan.value(self.parameters, X, Y, gradient, rate)
            self._take(step, gradient)
            return E
        with self.kernels.arrays.here:
            here, chosen, batch = self._given(X, Y, loss, sample_weight, micro_batch)
            error = self._step(here, batch, chosen, step, self._size(micro_batch))
            self._is_ready(loss, chosen)
            E = self._scaled(error, batch, chosen, X)
            return E

    _state: State | None = None
    """What the last optimizer remembers."""

    def reset_optimizer(self) -> None:
        """The next step of an optimizer is its first one."""
        self._state = None

    def _next_step(self, optimizer: Optimizer | None, learning_rate: Any) -> Step:
        """Down the gradient at that rate, or of the optimizer from where it is: all checked."""
        if type(learning_rate) is not float:  # else there is no schedule to look for
            optimizer, learning_rate = optimizer_for(optimizer, learning_rate)
        if optimizer is None:
            rate: Step = self._rate(learning_rate)
            return rate
        state = next_state(self._state, optimizer, learning_rate, self.parameters, self.kernels)
        rates = self._rate(optimizer.rates(state.steps))
        return OptimizerStep(state, optimizer, constants_of(state, optimizer, rates))

    def _take(self, step: Step, gradient: Array | None) -> None:
        """The step with that gradient; None where the sweep has changed the parameters."""
        if isinstance(step, OptimizerStep):
            self._state = step.take(gradient)
        elif gradient is not None:
            self._descend(gradient, step)

    def _ready(self, X: Array, Y: Array, loss: str | Loss | None) -> Any:
        """A plan for the same call once more, where a backend has one: nothing is to be checked."""

    def _is_ready(self, name: str | Loss | None, loss: Loss) -> None:
        """There was a sweep for this loss, which the caller named so."""

    def _step(self, X: Array, batch: Batch, loss: Loss, step: Step, part: int | None) -> Array:
        """One step, from a gradient of `part` samples at a time. Returns sum_i w_i e_i before."""
        error, gradient = self._summed(X, batch, loss, part, lent=True)
        self._take(step, gradient)
        return error

    def _steps(
        self, X: Array, batch: Batch, loss: Loss, steps: Steps, optimizer: Optimizer | None = None
    ) -> Sequence[Any]:
        """E before each of those steps; X and the batch are where the backend has them.

        With an optimizer, they are its steps.
        """
        found = []
        for start in range(0, batch.samples, steps.size):
            rows = steps.order[start : start + steps.size]
            x, y = X.take(rows, axis=-2), batch.Y.take(rows, axis=-2)
            w = None if batch.weights is None else batch.weights.take(rows, axis=-2)
            part = Batch(y, w, x.shape[-2], batch.outputs)
            step = self._next_step(optimizer, RATE) if optimizer else steps.rate
            error = self._step(x, part, loss, step, self._part())
            found.append(self._scaled(error, part, loss, x))
        return found

    def _descend(self, gradient: Array, rate: Any) -> None:
        self.kernels.update(self.parameters, gradient, (), DESCENT, (rate,))

    def fit(
        self, X: Array, Y: Array, loss: str | Loss | None = None, **options: Unpack[FitOptions]
    ) -> History:
        """Minibatch gradient descent; a `History` of the losses. See `deltaprop.training.fit`.

        Options: epochs, batch_size, learning_rate, optimizer, sample_weight, validation,
        patience, tolerance, callbacks, checkpoint, checkpoint_every, resume, seed, progress.
        """
        from deltaprop.training import fit

        return fit(self, X, Y, loss, **options)

    def explain(
        self,
        weight: Any,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        sample_weight: Array | None = None,
        max_paths: int = 12,
    ) -> Explanation:
        """dE/dw of one weight as the chain rule writes it, path by path, with its numbers.

        Parameters
        ----------
        weight
            ("x1", "h") or "x1 -> h" for an edge, "h" for the bias of a unit. Units of an `MLP`
            are named as by `to_graph`; "0.W[1, 0]" and "0.b[1]" are understood as well.
        X, Y, loss, sample_weight
            As of `value_and_grad`; all is computed in float64.
        max_paths
            With more paths than that, the sum is written unit by unit.

        Returns
        -------
        Explanation
            It prints as text and shows as LaTeX in a notebook. Raises ValueError for a weight that
            is not there.
        """
        from deltaprop.explain import explain

        self._require_one("explain")
        return explain(self, weight, X, Y, loss, sample_weight, max_paths)

    def save(self, path: Any) -> None:
        """Writes the net to a safetensors file, which `deltaprop.load` reads.

        What an optimizer remembers is not in it: a checkpoint of `fit` has that.
        """
        from deltaprop.files import save

        save(self, path)

    @classmethod
    def load(cls, path: Any, backend: str | None = None) -> Self:
        """The net that `save` wrote. Raises `ModelFileError` for any other file."""
        from deltaprop.files import load

        net: Self = load(path, backend, cls)
        return net
