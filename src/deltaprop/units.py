"""Backpropagation unit by unit, in a graph without cycles, stated once.

    forward     z_j = sum_i w_ji a_i + b_j               a_j = g_j(z_j)
    output      delta_j = (dE/da_j) * g_j'(z_j)
    hidden      delta_i = (sum_j w_ji delta_j) * g_i'(z_i)
    gradients   dE/dw_ji = sum over samples delta_j a_i  dE/db_j = sum over samples delta_j

The sum over j goes over all units that unit i leads to: every path to an output counts. An
output that leads on has both deltas, added. A bias is the weight of an edge from a unit that
is always 1.

A unit is a row of `a`, z and delta, samples are columns. Rows are in the order of evaluation:
inputs first, then part after part; the last row of `a` is the 1 that biases come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from deltaprop import equations
from deltaprop.activations import IDENTITY, Activation
from deltaprop.contract import Array, Fan, Kernels
from deltaprop.equations import Batch, OutputArrays, Outputs
from deltaprop.losses import Loss


class Part(NamedTuple):
    """Units of one activation that do not feed each other, computed together.

    `weights` and `biases` say where theirs lie in the parameters, `leaving` where those of
    their outgoing edges do; outputs that lead nowhere have no `outgoing`. `columns` says which
    outputs they are; None for hidden units.
    """

    rows: slice
    activation: Activation
    incoming: Fan
    weights: slice
    biases: slice | None
    outgoing: Fan | None
    leaving: Array | None
    columns: Array | slice | None


@dataclass(frozen=True)
class Wiring:
    """A graph as the kernels take it, on one backend.

    `target` and `source` (parameters,) int32 are the rows at the two ends of every parameter,
    weights first, then biases. `inputs_outgoing` and `inputs_leaving` are as in a `Part`.
    """

    inputs: int
    units: int
    outputs: int
    parts: Sequence[Part]
    target: Array
    source: Array
    inputs_outgoing: Fan
    inputs_leaving: Array


@dataclass(frozen=True)
class UnitOutputs:
    """z and a (m, n) of the outputs, samples as rows: put together when they are asked for."""

    k: Kernels
    wiring: Wiring
    rows_of_a: Array
    z_parts: Sequence[Array | None]

    @cached_property
    def z(self) -> Array:
        """The pre-activations."""
        return self._together(self.z_parts)

    @cached_property
    def a(self) -> Array:
        """The activations; a softmax takes the whole row."""
        last = [part for part in self.wiring.parts if part.columns is not None]
        if last[0].activation.rowwise:
            return self.k.softmax(self.z)
        return self._together([self.rows_of_a[part.rows] for part in self.wiring.parts])

    def _together(self, of_parts: Sequence[Array | None]) -> Array:
        x = self.rows_of_a
        found = self.k.arrays.empty((x.shape[1], self.wiring.outputs), x.dtype)
        for part, of_part in zip(self.wiring.parts, of_parts):
            if part.columns is not None:
                found[:, part.columns] = of_part.T  # type: ignore[union-attr]
        return found


class UnitTrace(NamedTuple):
    """a (units + 1, m), z (n, m) of each part that keeps it, and the outputs."""

    a: Array
    z: Sequence[Array | None]
    outputs: UnitOutputs


def forward(
    k: Kernels, wiring: Wiring, parameters: Array, X: Array, keep_z: bool = False
) -> UnitTrace:
    """a_j = g_j(sum_i w_ji a_i + b_j), part after part.

    z is kept where the slope is taken from it, of outputs, and with `keep_z`.
    """
    m, n_in = len(X), wiring.inputs
    a = k.arrays.empty((wiring.units + 1, m), X.dtype)
    a[:n_in] = X.T
    a[wiring.units] = 1
    z: list[Array | None] = []
    for part in wiring.parts:
        g, rows = part.activation, part.rows
        kept = keep_z or g.slope_of == "z" or part.columns is not None
        w = parameters[part.weights]
        b = None if part.biases is None else parameters[part.biases]
        z_part, _ = k.edge_forward(a, part.incoming, w, b, g, kept, a[rows])
        z.append(z_part)
    outputs = UnitOutputs(k, wiring, a, z)
    for part in wiring.parts:
        if part.columns is not None and part.activation.rowwise:
            a[part.rows] = outputs.a[:, part.columns].T
    return UnitTrace(a, z, outputs)


def backward(
    k: Kernels,
    wiring: Wiring,
    parameters: Array,
    trace: UnitTrace,
    batch: Batch,
    loss: Loss,
    gradient: Array,
) -> Array:
    """From a loss back: fills `gradient` and returns delta (units, m), inputs left out."""

    def output_delta(part: Part) -> Array:
        return _output_delta(k, part, trace.outputs, batch, loss)

    return _way_back(k, wiring, parameters, trace, output_delta, gradient)


def pull_back(
    k: Kernels,
    wiring: Wiring,
    parameters: Array,
    trace: UnitTrace,
    upstream: Array,
    gradient: Array,
) -> Array:
    """As `backward`, for any E of which `upstream` (m, n) = dE/da of the outputs is known."""

    def output_delta(part: Part) -> Array:
        g, outputs = part.activation, trace.outputs
        if g.rowwise:
            return equations.pulled_delta(k, outputs, g, upstream)[:, part.columns]
        own = _of(part, upstream)
        return equations.pulled_delta(k, _outputs_of(part, outputs), g, own)

    return _way_back(k, wiring, parameters, trace, output_delta, gradient)


def _way_back(
    k: Kernels,
    wiring: Wiring,
    parameters: Array,
    trace: UnitTrace,
    output_delta: Callable[[Part], Array],
    gradient: Array,
) -> Array:
    """From the delta of outputs (m, n), part by part, to the gradient."""
    a, z, _ = trace
    delta = k.arrays.empty((wiring.units, a.shape[1]), a.dtype)
    for part, z_part in reversed(list(zip(wiring.parts, z))):
        if part.columns is not None:
            delta[part.rows] = output_delta(part).T
        if part.outgoing is not None:
            g = part.activation
            s = equations.slope_argument(g, z_part, a[part.rows])
            w = parameters[part.leaving]
            own = None if part.columns is None else delta[part.rows]
            k.edge_delta(delta, part.outgoing, w, s, g, own, delta[part.rows])
    k.edge_gradient(delta, a, wiring.target, wiring.source, gradient)
    return delta


def _output_delta(k: Kernels, part: Part, outputs: UnitOutputs, batch: Batch, loss: Loss) -> Array:
    """delta (m, n) of the outputs in a part."""
    own, targets = _outputs_of(part, outputs), replace(batch, Y=_of(part, batch.Y))
    return equations.output_delta(k, own, part.activation, targets, loss)


def _outputs_of(part: Part, outputs: UnitOutputs) -> OutputArrays:
    """z and a (m, n) of the outputs in a part."""
    if isinstance(part.columns, slice):
        return outputs
    return Outputs(_of(part, outputs.z), _of(part, outputs.a))


def _of(part: Part, x: Array) -> Array:
    """The columns of x that belong to the outputs in a part, C-contiguous."""
    return x if isinstance(part.columns, slice) else x.take(part.columns, axis=1)


def input_gradient(
    k: Kernels, wiring: Wiring, parameters: Array, trace: UnitTrace, delta: Array
) -> Array:
    """dE/dx_i = sum_j w_ji delta_j: (inputs, m)."""
    x, w = trace.a[: wiring.inputs], parameters[wiring.inputs_leaving]
    return k.edge_delta(delta, wiring.inputs_outgoing, w, x, IDENTITY, None, None)
