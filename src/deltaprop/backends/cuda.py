"""The launch table: which unit each kernel is, its grid, its block and its arguments.

Written once against a small device interface, for a GPU (the `cuda` backend) and for the
same sources on the CPU (`cuda-host`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deltaprop.activations import Activation
from deltaprop.backends.grids import TILES, ceil_div, columns, rows, runs
from deltaprop.backends.launches import THREADS, Device, Launches, levels
from deltaprop.backends.narrow import NarrowSweeps, is_narrow
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES, Array, Fan, Form, Kernels, Replays
from deltaprop.devices.unit import Tile
from deltaprop.elementary import exp, log
from deltaprop.losses import Loss
from deltaprop.scalar import Rule

EDGE_THREADS = 64
"""Of a block of edge_gradient.cu, an edge each."""


class Table(Launches):
    """The kernels of the contract as launches on a device."""

    def apply(self, f: Rule, x: Array) -> Array:
        y = self.device.empty(x.shape, x.dtype)
        self.map("apply", x.size, (x, y, x.size), f=f)
        return y

    def dense_forward(
        self, a_in: Array, W: Array, b: Array | None, g: Activation, keep_z: bool
    ) -> tuple[Array | None, Array]:
        m, (n, n_in) = len(a_in), W.shape
        z = self.device.empty((m, n), W.dtype) if keep_z else None
        a = self.device.empty((m, n), W.dtype)
        args = (a_in, W, b, z, a, m, n, n_in)
        divided = self.grid(m, n, n_in, LEAF_FEATURES, W)
        self.product("dense_forward", divided, LEAF_FEATURES, args, value=g.value)
        return z, a

    def softmax(self, z: Array) -> Array:
        p = self.device.empty(z.shape, z.dtype)
        self.rows("softmax", 1, (z, p), exp=exp)
        return p

    def log_softmax(self, z: Array) -> Array:
        log_p = self.device.empty(z.shape, z.dtype)
        self.rows("log_softmax", 2, (z, log_p), exp=exp, log=log)
        return log_p

    def sample_loss(self, s: Array, Y: Array, loss: Loss) -> Array:
        left, right = loss.factors
        e = self.device.empty((len(s), 1), s.dtype)
        self.rows("sample_loss", 2, (s, Y, e), left=left, right=right)
        return e

    def rows(self, kernel: str, tiles: int, arrays: tuple[Any, ...], **rules: Rule) -> None:
        """A kernel of rows.cuh, for rows of the first array and so many tiles."""
        (m, n), dtype, here = arrays[0].shape, arrays[0].dtype, self.device
        memory = here.processors, here.shared_memory
        divided = rows(m, n, LEAF_FEATURES, tiles, dtype.itemsize, *memory)
        unit = self.unit(kernel, dtype, levels(n, LEAF_FEATURES), rules)
        args = (*arrays, m, n, divided.rows, divided.lanes, divided.room)
        blocks, threads = ceil_div(m, divided.rows), divided.threads
        here.launch(unit, (blocks, 1, 1), (threads, 1, 1), args, divided.shared)

    def output_delta(
        self,
        a: Array,
        Y: Array,
        s: Array,
        weights: Array | None,
        loss: Loss,
        g: Activation,
        scale: float,
        db: Array | None,
    ) -> Array:
        delta = self.device.empty(a.shape, a.dtype)
        arrays = (a, Y, s, weights, delta)
        rules = {"residual": loss.residual, "slope": g.slope}
        self.column_sums("output_delta", arrays, db, (a.dtype.type(scale),), **rules)
        return delta

    def fused_delta(self, d: Array, s: Array, g: Activation, db: Array | None) -> Array:
        delta = self.device.empty(d.shape, d.dtype)
        self.column_sums("fused_delta", (d, s, delta), db, slope=g.slope)
        return delta

    def softmax_delta(self, a: Array, upstream: Array) -> Array:
        delta = self.device.empty(a.shape, a.dtype)
        self.rows("softmax_delta", 2, (a, upstream, delta))
        return delta

    def hidden_delta(self, delta_next: Array, W_next: Array, s: Array, g: Activation) -> Array:
        m, (n_next, n) = len(delta_next), W_next.shape
        delta = self.device.empty((m, n), s.dtype)
        args = (delta_next, W_next, s, delta, m, n, n_next)
        divided = self.grid(m, n, n_next, LEAF_FEATURES, s)
        self.product("hidden_delta", divided, LEAF_FEATURES, args, slope=g.slope)
        return delta

    def weight_gradient(self, delta: Array, a_in: Array, out: Array | None) -> Array:
        m, n, n_in = len(delta), delta.shape[1], a_in.shape[1]
        dW = self.device.empty((n, n_in), delta.dtype) if out is None else out
        g = self.grid(n, n_in, m, LEAF_SAMPLES, delta, sliced=True)
        nodes = self.nodes(g.slices, dW)
        args = (delta, a_in, nodes, m, n, n_in, g.terms)
        self.product("weight_gradient", g, LEAF_SAMPLES, args)
        self.tree_sum(nodes, dW)
        return dW

    def bias_gradient(self, delta: Array, out: Array | None) -> Array:
        db = self.device.empty(delta.shape[1:], delta.dtype) if out is None else out
        self.column_sums("bias_gradient", (delta,), db)
        return db

    def column_sums(
        self,
        kernel: str,
        arrays: tuple[Any, ...],
        db: Array | None,
        numbers: tuple[Any, ...] = (),
        **rules: Rule,
    ) -> None:
        """A kernel made of column_sums, for arrays as the first one is; `db` may be None."""
        m, n = arrays[0].shape
        divided = columns(n, m, LEAF_SAMPLES, self.device.processors)
        nodes = None if db is None else self.nodes(divided.slices, db)
        args = (*arrays, nodes, *numbers, m, n, divided.leaves, divided.terms)
        unit = self.unit(kernel, arrays[0].dtype, levels(divided.terms, LEAF_SAMPLES), rules)
        self.device.launch(unit, (divided.across, divided.slices, 1), (THREADS, 1, 1), args)
        if db is not None:
            self.tree_sum(nodes, db)

    def edge_forward(
        self,
        a: Array,
        fan: Fan,
        w: Array,
        b: Array | None,
        g: Activation,
        keep_z: bool,
        out: Array | None,
    ) -> tuple[Array | None, Array]:
        n, m = len(fan.start) - 1, a.shape[1]
        z = self.device.empty((n, m), a.dtype) if keep_z else None
        out = self.device.empty((n, m), a.dtype) if out is None else out
        args = (a, fan.start, fan.peer, w, b, z, out, n, m)
        self.each("edge_forward", n, m, args, levels(fan.longest, LEAF_FEATURES), value=g.value)
        return z, out

    def edge_delta(
        self,
        delta: Array,
        fan: Fan,
        w: Array,
        s: Array,
        g: Activation,
        own: Array | None,
        out: Array | None,
    ) -> Array:
        n, m = s.shape
        out = self.device.empty((n, m), s.dtype) if out is None else out
        args = (delta, fan.start, fan.peer, w, s, own, out, n, m)
        self.each("edge_delta", n, m, args, levels(fan.longest, LEAF_FEATURES), slope=g.slope)
        return out

    def edge_gradient(
        self, delta: Array, a: Array, target: Array, source: Array, out: Array | None
    ) -> Array:
        m, edges = delta.shape[1], len(target)
        dw = self.device.empty((edges,), delta.dtype) if out is None else out
        slices, terms = runs(edges, m, LEAF_SAMPLES, self.device.processors)
        nodes = self.nodes(slices, dw)
        unit = self.unit("edge_gradient", delta.dtype, levels(terms, LEAF_SAMPLES), {})
        blocks = slices * ceil_div(edges, EDGE_THREADS)
        args = (delta, a, target, source, nodes, edges, m, terms)
        self.device.launch(unit, (blocks, 1, 1), (EDGE_THREADS, 1, 1), args)
        self.tree_sum(nodes, dw)
        return dw

    def add(self, x: Array, y: Array) -> None:
        self.map("add", x.size, (x, y, x.size))

    def scale(self, x: Array, c: float) -> Array:
        y = self.device.empty(x.shape, x.dtype)
        self.map("scale", x.size, (x, y, x.dtype.type(c), x.size))
        return y

    def sweeps(self, form: Form) -> NarrowSweeps | None:
        """Whole sweeps in one launch, for nets that are narrow enough."""
        narrow = is_narrow(form, self.device.shared_memory)
        return NarrowSweeps(form, self) if narrow else None


def kernels(
    device: Device,
    name: str,
    tiles: dict[str, tuple[Tile, ...]] = TILES,
    replays: Callable[[], Replays] | None = None,
) -> Kernels:
    """The backend on that device as a value; products in those tiles."""
    table = Table(device, tiles)
    return Kernels(
        name=name,
        arrays=device,
        apply=table.apply,
        dense_forward=table.dense_forward,
        softmax=table.softmax,
        log_softmax=table.log_softmax,
        sample_loss=table.sample_loss,
        output_delta=table.output_delta,
        fused_delta=table.fused_delta,
        softmax_delta=table.softmax_delta,
        hidden_delta=table.hidden_delta,
        weight_gradient=table.weight_gradient,
        bias_gradient=table.bias_gradient,
        edge_forward=table.edge_forward,
        edge_delta=table.edge_delta,
        edge_gradient=table.edge_gradient,
        update=table.update,
        add=table.add,
        scale=table.scale,
        replays=replays,
        sweeps=table.sweeps,
    )
