"""A plan: a net, a loss and a number of samples, made ready for compiled code once.

It decides how threads share the work and where everything lies. A call then fills in the arrays
and runs; calls of one plan from several threads each have a block of their own.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from deltaprop.activations import IDENTITY
from deltaprop.backends import team
from deltaprop.backends.native import address
from deltaprop.backends.records import CALL, LAYER, PLAN
from deltaprop.backends.tiling import digits, groups, panels, shape
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES, Form
from deltaprop.losses import Loss

PARALLEL_WORK = 1 << 20
"""Multiplications that a thread must have to be worth waking."""
CACHE = 3 << 18
"""Bytes that a thread's part of a batch may take: they stay in its second cache."""
ROOM = 1 << 26
"""Bytes that a part may take which all threads go through together."""
SMALL_NET = 1 << 18
"""Parameters up to which every thread may have gradients of its own."""
CHUNK = 64
"""Samples that go through all layers together."""
NEAR = 2
BLOCK = LEAF_SAMPLES << NEAR
"""Samples of a block, see loops/products.py."""
LINE = 64


def aligned(count: int) -> tuple[np.ndarray, int]:
    """Memory for so many bytes, and the address in it where a cache line begins."""
    memory = np.empty(count + LINE, np.uint8)
    return memory, -(-memory.ctypes.data // LINE) * LINE


class _Layout:
    """Places given out one after the other, each on a cache line."""

    def __init__(self) -> None:
        self.bytes = 0

    def take(self, count: int) -> int:
        where = self.bytes
        self.bytes += -(-count // LINE) * LINE
        return where


def _step(n: int, size: int) -> int:
    """From one sample to the next: not a multiple of 512 bytes, or rows would evict each other."""
    return n * size + (LINE if n * size % 512 == 0 else 0)


class Plan:
    """How `samples` of a batch go through nets of one form, `members` of them, with one loss."""

    def __init__(
        self,
        form: Form,
        loss: Loss | None,
        samples: int,
        gradient: bool,
        members: int = 1,
        shared: bool = False,
    ) -> None:
        self.form, self.loss, self.samples = form, loss, samples
        self.members, self.gradient = members, gradient
        self.dtype, self.size = form.dtype, form.dtype.itemsize
        self.plan = np.zeros((), PLAN)
        self.layers = np.zeros(len(form.sizes), LAYER)
        self._share_work()
        self._place()
        self._rules()
        self.plan["next_parameters"] = form.count * self.size
        for name, numbers in (("X", form.sizes[0]), ("Y", form.sizes[-1]), ("weights", 1)):
            self.plan[f"next_{name}"] = 0 if shared else samples * numbers * self.size
        self.plan["next_outputs"] = samples * form.sizes[-1] * self.size
        self._free: list[_Block] = []
        self.sweep = address("sweeps.sweep", self.dtype)

    # ------------------------------------------------------------------- who computes what

    def _share_work(self) -> None:
        """Threads, and the blocks, parts and chunks that samples are taken in."""
        work = self.form.work * self.samples * self.members
        threads = max(1, min(team.get_num_threads(), work // PARALLEL_WORK))
        leaves = -(-self.samples // LEAF_SAMPLES)
        block = 1
        self.threads = min(threads, self.members) if self.members > 1 else threads
        alone = self.members > 1 or self.threads == 1
        self.blocks = 1
        if not alone and self.form.count <= SMALL_NET and leaves >= 2 * self.threads:
            while -(-leaves // (2 * block)) >= 4 * self.threads:
                block *= 2
            self.blocks = -(-leaves // block)
            self.threads = min(self.threads, self.blocks)
            alone = True
        self.alone = alone
        self.block = block * LEAF_SAMPLES if self.blocks > 1 else self.samples
        self.leaves = -(-self.block // LEAF_SAMPLES)
        fitting = (
            CACHE if alone and self.form.count <= SMALL_NET else ROOM
        ) // self._bytes_of_sample()
        self.part = max(BLOCK, fitting // BLOCK * BLOCK)
        if self.part >= self.block:
            self.part = self.block
        mine = self.part if alone else -(-self.part // self.threads)
        self.chunk = min(CHUNK, mine)
        self.plan["blocks"], self.plan["block"] = self.blocks, self.block
        self.plan["part"], self.plan["chunk"] = self.part, self.chunk
        self.plan["members"], self.plan["samples"] = self.members, self.samples
        self.plan["layers"] = len(self.form.activations)
        self.plan["count"] = self.form.count

    def _bytes_of_sample(self) -> int:
        steps = [_step(n, self.size) for n in self.form.sizes]
        kept = [self._keeps_z(l) for l in range(len(self.form.activations))]
        return sum(steps) + sum(s * (1 + z) for s, z in zip(steps[1:], kept)) + self.size

    def _keeps_z(self, l: int) -> bool:
        """Whether layer l has z apart from a: for a slope, a softmax or a loss of z."""
        g = self.form.activations[l]
        if g.rowwise or g.slope_of == "z":
            return True
        last = l == len(self.form.activations) - 1
        return last and self.loss is not None and self.loss.of != "a"

    # ---------------------------------------------------------------------- where it lies

    def _place(self) -> None:
        """Rooms, panels and scratch: offsets first, then how large they are."""
        tile, leaves = shape(self.dtype), digits(self.leaves)
        levels = max(0, leaves - NEAR)
        kept = self.part < self.block
        room, own, weights = _Layout(), _Layout(), _Layout()
        position = 0
        widest = max(self.form.sizes)
        bias_step = -(-widest * self.size // LINE) * LINE
        self.plan["levels"], self.plan["bias_step"] = levels, bias_step
        first = self.layers[0]
        first["units"], first["step"] = self.form.sizes[0], _step(self.form.sizes[0], self.size)
        first["a"] = room.take(self.part * int(first["step"]))
        nodes = pending = 0
        for l, (n_in, n) in enumerate(zip(self.form.sizes, self.form.sizes[1:])):
            layer = self.layers[l + 1]
            step = _step(n, self.size)
            layer["inputs"], layer["units"], layer["step"] = n_in, n, step
            layer["W"], layer["b"] = position, position + n * n_in * self.size
            position += n * (n_in + self.form.bias) * self.size
            layer["a"] = room.take(self.part * step)
            layer["z"] = room.take(self.part * step) if self._keeps_z(l) else -1
            layer["forward"] = weights.take(panels(n, self.dtype) * n_in * tile.width * self.size)
            layer["backward"] = -1
            below = groups(self.chunk, self.dtype) * tile.bytes
            nodes = max(nodes, below * digits(-(-n_in // LEAF_FEATURES)))
            if not self.form.bias:
                layer["b"] = -1
            if not self.gradient:
                continue
            layer["delta"] = room.take(self.part * step)
            if l:
                layer["backward"] = weights.take(
                    panels(n_in, self.dtype) * n * tile.width * self.size
                )
                nodes = max(nodes, below * digits(-(-n // LEAF_FEATURES)))
            tiles = panels(n_in, self.dtype) * groups(n, self.dtype) * levels * tile.bytes
            pending = max(pending, tiles)
            layer["nodes"] = room.take(tiles) if kept else -1
            layer["bias_nodes"] = room.take(leaves * bias_step)
        if not kept:
            self.layers["nodes"] = room.take(pending)
        self.plan["error_at"] = room.take(self.part * self.size)
        self.plan["error_nodes"] = room.take(leaves * self.size)
        rows = max(groups(n, self.dtype) for n in self.form.sizes[1:]) * tile.rows * BLOCK
        block = BLOCK if self.gradient else 0
        self.plan["near_at"] = own.take(NEAR * tile.bytes)
        self.plan["packed_rows_at"] = own.take((rows + LINE) * self.size if block else 0)
        self.plan["packed_panel_at"] = own.take((block * tile.width + LINE) * self.size)
        self.plan["products_at"] = own.take(nodes)
        outputs = self.chunk * self.form.sizes[-1] * self.size
        for name in ("scales_at", "x_at", "v_at", "s_at"):
            self.plan[name] = own.take(outputs + LINE)
        self.plan["columns_at"] = own.take(LINE * (2 * LINE // self.size + 40))
        for layout in (room, own, weights):
            layout.take(4 * LINE)
        several = self.threads if self.alone else 1
        packs = self.threads if self.members > 1 else 1
        self.plan["next_room"] = room.bytes if self.alone else 0
        self.plan["next_own"] = own.bytes
        self.plan["next_panels"] = weights.bytes if self.members > 1 else 0
        self.plan["next_node"] = -(-(self.form.count + 1) * self.size // LINE) * LINE
        blocks = self.blocks * int(self.plan["next_node"]) if self.blocks > 1 else 0
        self._rooms = (
            ("rooms", several * room.bytes),
            ("own", self.threads * own.bytes),
            ("panels", packs * weights.bytes),
            ("nodes", blocks),
        )
        self.bytes = sum(size for _, size in self._rooms)

    # ----------------------------------------------------------------------------- rules

    def _rules(self) -> None:
        """The addresses of everything that a rule decides."""
        for layer, g in zip(self.layers[1:], self.form.activations):
            if not g.rowwise:
                layer["value"] = address("rows.value", self.dtype, g.value)
                layer["of_z"] = g.slope_of == "z"
        last = self.form.activations[-1]
        if last.rowwise:
            self.plan["softmax"] = address("outputs.softmax", self.dtype, False)
        loss = self.loss
        if loss is None:
            return
        self.plan["factors"] = address("rows.factors", self.dtype, *loss.factors)
        self.plan["loss_of_z"] = loss.of != "a"
        if loss.of == "log_softmax":
            self.plan["log_softmax"] = address("outputs.softmax", self.dtype, True)
        if not self.gradient:
            return
        for layer, g in zip(self.layers[1:-1], self.form.activations):
            layer["slope"] = address("rows.slope", self.dtype, g.slope)
        slope = IDENTITY if loss.link else last
        self.plan["slope_of_z"] = slope.slope_of == "z"
        self.plan["residual"] = address("rows.residual", self.dtype, loss.residual, slope.slope)
        self.plan["descend"] = address("rows.descend", self.dtype)
        n = self.form.sizes[-1]
        self.scale = np.array([loss.delta_scale(self.samples, n)], self.dtype)

    # ----------------------------------------------------------------------------- calls

    def run(
        self,
        parameters: np.ndarray,
        X: np.ndarray,
        Y: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        gradient: np.ndarray | None = None,
        outputs: np.ndarray | None = None,
        rate: float | np.ndarray | None = None,
        scale: float | None = None,
    ) -> np.ndarray:
        """One call: sum_i w_i e_i of every member. With a rate the parameters take a step."""
        block = self._free.pop() if self._free else _Block(self)
        try:
            return block.run(parameters, X, Y, weights, gradient, outputs, rate, scale)
        finally:
            self._free.append(block)


class _Block:
    """The memory of one call at a time."""

    CALL = struct.Struct(f"{len(CALL)}q")

    def __init__(self, plan: Plan) -> None:
        self.of = plan
        words = plan.plan.copy()
        self._memory = []
        for name, size in plan._rooms:
            memory, words[name] = aligned(size)
            self._memory.append(memory)
        self.scale, self.rate = np.zeros(1, plan.dtype), np.zeros(1, plan.dtype)
        self.errors = np.zeros(plan.members, plan.dtype)
        words["scale"] = id(self.scale)
        self.words = np.frombuffer(words.tobytes() + plan.layers.tobytes(), np.int64).copy()
        self.where = self.words.ctypes.data
        self.buffer = memoryview(self.words).cast("B")

    def run(self, parameters, X, Y, weights, gradient, outputs, rate, scale):  # type: ignore[no-untyped-def]
        plan = self.of
        if plan.loss is not None and plan.gradient:
            self.scale[0] = plan.scale[0] if scale is None else scale
        if rate is not None:
            self.rate[0] = rate
            gradient = parameters
        self.CALL.pack_into(
            self.buffer,
            0,
            id(parameters),
            0 if gradient is None else id(gradient),
            id(X),
            0 if Y is None else id(Y),
            0 if weights is None else id(weights),
            id(self.errors),
            0 if outputs is None else id(outputs),
            0 if rate is None else id(self.rate),
            team.memory(),
        )
        team.run(plan.sweep, self.where, plan.threads)
        return self.errors
