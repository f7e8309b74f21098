"""The launch table: which unit each kernel is, its grid, its block and its arguments.

Written once against a small device interface, for a GPU (the `cuda` backend) and for the
same sources on the CPU (`cuda-host`).
"""

from __future__ import annotations

from typing import Any, Protocol

from deltaprop.activations import Activation
from deltaprop.backends.grids import TILES, Grid, ceil_div, grid, runs
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES, Array, Arrays, Fan, Kernels
from deltaprop.devices.unit import Tile, Unit
from deltaprop.elementary import exp, log
from deltaprop.losses import Loss
from deltaprop.scalar import Rule, trace

COLUMNS, LINES = 32, 8
"""Elements and lines of a block of tree_sum.cu."""

THREADS = 256
MOST_BLOCKS = 1 << 20


class Device(Arrays, Protocol):
    """What the table needs of a machine: arrays, and launches on them.

    Arguments of a launch are arrays, None (null), Python ints (64 bits), NumPy reals.
    """

    @property
    def processors(self) -> int:
        """How many blocks run at once at least, each on a processor of its own."""

    def launch(
        self,
        unit: Unit,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: tuple[Any, ...],
    ) -> None: ...


def levels(terms: int, leaf: int) -> int:
    """Nodes that may wait in a tree over that many terms, up to a power of two.

    After i leaves as many wait as i has ones. A power of two, so that few variants of a kernel are
    compiled.
    """
    leaves = max(1, ceil_div(terms, leaf))
    waiting = (leaves + 1).bit_length() - 1
    return 1 << (waiting - 1).bit_length()


class Launches:
    """The kernels of the contract as launches on a device."""

    def __init__(self, device: Device, tiles: dict[str, tuple[Tile, ...]]) -> None:
        self.device, self.tiles = device, tiles

    def each(
        self, kernel: str, count: int, args: tuple[Any, ...], levels: int = 1, **rules: Rule
    ) -> None:
        """A kernel with one thread for each of `count` elements."""
        unit = self.unit(kernel, args[0], levels, rules)
        blocks = min(ceil_div(count, THREADS), MOST_BLOCKS)
        self.device.launch(unit, (blocks, 1, 1), (THREADS, 1, 1), args)

    def product(
        self, kernel: str, divided: Grid, leaf: int, args: tuple[Any, ...], **rules: Rule
    ) -> None:
        """A kernel made of ordered_gemm."""
        unit = self.unit(kernel, args[0], levels(divided.terms, leaf), rules, divided.tile)
        blocks = (divided.down, divided.across, divided.slices)
        self.device.launch(unit, blocks, (divided.tile.threads, 1, 1), args)

    def grid(self, M: int, N: int, K: int, leaf: int, array: Array, sliced: bool = False) -> Grid:
        """Of a product C (M, N) with sums of K terms, of the array's dtype."""
        tiles = self.tiles[array.dtype.name]
        return grid(M, N, K, leaf, array.dtype.itemsize, tiles, self.device.processors, sliced)

    def nodes(self, slices: int, out: Array) -> Array:
        """Where a sum over samples in so many slices goes: `out` itself, or what tree_sum adds."""
        return out if slices == 1 else self.device.empty((slices, *out.shape), out.dtype)

    def tree_sum(self, nodes: Array, out: Array) -> None:
        """The tree over the first axis of `nodes`."""
        count, size = len(nodes), out.size
        run = 1 << (ceil_div(count, LINES) - 1).bit_length()
        unit = self.unit("tree_sum", nodes, levels(count, 1), {})
        args = (nodes, out, count, size, run)
        self.device.launch(unit, (ceil_div(size, COLUMNS), 1, 1), (COLUMNS * LINES, 1, 1), args)

    def unit(
        self,
        kernel: str,
        array: Array,
        levels: int,
        rules: dict[str, Rule],
        tile: Tile | None = None,
    ) -> Unit:
        name = array.dtype.name
        programs = tuple((alias, trace(rule, name)) for alias, rule in rules.items())
        return Unit(kernel, array.dtype, programs, levels, tile)

    def apply(self, f: Rule, x: Array) -> Array:
        y = self.device.empty(x.shape, x.dtype)
        self.each("apply", x.size, (x, y, x.size), f=f)
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
        m, n = z.shape
        p = self.device.empty((m, n), z.dtype)
        self.each("softmax", m, (z, p, m, n), levels(n, LEAF_FEATURES), exp=exp)
        return p

    def log_softmax(self, z: Array) -> Array:
        m, n = z.shape
        log_p = self.device.empty((m, n), z.dtype)
        depth = levels(n, LEAF_FEATURES)
        self.each("log_softmax", m, (z, log_p, m, n), depth, exp=exp, log=log)
        return log_p

    def sample_loss(self, s: Array, Y: Array, loss: Loss) -> Array:
        m, n = s.shape
        left, right = loss.factors
        e = self.device.empty((m, 1), s.dtype)
        depth = levels(n, LEAF_FEATURES)
        self.each("sample_loss", m, (s, Y, e, m, n), depth, left=left, right=right)
        return e

    def output_delta(
        self,
        a: Array,
        Y: Array,
        s: Array,
        weights: Array | None,
        loss: Loss,
        g: Activation,
        scale: float,
    ) -> Array:
        m, n = a.shape
        delta = self.device.empty((m, n), a.dtype)
        args = (a, Y, s, weights, delta, a.dtype.type(scale), m, n)
        self.each("output_delta", m * n, args, residual=loss.residual, slope=g.slope)
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
        if g.slices > 1:
            self.tree_sum(nodes, dW)
        return dW

    def bias_gradient(self, delta: Array, out: Array | None) -> Array:
        m, n = delta.shape
        db = self.device.empty((n,), delta.dtype) if out is None else out
        slices, terms = runs(n, m, LEAF_SAMPLES, self.device.processors)
        nodes = self.nodes(slices, db)
        args = (delta, nodes, m, n, slices, terms)
        self.each("bias_gradient", slices * n, args, levels(terms, LEAF_SAMPLES))
        if slices > 1:
            self.tree_sum(nodes, db)
        return db

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
        self.each("edge_forward", n * m, args, levels(fan.longest, LEAF_FEATURES), value=g.value)
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
        self.each("edge_delta", n * m, args, levels(fan.longest, LEAF_FEATURES), slope=g.slope)
        return out

    def edge_gradient(
        self, delta: Array, a: Array, target: Array, source: Array, out: Array | None
    ) -> Array:
        m, edges = delta.shape[1], len(target)
        dw = self.device.empty((edges,), delta.dtype) if out is None else out
        args = (delta, a, target, source, dw, edges, m)
        self.each("edge_gradient", edges, args, levels(m, LEAF_SAMPLES))
        return dw

    def descend(self, w: Array, g: Array, eta: float) -> None:
        self.each("descend", w.size, (w, g, w.dtype.type(eta), w.size))

    def add(self, x: Array, y: Array) -> None:
        self.each("add", x.size, (x, y, x.size))


def kernels(device: Device, name: str, tiles: dict[str, tuple[Tile, ...]] = TILES) -> Kernels:
    """The backend on that device as a value; products in those tiles."""
    table = Launches(device, tiles)
    return Kernels(
        name=name,
        arrays=device,
        apply=table.apply,
        dense_forward=table.dense_forward,
        softmax=table.softmax,
        log_softmax=table.log_softmax,
        sample_loss=table.sample_loss,
        output_delta=table.output_delta,
        hidden_delta=table.hidden_delta,
        weight_gradient=table.weight_gradient,
        bias_gradient=table.bias_gradient,
        edge_forward=table.edge_forward,
        edge_delta=table.edge_delta,
        edge_gradient=table.edge_gradient,
        descend=table.descend,
        add=table.add,
    )
