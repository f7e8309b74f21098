"""Graphs of units: any network without cycles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from deltaprop import equations, units
from deltaprop.activations import Activation, activation_named
from deltaprop.arrays import as_input, back_to, check_count, float_dtype
from deltaprop.backends import choice
from deltaprop.backends import load as load_backend
from deltaprop.bounds import unit_gradient_bounds
from deltaprop.contract import Array, Kernels, Replays
from deltaprop.devices.memory import NumpyArrays
from deltaprop.equations import Batch, OutputArrays
from deltaprop.errors import GraphError
from deltaprop.given import on_its_device
from deltaprop.graphs.blueprint import Blueprint
from deltaprop.graphs.exchange import Exchange
from deltaprop.graphs.topology import Topology, wire
from deltaprop.graphs.unit_arrays import GraphBack, GraphTrace, Rows, UnitParameters
from deltaprop.losses import Loss
from deltaprop.names import Name, as_names
from deltaprop.net import TYPICAL_BATCH, Net
from deltaprop.units import UnitOutputs, UnitTrace, Wiring

LEAST_PART, NUMBERS_IN_CACHE = 256, 1 << 20


@dataclass(frozen=True)
class _Finished:
    """A graph that computes: its order, its backend, its parameters."""

    graph: Topology
    kernels: Kernels
    numbers: UnitParameters

    @cached_property
    def wiring(self) -> Wiring:
        return wire(self.graph, self.kernels)

    @cached_property
    def replays(self) -> Replays | None:
        return self.kernels.replays() if self.kernels.replays else None


class Graph(Exchange, Net[UnitParameters]):
    """A network of units without cycles: z_j = sum_i w_ji a_i + b_j, a_j = g_j(z_j).

        g = Graph(inputs=["x1", "x2"], outputs=["y"])
        g.unit("h", activation="tanh", bias=0.1)
        g.unit("y", activation="identity")
        g.edge("x1", "h", 0.5)
        g.edge("x2", "h", -0.3)
        g.edge("h", "y", 1.2)
        g.edge("x1", "y")                    # past the hidden unit; a weight that is drawn

    Units and edges may be added and removed as long as one likes; the graph is checked when it
    computes, and `GraphError` names what is wrong with it. Names are str or int.

    Parameters
    ----------
    inputs
        Names of the inputs, the columns of X; a number n stands for "x1", ..., "xn".
    outputs
        Names of the units that are outputs, in the order of the columns of Y.
    seed
        Of the weights that no number was given for (Glorot uniform, PCG64).
    dtype
        "float32" or "float64": of parameters, activations and gradients.
    backend
        As of `MLP`.

    Attributes
    ----------
    parameters
        All weights and biases in one contiguous array; `graph["x1", "h"]` is one weight,
        `graph["h"]` one bias. Setting them changes the net. Gradients are laid out alike.
    """

    def __init__(
        self,
        inputs: Sequence[Name] | int,
        outputs: Sequence[Name],
        *,
        seed: int = 0,
        dtype: Any = "float32",
        backend: str | None = None,
    ) -> None:
        if isinstance(inputs, (int, np.integer)) and not isinstance(inputs, bool):
            inputs = [f"x{i + 1}" for i in range(check_count("inputs", inputs))]
        names = as_names("inputs", inputs)
        self._blueprint = Blueprint(len(names), as_names("outputs", outputs), names)
        self.inputs, self.outputs = len(names), len(self._blueprint.outputs)
        self._seed = check_count("seed", seed, 0)
        self.dtype = float_dtype(dtype)
        self._choice = choice(backend)
        if backend is not None and self._choice != "auto":
            load_backend(self._choice)
        self._now: _Finished | None = None

    @classmethod
    def from_blueprint(
        cls,
        blueprint: Blueprint,
        *,
        seed: int = 0,
        dtype: Any = "float32",
        backend: str | None = None,
    ) -> Graph:
        """The graph that was declared, checked."""
        graph = cls(
            blueprint.names[: blueprint.inputs],
            blueprint.outputs,
            seed=seed,
            dtype=dtype,
            backend=backend,
        )
        graph._blueprint = blueprint
        _ = graph.topology
        return graph

    def blueprint(self) -> Blueprint:
        """The graph as it is declared, with the parameters as they are now."""
        graph = self.topology
        blueprint = self._blueprint.copy()
        blueprint.keep(graph, self.kernels.arrays.to_numpy(self.parameters))
        return blueprint

    # ------------------------------------------------------------------------- building

    def unit(
        self,
        name: Name,
        activation: str | Activation = "logistic",
        bias: float | None = 0.0,
    ) -> None:
        """Adds a unit with an activation and a bias; None for a unit without one."""
        g = activation_named(activation)
        self._change()
        self._blueprint.unit(name, g, bias)

    def edge(self, source: Name, target: Name, weight: float | None = None) -> None:
        """Adds an edge between two units. Without a weight, one is drawn."""
        self._change()
        self._blueprint.edge(source, target, weight)

    def remove_edge(self, source: Name, target: Name) -> None:
        """Takes an edge back; all other parameters stay.

        Raises `GraphError` if there is no such edge.
        """
        self._change()
        self._blueprint.remove_edge(source, target)

    def remove_unit(self, name: Name) -> None:
        """Takes a unit back with all its edges; all other parameters stay.

        An output has to be declared again before the graph computes. Raises `GraphError` for
        an input, and if there is no such unit.
        """
        self._change()
        self._blueprint.remove_unit(name)

    def _change(self) -> None:
        """Back to the blueprint, with the parameters as they are now."""
        if self._now is not None:
            self._blueprint, self._now = self.blueprint(), None

    @property
    def _finished(self) -> _Finished:
        if self._now is None:
            graph = self._blueprint.topology()
            flat = _rounded(self._blueprint.values(graph, self._seed), self.dtype, graph)
            self._now = _finish(graph, flat, self._choice)
        return self._now

    @property
    def topology(self) -> Topology:
        """The shape of the graph. Raises `GraphError` where it has no forward sweep."""
        return self._finished.graph

    def __getitem__(self, key: Name | tuple[Name, Name]) -> float:
        return self._parameters[key]

    def __setitem__(self, key: Name | tuple[Name, Name], value: float) -> None:
        self._parameters[key] = value

    def __repr__(self) -> str:
        b = self._blueprint
        return (
            f"Graph({b.inputs} inputs, {len(b.names) - b.inputs} units, {b.edges} edges, "
            f"{len(b.outputs)} outputs; {self.dtype}, backend {self._choice!r})"
        )

    def to(self, backend: str | None = None, dtype: Any = None) -> Graph:
        """A copy of the graph on another backend, of another dtype.

        Going to float32 rounds the parameters.
        """
        now = self._finished
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._blueprint = self._blueprint.copy()
        other._choice = self._choice if backend is None else choice(backend)
        other.dtype = self.dtype if dtype is None else float_dtype(dtype)
        flat = np.array(now.kernels.arrays.to_numpy(self.parameters), other.dtype)
        other._now, other._state = _finish(now.graph, flat, other._choice), None
        return other

    def __getstate__(self) -> dict[str, Any]:
        """The graph as it is declared, the backend by name: a copy of it computes anew."""
        blueprint = self._blueprint.copy() if self._now is None else self.blueprint()
        return {**self.__dict__, "_blueprint": blueprint, "_now": None, "_state": None}

    # What `Net` asks for.

    @property
    def kernels(self) -> Kernels:
        """The backend in use."""
        return self._finished.kernels

    @property
    def _parameters(self) -> UnitParameters:
        return self._finished.numbers

    @property
    def _output_activations(self) -> Sequence[Activation]:
        return self.topology.output_activations

    @property
    def _replays(self) -> Replays | None:  # type: ignore[override]
        return self._finished.replays

    def _like_parameters(self, flat: Array) -> UnitParameters:
        return UnitParameters(flat, self.topology)

    # -------------------------------------------------------------------------- sweeps

    def _forward(self, X: Array, keep_z: bool = False) -> UnitTrace:
        now = self._finished
        return units.forward(now.kernels, now.wiring, self.parameters, X, keep_z)

    def _forward_outputs(self, X: Array) -> OutputArrays:
        return self._forward(X).outputs

    def _sweep(self, X: Array, batch: Batch, loss: Loss) -> tuple[Array, Array]:
        now, k = self._finished, self.kernels
        trace = self._forward(X)
        error = equations.sum_of_errors(k, trace.outputs, batch, loss)
        gradient = k.arrays.empty(self.parameters.shape, X.dtype)
        units.backward(k, now.wiring, self.parameters, trace, batch, loss, gradient)
        return error, gradient

    def _part(self) -> int | None:
        """On a CPU, as many samples as its caches hold for all units: rows lie that far apart."""
        if not isinstance(self.kernels.arrays, NumpyArrays):
            return None
        fit = NUMBERS_IN_CACHE // self.topology.units
        return max(LEAST_PART, 1 << fit.bit_length() >> 1)

    def _bytes(self) -> int:
        """Of a sample: X and Y; z, a and delta of every unit; outputs put together."""
        return self.dtype.itemsize * (self.inputs + 4 * self.outputs + 3 * self.topology.units)

    def _bounds(self, X: np.ndarray, batch: Batch, loss: Loss, u: float) -> np.ndarray:
        here = self.to("numpy", "float64")
        return unit_gradient_bounds(here._finished.wiring, here.parameters, X, batch, loss, u)

    @on_its_device
    def forward(self, X: Array) -> GraphTrace:
        """z and a of every unit, by name."""
        graph, back = self.topology, back_to(X, self.kernels)
        a, z, _ = self._forward(self._inputs(X), keep_z=True)
        rows = self.kernels.arrays.empty((graph.units - graph.inputs, a.shape[1]), self.dtype)
        for part, z_part in zip(self._finished.wiring.parts, z):
            rows[_after(part.rows, graph.inputs)] = z_part
        return GraphTrace(
            Rows(back(rows), graph, graph.inputs), Rows(back(a[: graph.units]), graph, 0)
        )

    @on_its_device
    def backward(
        self,
        trace: GraphTrace,
        Y: Array,
        loss: str | Loss | None = None,
        sample_weight: Array | None = None,
    ) -> GraphBack:
        """delta and slope of every unit and all gradients, from a `forward` of this graph.

        Arguments as of `value_and_grad`.
        """
        k, here = self.kernels, self._trace_here(trace)
        chosen, batch = self._batch(Y, loss, sample_weight, here.a.shape[1])
        gradient = k.arrays.empty(self.parameters.shape, self.dtype)
        given = here, batch, chosen, gradient
        delta = units.backward(k, self._finished.wiring, self.parameters, *given)
        return self._back(back_to(trace.a.array, k), here, delta, gradient)

    @on_its_device
    def pull_back(self, trace: GraphTrace, upstream: Array) -> GraphBack:
        """delta and slope of every unit, all gradients and dE/dX, for any E of the outputs.

        `trace` is from a `forward` of this graph with the same parameters, `upstream`
        (m, outputs) is dE/da of the outputs, of the graph's dtype. Raises TypeError for another
        kind or dtype, ValueError for another shape.
        """
        k, here = self.kernels, self._trace_here(trace)
        shape = here.a.shape[1], self.outputs
        upstream = as_input("upstream", upstream, self.dtype, shape, k)
        gradient = k.arrays.empty(self.parameters.shape, self.dtype)
        given = here, upstream, gradient
        delta = units.pull_back(k, self._finished.wiring, self.parameters, *given)
        return self._back(back_to(trace.a.array, k), here, delta, gradient)

    def _back(
        self, back: Callable[[Array], Array], here: UnitTrace, delta: Array, gradient: Array
    ) -> GraphBack:
        """What a backward sweep found, in the caller's kind of array."""
        now, k, graph = self._finished, self.kernels, self.topology
        dX = units.input_gradient(k, now.wiring, self.parameters, here, delta)
        slope = k.arrays.empty((graph.units - graph.inputs, here.a.shape[1]), self.dtype)
        for part, z_part in zip(now.wiring.parts, here.z):
            g, rows = part.activation, _after(part.rows, graph.inputs)
            slope[rows] = k.apply(g.slope, equations.slope_argument(g, z_part, here.a[part.rows]))
        return GraphBack(
            Rows(back(delta[graph.inputs :]), graph, graph.inputs),
            Rows(back(slope), graph, graph.inputs),
            UnitParameters(back(gradient), graph),
            back(dX.T.copy()),
        )

    def _trace_here(self, trace: GraphTrace) -> UnitTrace:
        """The trace on this graph's backend, its shape checked."""
        if not isinstance(trace, GraphTrace):
            raise TypeError(f"trace must be what forward returned, got {type(trace).__name__}")
        graph, k = self.topology, self.kernels
        if not (graph.is_like(trace.a.graph) and graph.is_like(trace.z.graph)):
            raise ValueError("trace is of another graph, or of this one before it was changed")
        given = as_input("trace.a", trace.a.array, self.dtype, (graph.units, "m"), k)
        m = given.shape[1]
        shape = (graph.units - graph.inputs, m)
        z = as_input("trace.z", trace.z.array, self.dtype, shape, k)
        a = k.arrays.empty((graph.units + 1, m), self.dtype)
        a[:-1], a[-1] = given, 1
        wiring = self._finished.wiring
        parts = [z[_after(part.rows, graph.inputs)] for part in wiring.parts]
        return UnitTrace(a, parts, UnitOutputs(k, wiring, a, parts))


def _after(rows: slice, inputs: int) -> slice:
    """Those rows, counted from the first unit that is no input."""
    return slice(rows.start - inputs, rows.stop - inputs)


def _rounded(values: np.ndarray, dtype: np.dtype[Any], graph: Topology) -> np.ndarray:
    """The declared numbers in the graph's dtype. `GraphError` for one that is too large for it."""
    with np.errstate(over="ignore"):
        flat = values.astype(dtype)
    lost = np.flatnonzero(np.isinf(flat) & np.isfinite(values))
    if lost.size:
        where = UnitParameters(flat, graph).where(int(lost[0]))
        raise GraphError(f"{dtype} cannot hold the number of {where}, {values[lost[0]]}")
    return flat


def _finish(graph: Topology, flat: np.ndarray, backend: str) -> _Finished:
    k = load_backend(backend, 3 * TYPICAL_BATCH * len(graph.source))
    return _Finished(graph, k, UnitParameters(k.arrays.asarray(flat), graph))
