"""A plan: a net, a loss and a number of samples, made ready for compiled code once.

It decides how threads share the work and where everything lies. A call then fills in the arrays
and runs; calls of one plan from several threads each have a block of their own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from deltaprop.activations import IDENTITY
from deltaprop.backends import team
from deltaprop.backends.blocks import LINE, Block
from deltaprop.backends.native import address, function, making
from deltaprop.backends.records import LAYER, LEVELS, PLAN
from deltaprop.backends.tiling import BLOCK, NEAR, digits, groups, panels, shape
from deltaprop.contract import LEAF_FEATURES, LEAF_SAMPLES, Form
from deltaprop.losses import Loss
from deltaprop.optimizers import DESCENT

PARALLEL_WORK = 1 << 20
"""Multiplications that a thread must have to be worth waking."""
TOGETHER_WORK = 5 << 20
"""The same where threads go through the samples together, and what one has made others need."""
PARAMETER_WORK = 1 << 4
"""Multiplications in the time that a parameter takes to come from memory and go back."""
LAYER_WORK = 1 << 13
"""Multiplications in the time that a layer of a member takes however small it is."""
CACHE = 3 << 18
"""Bytes that a thread's part of a batch may take: they stay in its second cache."""
ROOM = 1 << 26
"""Bytes that a part may take which all threads go through together."""
SMALL_NET = 1 << 18
"""Parameters up to which every thread may have gradients of its own."""
ROUNDING = float(np.finfo(np.float32).eps)
CHUNK = 64
"""Samples that go through all layers together, so that they stay in the cache;"""
LARGE_CHUNK = 256
"""or where the weights do not, so that they are fetched less often."""


def columns_bytes(dtype: np.dtype[Any]) -> int:
    """For two square blocks of a vector's length, and the nodes of sums over outputs."""
    return LINE * (2 * LINE // dtype.itemsize + LEVELS)


def fair_block(leaves: int, threads: int) -> int:
    """Leaves of a block, a power of two: as large as leaves no thread much more than its share."""
    block = 1 << (leaves // threads).bit_length()
    best, least = 1, float(leaves)
    while block := block // 2:
        blocks = -(-leaves // block)
        edges = [blocks * t // threads * block for t in range(threads + 1)]
        most = max(min(b, leaves) - a for a, b in pairwise(edges))
        if most < least / 1.1:
            best, least = block, float(most)
    return best


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
        self, form: Form, loss: Loss | None, samples: int, gradient: bool, members: int = 1
    ) -> None:
        self.form, self.loss, self.samples = form, loss, samples
        self.members, self.gradient = members, gradient
        self.dtype, self.size = form.dtype, form.dtype.itemsize
        self.shapes = tuple((samples, n) for n in (form.sizes[0], form.sizes[-1]))
        if loss is not None:
            self.scale = self.dtype.type(loss.scale(samples, form.sizes[-1]))
            self.delta_scale = loss.delta_scale(samples, form.sizes[-1])
        with making:
            self._prepare()

    def _prepare(self) -> None:
        """Everything that depends on the number of threads."""
        self._free: list[Block] = []
        self._ready: list[Block] = []
        self.at_most = team.get_num_threads()
        self.plan = np.zeros((), PLAN)
        self.layers = np.zeros(len(self.form.sizes), LAYER)
        self._share_work()
        self._place()
        self._rules()
        self.plan["next_parameters"] = self.form.count * self.size
        self.plan["next_outputs"] = self.samples * self.form.sizes[-1] * self.size
        self.sweep = address("sweeps.sweep", self.dtype)

    # ------------------------------------------------------------------- who computes what

    def _share_work(self) -> None:
        """Threads, and the blocks, parts and chunks that samples are taken in."""
        leaves = -(-self.samples // LEAF_SAMPLES)
        self.few = self.members == 1 and leaves == 1 and not self._weights_stay()
        self.threads = self._threads()
        alone = self.members > 1 or self.threads == 1
        block, self.blocks = leaves, 1
        if not alone and self._may_have_blocks(self.threads):
            block, alone = fair_block(leaves, self.threads), True
            self.blocks = -(-leaves // block)
        self.alone = alone
        self.block = block * LEAF_SAMPLES if self.blocks > 1 else self.samples
        self.leaves = -(-self.block // LEAF_SAMPLES)
        small = alone and self.form.count <= SMALL_NET
        fitting = (CACHE if small else ROOM) // self._bytes_of_sample()
        self.part = min(self.block, max(BLOCK, fitting // BLOCK * BLOCK))
        mine = self.part if alone else -(-self.part // self.threads)
        chunk = CHUNK if self._weights_stay() else LARGE_CHUNK
        self.chunk = self.samples if self.few else min(chunk, mine)
        self.plan["few"] = self.few
        self.plan["blocks"], self.plan["block"] = self.blocks, self.block
        self.plan["part"], self.plan["chunk"] = self.part, self.chunk
        self.plan["members"], self.plan["samples"] = self.members, self.samples
        self.plan["layers"] = len(self.form.activations)
        self.plan["count"] = self.form.count

    def _threads(self) -> int:
        """How many threads are worth their while."""
        work, layers = self.form.work * self.samples * self.members, len(self.form.activations)
        if self.members > 1:
            work += LAYER_WORK * layers * self.members
            return max(1, min(self.at_most, work // PARALLEL_WORK, self.members))
        threads = max(1, min(self.at_most, work // PARALLEL_WORK))
        if self._may_have_blocks(threads):
            return threads
        if self.few:
            work += PARAMETER_WORK * self.form.count
        return max(1, min(self.at_most, work // TOGETHER_WORK))

    def _may_have_blocks(self, threads: int) -> bool:
        """Whether each thread may go through the net alone, with a gradient of its own."""
        leaves, whole = -(-self.samples // LEAF_SAMPLES), self.samples // LEAF_SAMPLES
        enough = whole >= threads if self._weights_stay() else leaves >= 2 * threads
        return enough and self.form.count <= SMALL_NET

    def _weights_stay(self) -> bool:
        """Whether a thread's second cache holds the weights, packed both ways, beside samples."""
        return 2 * self.form.count * self.size <= CACHE

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
        room, own, weights = _Layout(), _Layout(), _Layout()
        self._place_layers(room, weights)
        if self.gradient:
            self._place_gradients(room)
        self._place_scratch(room, own)
        for layout in (room, own, weights):
            layout.take(4 * LINE)  # the last vector of a row may be read beyond its end
        many, node = self.members > 1 or self.blocks > 1, (self.form.count + 1) * self.size
        self.plan["next_room"] = room.bytes if self.alone else 0
        self.plan["next_own"] = own.bytes
        self.plan["next_panels"] = weights.bytes if many else 0
        self.plan["next_node"] = -(-node // LINE) * LINE
        self.rooms = {
            "rooms": room.bytes * (self.threads if self.alone else 1),
            "own": own.bytes * self.threads,
            "panels": weights.bytes * (self.threads if many else 1),
            "nodes": int(self.plan["next_node"]) * self.blocks if self.blocks > 1 else 0,
        }
        self.bytes = sum(self.rooms.values())

    def _place_layers(self, room: _Layout, weights: _Layout) -> None:
        """Parameters, activations, and the panels of weights."""
        first, width, position = self.layers[0], shape(self.dtype).width * self.size, 0
        first["units"], first["step"] = self.form.sizes[0], _step(self.form.sizes[0], self.size)
        first["a"] = room.take(self.part * int(first["step"]))
        for l, (n_in, n) in enumerate(pairwise(self.form.sizes)):
            layer, step = self.layers[l + 1], _step(n, self.size)
            layer["inputs"], layer["units"], layer["step"] = n_in, n, step
            layer["W"], position = position, position + n * n_in * self.size
            layer["b"] = position if self.form.bias else -1
            position += n * self.form.bias * self.size
            layer["a"] = room.take(self.part * step)
            layer["z"] = room.take(self.part * step) if self._keeps_z(l) else -1
            layer["forward"] = layer["backward"] = -1
            if self.few:
                continue
            layer["forward"] = weights.take(panels(n, self.dtype) * n_in * width)
            if l and self.gradient:
                layer["backward"] = weights.take(panels(n_in, self.dtype) * n * width)

    def _place_gradients(self, room: _Layout) -> None:
        """delta, and the nodes of sums over samples that wait for others."""
        tile, leaves = shape(self.dtype), digits(self.leaves)
        levels = max(0, leaves - NEAR)
        bias_step = -(-max(self.form.sizes[1:]) * self.size // LINE) * LINE
        self.plan["levels"], self.plan["bias_step"] = levels, bias_step
        most, cuts = 0, 0 if self.alone else self.threads
        for layer in self.layers[1:]:
            n_in, n = int(layer["inputs"]), int(layer["units"])
            layer["delta"] = room.take(self.part * int(layer["step"]))
            layer["bias_nodes"] = room.take(leaves * bias_step)
            tiles = panels(n_in, self.dtype) * (groups(n, self.dtype) + cuts)
            nodes = tiles * levels * tile.bytes
            most = max(most, nodes)
            layer["nodes"] = -1 if self._layers_share_nodes() else room.take(nodes)
        if self._layers_share_nodes():
            self.layers["nodes"] = room.take(most)

    def _layers_share_nodes(self) -> bool:
        """Whether one layer's sums are over when the next one's begin.

        Then none wait for another part, and no other thread is at another layer.
        """
        return self.alone and self.part >= self.block

    def _place_scratch(self, room: _Layout, own: _Layout) -> None:
        """Errors, and what a thread needs for itself."""
        tile, most = shape(self.dtype), max(self.form.sizes)
        block = BLOCK if self.gradient else 0
        rows = groups(most, self.dtype) * tile.rows * block
        below = groups(self.chunk, self.dtype) * digits(-(-most // LEAF_FEATURES))
        outputs = self.chunk * self.form.sizes[-1] * self.size + LINE
        self.plan["error_at"] = room.take(self.part * self.size)
        self.plan["error_nodes"] = room.take(digits(self.leaves) * self.size)
        for name, size in {
            "near_at": NEAR * tile.bytes,
            "packed_rows_at": (rows + LINE) * self.size,
            "packed_panel_at": (block * tile.width + LINE) * self.size,
            "products_at": below * tile.bytes,
            "leaf_at": LEAF_FEATURES * tile.width * self.size * self.few,
            "scales_at": outputs,
            "x_at": outputs,
            "v_at": outputs,
            "s_at": outputs,
            "columns_at": columns_bytes(self.dtype),
        }.items():
            self.plan[name] = own.take(size)

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
        self.plan["descend"] = address("updates.update", self.dtype, *DESCENT)

    # ----------------------------------------------------------------------------- calls

    def takes(self, X: Any, Y: Any) -> bool:
        """Whether X and Y are one net's arrays as they are: nothing to check, nothing to convert.

        Rows of probabilities are looked at every time: those that are nearly off are not taken.
        """
        return (
            type(X) is type(Y) is np.ndarray
            and X.dtype is Y.dtype is self.dtype
            and (X.shape, Y.shape) == self.shapes
            and X.flags.c_contiguous
            and X.flags.aligned
            and Y.flags.c_contiguous
            and Y.flags.aligned
            and self.loss is not None
            and (self.loss.link != "softmax" or self._are_probabilities(Y))
        )

    def _are_probabilities(self, Y: np.ndarray) -> bool:
        """Whether every row sums to 1, to within half of what `targets` allows."""
        farthest = np.empty(1, self.dtype)
        function(address("kernels.farthest_from_one", self.dtype), 4)(
            id(Y), self.samples, Y.shape[1], id(farthest)
        )
        return bool(farthest[0] < Y.shape[1] * ROUNDING / 2)

    def value(
        self,
        parameters: np.ndarray,
        X: np.ndarray,
        Y: np.ndarray,
        gradient: np.ndarray | None = None,
        rate: float | None = None,
    ) -> float:
        """The loss of one net, as of `run` and with less ado, for arrays that it `takes`."""
        if self.at_most != team.get_num_threads():
            self._prepare_again()
        ready = self._ready
        block = ready.pop() if ready else self._block().settled(self.scale, self.delta_scale)
        value = block.value(parameters, X, Y, gradient, rate)
        ready.append(block)
        return value

    def _prepare_again(self) -> None:
        """After `set_num_threads`, by one thread; who comes meanwhile waits for it in `_block`."""
        with making:
            if self.at_most != team.get_num_threads():
                self._prepare()

    def _block(self) -> Block:
        with making:
            return Block(self.plan, self.layers, self.rooms, self.sweep, self.threads, self.dtype)

    def run(
        self,
        parameters: np.ndarray,
        X: np.ndarray,
        Y: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        gradient: np.ndarray | None = None,
        outputs: np.ndarray | None = None,
        rate: float | list[float] | None = None,
        delta_scale: float | None = None,
    ) -> np.ndarray:
        """One call: sum_i w_i e_i of every member (members,).

        `gradient` and `outputs` are filled; with a rate, one or one for each member, the
        parameters take a step. X, Y and weights may have an axis of members before the others.
        """
        if self.at_most != team.get_num_threads():
            self._prepare_again()
        free = self._free
        block = free.pop() if free else self._block()
        errors = np.empty(self.members, self.dtype)
        scale = self.delta_scale if delta_scale is None and self.gradient else delta_scale
        block.fill(parameters, X, Y, weights, gradient, outputs, errors, rate, scale)
        team.run(block.sweep, block.where, block.threads, self.members > 1)
        free.append(block)
        return errors
