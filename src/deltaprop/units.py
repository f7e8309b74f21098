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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from deltaprop import equations
from deltaprop.activations import IDENTITY, Activation
from deltaprop.contract import Array, Fan, Kernels
from deltaprop.equations import Batch, Outputs
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


class UnitTrace(NamedTuple):
    """a (units + 1, m), z (n, m) of each part that keeps it, and the outputs."""

    a: Array
    z: Sequence[Array | None]
    outputs: Outputs


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
    return UnitTrace(a, z, outputs(k, wiring, a, z))


def outputs(k: Kernels, wiring: Wiring, a: Array, z: Sequence[Array | None]) -> Outputs:
    """z and a of the outputs, samples as rows; a softmax takes the whole row."""
    shape = (a.shape[1], wiring.outputs)
    found = Outputs(k.arrays.empty(shape, a.dtype), k.arrays.empty(shape, a.dtype))
    last = [(part, z_part) for part, z_part in zip(wiring.parts, z) if part.columns is not None]
    for part, z_part in last:
        found.z[:, part.columns] = z_part.T  # type: ignore[union-attr]
        found.a[:, part.columns] = a[part.rows].T
    if not last[0][0].activation.rowwise:
        return found
    p = k.softmax(found.z)
    for part, _ in last:
        a[part.rows] = p[:, part.columns].T
    return Outputs(found.z, p)


def backward(
    k: Kernels,
    wiring: Wiring,
    parameters: Array,
    trace: UnitTrace,
    batch: Batch,
    loss: Loss,
    gradient: Array,
) -> Array:
    """From the outputs back: fills `gradient` and returns delta (units, m), inputs left out."""
    a, z, _ = trace
    delta = k.arrays.empty((wiring.units, a.shape[1]), a.dtype)
    for part, z_part in reversed(list(zip(wiring.parts, z))):
        if part.columns is not None:
            delta[part.rows] = _output_delta(k, part, trace.outputs, batch, loss).T
        if part.outgoing is not None:
            g = part.activation
            s = a[part.rows] if g.slope_of == "a" else z_part
            w = parameters[part.leaving]
            own = None if part.columns is None else delta[part.rows]
            k.edge_delta(delta, part.outgoing, w, s, g, own, delta[part.rows])
    k.edge_gradient(delta, a, wiring.target, wiring.source, gradient)
    return delta


def _output_delta(k: Kernels, part: Part, outputs: Outputs, batch: Batch, loss: Loss) -> Array:
    """delta (m, n) of the outputs in a part."""
    if isinstance(part.columns, slice):
        return equations.output_delta(k, outputs, part.activation, batch, loss)
    own = Outputs(*(x.take(part.columns, axis=1) for x in outputs))
    targets = replace(batch, Y=batch.Y.take(part.columns, axis=1))
    return equations.output_delta(k, own, part.activation, targets, loss)


def input_gradient(
    k: Kernels, wiring: Wiring, parameters: Array, trace: UnitTrace, delta: Array
) -> Array:
    """dE/dx_i = sum_j w_ji delta_j: (inputs, m)."""
    x, w = trace.a[: wiring.inputs], parameters[wiring.inputs_leaving]
    return k.edge_delta(delta, wiring.inputs_outgoing, w, x, IDENTITY, None, None)
