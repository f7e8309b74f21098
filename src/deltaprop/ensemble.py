"""Many layered networks of equal shape at once: an ensemble, or a population."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from deltaprop import equations
from deltaprop.arrays import as_input, check_count, check_rate, native_to
from deltaprop.contract import Array, Kernels
from deltaprop.equations import Batch, Outputs
from deltaprop.foreign import to_numpy
from deltaprop.losses import Loss
from deltaprop.mlp import MLP
from deltaprop.optimizers import DESCENT, RATE, Optimizer
from deltaprop.parameters import Parameters, glorot, total
from deltaprop.parts import Part
from deltaprop.schedules import Rate
from deltaprop.targets import as_targets, as_weights

Losses = Any
"""An array (n,) of the net's dtype, of the kind that X is: the loss of each member."""


class Ensemble(MLP):
    """`MLP(..., ensemble=n)`: n nets of one shape, each with the bits that it has alone.

    Arrays have the axis of members first: `parameters` and `gradients.flat` (n, P), of which
    row e is the buffer of member e; `layers[l].W` and `gradients[l].W` (n, n_l, n_in), `.b`
    (n, n_l). Member e of an ensemble of seed s starts as the net of seed s + e.

    A batch is shared by all members, X (m, n_in), or each has its own, X (n, m, n_in). So too Y,
    (m, n_out) or (n, m, n_out), labels, (m,) or (n, m), and sample weights, (m,) or (n, m).
    Integers (n, m) are labels wherever X is (n, m, n_in); where X is shared, only if they cannot
    be targets (m, n_out).

    What needs one net (`forward`, `backward`, `explain`, `to_graph`, `gradcheck`,
    `check_backprop`) takes `member(e)`.
    """

    ensemble: int

    @classmethod
    def of(cls, nets: Sequence[MLP]) -> Self:
        """The ensemble whose member e has the parameters of nets[e], copied.

        Raises ValueError unless sizes, activations, bias, dtype and backend are those of nets[0].
        """
        if not isinstance(nets, Sequence) or not nets:
            raise ValueError(f"nets must be a list of at least one MLP, got {nets!r}")
        for e, net in enumerate(nets):
            if not isinstance(net, MLP) or isinstance(net, Ensemble):
                raise TypeError(f"nets[{e}] must be one MLP, got {net!r}")
            if _kind(net) != _kind(nets[0]):
                raise ValueError(f"nets must be of one kind: nets[0] is {nets[0]}, nets[{e}] {net}")
        states = [net.__getstate__() for net in nets]
        flat = np.stack([state["_numbers"] for state in states])
        made = cls.__new__(cls)
        made.__setstate__({**states[0], "ensemble": len(nets), "_numbers": flat})
        return made

    def member(self, e: int) -> MLP:
        """Member e, from 0, as a net of its own.

        A method, not `net[e]`: what an index of an array gives is a view, and this is a copy.
        The way back is `net.parameters[e] = other.parameters`.
        """
        if check_count("e", e, 0) >= self.ensemble:
            raise IndexError(f"there are members 0 to {self.ensemble - 1}, got e={e}")
        return self._members[e].to()

    def _initial(self, seed: int) -> np.ndarray:
        return np.stack([glorot(self.shapes, seed + e, self.dtype) for e in range(self.ensemble)])

    def _work(self) -> int:
        return self.ensemble * super()._work()

    def _bytes(self) -> int:
        return self.ensemble * super()._bytes()

    def _place(self, flat: np.ndarray, k: Kernels) -> None:
        super()._place(flat, k)
        self._members = [self._view(row) for row in self.parameters]

    def __getstate__(self) -> dict[str, Any]:
        """All that the ensemble is, as of `MLP`."""
        state = super().__getstate__()
        del state["_members"]  # a copy has its own
        return state

    def __repr__(self) -> str:
        return f"Ensemble({self.ensemble} x {super().__repr__().removeprefix('MLP(')}"

    def _require_one(self, what: str) -> None:
        raise TypeError(
            f"{what} takes one net, got an ensemble of {self.ensemble}; "
            f"pass it .member(e), e from 0 to {self.ensemble - 1}"
        )

    # -------------------------------------------------------------------------- sweeps

    def _sweep(self, X: Array, batch: Batch, loss: Loss) -> tuple[Array, Array]:
        """sum_i w_i e_i of every member (n,) and their gradients (n, P).

        X (m, n_in) or (n, m, n_in); so too the arrays of the batch. Those of one member are
        C-contiguous; the whole need not be.
        """
        if self._sweeps:
            return self._sweeps.gradient(self.parameters, X, batch, loss)
        errors = self._empty(self.ensemble)
        gradients = self._empty(self.ensemble, total(self.shapes))
        for e, net in enumerate(self._members):
            error, gradients[e] = net._sweep(_of(X, e), _batch_of(batch, e), loss)
            errors[e] = error.reshape(())
        return errors, gradients

    def _forward_outputs(self, X: Array) -> Outputs:
        """z and a (n, m, n_out)."""
        z, a = (self._empty(self.ensemble, X.shape[-2], self.outputs) for _ in range(2))
        for e, net in enumerate(self._members):
            outputs = net._forward_outputs(_of(X, e))
            z[e], a[e] = outputs.z, outputs.a
        return Outputs(z, a)

    def _error(self, X: Array, batch: Batch, loss: Loss) -> Array:
        if self._sweeps:
            return self._sweeps.error(self.parameters, X, batch, loss)
        outputs = self._forward_outputs(X)
        errors = self._empty(self.ensemble)
        for e, (z, a) in enumerate(zip(outputs.z, outputs.a)):
            of_one = Outputs(z, a), _batch_of(batch, e), loss
            errors[e] = equations.sum_of_errors(self.kernels, *of_one).reshape(())
        return errors

    def _bounds(self, X: np.ndarray, batch: Batch, loss: Loss, u: float) -> np.ndarray:
        bounds = [
            net._bounds(_of(X, e), _batch_of(batch, e), loss, u)
            for e, net in enumerate(self._members)
        ]
        return np.stack(bounds)

    def _ready(self, X: Array, Y: Array, loss: str | Loss | None) -> None:
        """Every call is checked."""

    def _empty(self, *shape: int) -> Array:
        return self.kernels.arrays.empty(shape, self.dtype)

    @property
    def _losses(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.ensemble,)

    def predict(self, X: Array, micro_batch: Part = None) -> Array:
        """The outputs (n, m, n_out) for inputs X (m, n_in), shared, or (n, m, n_in)."""
        return super().predict(X, micro_batch)

    def value_and_grad(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        sample_weight: Array | None = None,
        micro_batch: Part = None,
    ) -> tuple[Losses, Parameters]:
        """The loss of every member (n,), of the net's dtype, and the gradients, `.flat` (n, P).

        X, Y and sample_weight are shared or have an axis of members, as the class says; the rest
        is as of `MLP`. Every member has the bits of that net alone with its batch.
        """
        return super().value_and_grad(X, Y, loss, sample_weight, micro_batch)

    def loss(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        sample_weight: Array | None = None,
        micro_batch: Part = None,
    ) -> Losses:
        """E of every member (n,): the forward sweep. Arguments as of `value_and_grad`."""
        return super().loss(X, Y, loss, sample_weight, micro_batch)

    # --------------------------------------------------------------------------- batches

    def _inputs(self, X: Array, k: Kernels | None = None) -> Array:
        k, shape = k or self.kernels, ("m", self.inputs)
        X = native_to(k, "X", X)
        each = (self.ensemble, *shape)
        return as_input("X", X, self.dtype, each if X.ndim == 3 else shape, k)

    def _given(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None,
        weights: Array | None,
        micro_batch: Part = None,
    ) -> tuple[Array, Loss, Batch]:
        k = self._where(X, micro_batch)
        X, chosen = self._inputs(X, k), self._loss(loss)
        Y = native_to(k, "Y", Y)
        m, each = X.shape[-2], (self.ensemble, X.shape[-2])
        rows = each if Y.ndim == 3 or self._are_labels_of_each(X, Y, chosen) else (m,)
        targets = as_targets(Y, rows, self.outputs, self.dtype, chosen, k)
        if weights is not None:
            weights = native_to(k, "sample_weight", weights)
            rows = each if weights.ndim == 2 else (m,)
            weights = as_weights(weights, rows, self.dtype, k)
        return X, chosen, Batch(targets, weights, m, self.outputs)

    def _are_labels_of_each(self, X: Array, Y: Array, loss: Loss) -> bool:
        """Whether Y holds labels (n, m), and not rows of probabilities (m, n_out)."""
        integers = loss.link == "softmax" and Y.ndim == 2 and Y.dtype.kind in "iu"
        return integers and (X.ndim == 3 or Y.shape != (X.shape[-2], self.outputs))

    # -------------------------------------------------------------------------- training

    def train_step(
        self,
        X: Array,
        Y: Array,
        loss: str | Loss | None = None,
        learning_rate: Rate | Sequence[Rate] | np.ndarray = RATE,
        sample_weight: Array | None = None,
        micro_batch: Part = None,
        optimizer: Optimizer | None = None,
    ) -> Losses:
        """One step, as of `MLP`, for every member. Returns E before it (n,).

        `learning_rate`, or that of the optimizer, is one number or schedule, or n of them, one
        for each member.
        """
        rate: Any = learning_rate
        return super().train_step(X, Y, loss, rate, sample_weight, micro_batch, optimizer)

    def _rate(self, learning_rate: Any) -> Any:
        learning_rate = to_numpy(learning_rate, "learning_rate")
        if not isinstance(learning_rate, (np.ndarray, list, tuple)):
            return super()._rate(learning_rate)
        is_list = not isinstance(learning_rate, np.ndarray)
        shape = (len(learning_rate),) if is_list else np.shape(learning_rate)
        if shape != (self.ensemble,):
            raise ValueError(
                f"learning_rate must be a number or have shape ({self.ensemble},), got {shape}"
            )
        return [
            check_rate(f"learning_rate[{e}]", x, self.dtype) for e, x in enumerate(learning_rate)
        ]

    def _descend(self, gradients: Array, rate: float | list[float]) -> None:
        """w <- w - eta dE/dw for every member."""
        update = self.kernels.update
        if isinstance(rate, float):
            update(self.parameters.reshape(-1), gradients.reshape(-1), (), DESCENT, (rate,))
            return
        for w, g, eta in zip(self.parameters, gradients, rate):
            update(w, g, (), DESCENT, (eta,))


def _kind(net: MLP) -> tuple[Any, ...]:
    return net.sizes, net.activations, net.bias, net.dtype, net.backend


def _of(x: Array, e: int) -> Array:
    """Member e's (m, k) of x, shared by all (m, k), or (n, m, k)."""
    return x if x.ndim == 2 else x[e]


def _batch_of(batch: Batch, e: int) -> Batch:
    weights = None if batch.weights is None else _of(batch.weights, e)
    return replace(batch, Y=_of(batch.Y, e), weights=weights)
