"""Narrow layered nets on a GPU: forward, loss, backward and all gradients in one launch.

What whole_sweep.cu keeps on a processor decides which nets are narrow: the activations of 64
samples, of every layer.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from deltaprop.activations import IDENTITY
from deltaprop.backends.grids import ceil_div
from deltaprop.backends.launches import Launches
from deltaprop.contract import LEAF_SAMPLES, Array, Form, Steps
from deltaprop.devices.unit import Unit
from deltaprop.elementary import exp, log
from deltaprop.equations import Batch
from deltaprop.losses import LOSSES, Loss
from deltaprop.optimizers import DESCENT
from deltaprop.scalar import Rule

WIDEST = 128
"""Units of the widest layer."""

THREADS = 128
STAGES = 2 * 16
"""Terms of weights that are in shared memory at once, each of up to 64 units."""

SECOND_PASS = 1 / 64
"""What a block returns costs at most so much of the time that a leaf of samples takes."""

STEPS = 1024
"""That one launch takes at most: nobody can interrupt it."""

OUTPUTS, ERROR, GRADIENT = 0, 1, 2
"""WHAT a launch is for."""


class Memory:
    """Rows of shared memory, of 64 samples each: a of every layer, and z where it is needed."""

    def __init__(self, form: Form) -> None:
        self.rows = 0
        need_z = [False, *(g.slope_of == "z" for g in form.activations[:-1]), True]
        self.a = [self._next(n) for n in form.sizes]
        self.z = [self._next(n) if needed else -1 for n, needed in zip(form.sizes, need_z)]
        chunk = 16 // form.dtype.itemsize
        self.bytes = self.rows * (LEAF_SAMPLES + chunk) * form.dtype.itemsize
        fixed = STAGES * (64 + chunk) + LEAF_SAMPLES
        self.with_stages = self.bytes + fixed * form.dtype.itemsize

    def _next(self, units: int) -> int:
        """The first of so many rows more, up to a multiple of four."""
        first = self.rows
        self.rows += ceil_div(units, 4) * 4
        return first


def is_narrow(form: Form, shared_memory: int) -> bool:
    """Whether whole_sweep.cu takes nets of that form, with so many bytes of shared memory."""
    alike = len(set(form.activations[:-1])) <= 1
    return alike and max(form.sizes) <= WIDEST and Memory(form).with_stages <= shared_memory


@lru_cache(4096)
def run_of(leaves: int, members: int, places: int) -> int:
    """How many leaves a block takes, a power of two, where so many blocks run at once.

    The time until the last block is done, and that of the second pass over what blocks return.
    """

    def time(run: int) -> float:
        slices = ceil_div(leaves, run)
        return ceil_div(slices * members, places) * run + SECOND_PASS * slices * members

    return min((1 << i for i in range((leaves - 1).bit_length() + 1)), key=time)


class NarrowSweeps:
    """The `Sweeps` of a narrow form."""

    def __init__(self, form: Form, table: Launches) -> None:
        self.form, self.table, self.device = form, table, table.device
        self.memory = Memory(form)
        self.places = self.device.processors * max(
            1, self.device.shared_memory // self.memory.with_stages
        )
        self.layers = self.device.asarray(self._layers())

    def _layers(self) -> np.ndarray:
        """For each layer: units, rows of a and z, where W and b begin in the parameters."""
        W, b, at = [-1], [-1], 0
        for n_in, n in pairwise(self.form.sizes):
            W.append(at)
            b.append(at + n * n_in if self.form.bias else -1)
            at += n * (n_in + self.form.bias)
        columns = self.form.sizes, self.memory.a, self.memory.z, W, b
        return np.array(columns, np.int64).T.copy()

    def outputs(self, parameters: Array, X: Array) -> Array:
        """a^L (m, n), or (members, m, n)."""
        shape = (*parameters.shape[:-1], X.shape[-2], self.form.sizes[-1])
        a = self.device.empty(shape, parameters.dtype)
        self._launch(OUTPUTS, LOSSES["half_sse"], parameters, X, outputs=a)
        return a

    def error(self, parameters: Array, X: Array, batch: Batch, loss: Loss) -> Array:
        """The errors alone."""
        sums = self._launch(ERROR, loss, parameters, X, batch)
        return sums[parameters.size :]

    def gradient(
        self, parameters: Array, X: Array, batch: Batch, loss: Loss
    ) -> tuple[Array, Array]:
        """The errors, and the gradient, laid out as the parameters are."""
        sums = self._launch(GRADIENT, loss, parameters, X, batch)
        return sums[parameters.size :], sums[: parameters.size].reshape(*parameters.shape)

    def step(
        self, parameters: Array, X: Array, batch: Batch, loss: Loss, rate: float | list[float]
    ) -> Array:
        """The errors; then w <- fma(-eta, dE/dw, w)."""
        m, size = X.shape[-2], parameters.size
        steps = Steps(rate, m) if self._is_one_block(parameters, m) else None
        sums = self._launch(GRADIENT, loss, parameters, X, batch, steps=steps)
        if steps is None:
            self._descend(parameters, sums[:size], rate)
        return sums[size:]

    def steps(
        self, parameters: Array, X: Array, batch: Batch, loss: Loss, steps: Steps
    ) -> list[Array] | None:
        """The errors of those steps, each taken before it: (some steps, members), launch by launch.

        None where a step is more than a block computes.
        """
        if not self._is_one_block(parameters, min(steps.size, len(steps.order))):
            return None
        members, found = self._members(parameters), []
        for start in range(0, len(steps.order), STEPS * steps.size):
            some = steps._replace(order=steps.order[start : start + STEPS * steps.size])
            sums = self._launch(GRADIENT, loss, parameters, X, batch, steps=some)
            found.append(sums[parameters.size :].reshape(-1, members))
        return found

    def _is_one_block(self, parameters: Array, samples: int) -> bool:
        """Whether one block takes all leaves of a step, so that it may update the parameters."""
        leaves = ceil_div(samples, LEAF_SAMPLES)
        return run_of(leaves, self._members(parameters), self.places) >= leaves

    def ready(self, X: Any, Y: Any, name: str | Loss | None) -> None:
        """Every call is checked."""

    def is_ready(self, name: str | Loss | None, loss: Loss) -> None:
        """Nothing is kept."""

    @staticmethod
    def _members(parameters: Array) -> int:
        return 1 if parameters.ndim == 1 else len(parameters)

    def _launch(
        self,
        what: int,
        loss: Loss,
        parameters: Array,
        X: Array,
        batch: Batch | None = None,
        outputs: Array | None = None,
        steps: Steps | None = None,
    ) -> Array:
        """Gradients, then errors, of all members in one array; with `steps` of each step."""
        device, dtype, count = self.device, parameters.dtype, self.form.count
        m = X.shape[-2] if steps is None or steps.order is None else len(steps.order)
        members, size = self._members(parameters), min(steps.size, m) if steps else m
        run = run_of(ceil_div(size, LEAF_SAMPLES), members, self.places)
        slices, levels = ceil_div(size, run * LEAF_SAMPLES), max(1, run.bit_length() - 1)
        sums = device.empty((members * (count + ceil_div(m, size)),), dtype)
        nodes = self.table.nodes(slices, sums)
        work = device.empty((members * slices * levels * (count + 1),), dtype)
        Y, weights = (batch.Y, batch.weights) if batch else (None, None)
        order, eta = (steps.order, steps.rate) if steps else (None, 0.0)
        rates = None if isinstance(eta, float) else device.asarray(np.array(eta, dtype))
        flat = nodes.reshape(-1)
        sums_of_blocks = flat, flat[members * count :], work
        arrays = parameters, X, Y, weights, outputs, *sums_of_blocks, rates, order, self.layers
        strides = _step(X), _step(Y), _step(weights), sums.size
        numbers = len(self.form.sizes) - 1, m, size, count, *strides, run, levels, int(bool(steps))
        scales = _scales(loss, batch, m, steps) if batch else (0.0, 0.0)
        reals = map(dtype.type, (*scales, eta if rates is None else 0.0))
        grid, block = (members, slices, 1), (THREADS, 1, 1)
        args = *arrays, *numbers, *reals
        device.launch(self._unit(what, loss), grid, block, args, self.memory.bytes)
        if what != OUTPUTS:
            self.table.tree_sum(nodes, sums)
        return sums

    def _descend(self, parameters: Array, gradient: Array, rate: float | list[float]) -> None:
        if isinstance(rate, float):
            self.table.update(parameters.reshape(-1), gradient, (), DESCENT, (rate,))
            return
        for w, g, eta in zip(parameters, gradient.reshape(*parameters.shape), rate):
            self.table.update(w, g, (), DESCENT, (eta,))

    def _unit(self, what: int, loss: Loss) -> Unit:
        """The kernel with the rules it calls, by the names it calls them by."""
        *hidden, output = self.form.activations
        g = hidden[0] if hidden else IDENTITY
        # With a canonical link the slope has cancelled: it is 1.
        last = IDENTITY if loss.link else output
        left, right = loss.factors
        rules: dict[str, Rule] = {"value": g.value, "slope": g.slope}
        rules |= {"output_value": output.value, "output_slope": last.slope}
        rules |= {"residual": loss.residual, "left": left, "right": right}
        if output.rowwise:
            rules |= {"exp": exp, "log": log}
        constants = (
            ("WHAT", what),
            ("SOFTMAX", int(output.rowwise)),
            ("LOSS_OF_Z", int(loss.of == "z")),
            ("HIDDEN_SLOPE_OF_Z", int(g.slope_of == "z")),
            ("OUTPUT_SLOPE_OF_Z", int(last.slope_of == "z")),
        )
        return self.table.unit("whole_sweep", self.form.dtype, 1, rules, None, constants)


def _scales(loss: Loss, batch: Batch, m: int, steps: Steps | None) -> tuple[float, float]:
    """Of delta: in a step of so many samples, and in the last one, which may be smaller."""
    if steps is None:
        scale = loss.delta_scale(batch.samples, batch.outputs)
        return scale, scale
    size = min(steps.size, m)
    last = m % size or size
    return loss.delta_scale(size, batch.outputs), loss.delta_scale(last, batch.outputs)


def _step(x: Array | None) -> int:
    """From one member's part of x to the next one's, in reals; 0 where it is for all of them."""
    return 0 if x is None or x.ndim == 2 else int(x.strides[0]) // int(x.dtype.itemsize)
