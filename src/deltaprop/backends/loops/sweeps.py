"""Whole sweeps in one call: forward, loss, backward, gradients, step.

What `equations.py` says of a batch is done for a few samples at a time, from the first layer to
the last and back, while they are in the cache; then every gradient takes the part's samples in.
Two ways to share the work: threads go through the samples together and each makes its own
columns of the gradients, or each thread has blocks of the batch, or members of an ensemble, to
itself.
"""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.loops.few import few
from deltaprop.backends.loops.jit import (
    FLUSHED,
    KEPT,
    call,
    data_of,
    entry,
    flushes,
    jit,
    namespace,
    record_at,
)
from deltaprop.backends.loops.layers import chunks, layer_of, packing
from deltaprop.backends.loops.outputs import outputs
from deltaprop.backends.loops.products import Out, Part, Room, products, share
from deltaprop.backends.loops.sums import sums
from deltaprop.backends.loops.team import barrier, look, put, tickets
from deltaprop.backends.loops.vectors import memory
from deltaprop.backends.records import PLAN, STATUS
from deltaprop.contract import LEAF_SAMPLES

DEALS = 8
"""How many times a thread comes for members of an ensemble, where all come as often."""

Batch = namedtuple("Batch", "X Y weights samples parameters gradient outputs rate")
"""One net's data and numbers, by their addresses."""

Place = namedtuple("Place", "room own panels thread threads")
"""Where a thread computes, and with how many others."""


@jit
def together(plan, place):  # type: ignore[no-untyped-def]
    """Waits for the others."""
    barrier(plan.team, place.threads)


@jit
def flushed_anywhere(plan, place):  # type: ignore[no-untyped-def]
    """Whether a thread flushes subnormal numbers: then none begins."""
    flushed = flushes()
    if place.threads == 1:
        return flushed
    if flushed:
        put(plan.team + STATUS, FLUSHED)
    barrier(plan.team, place.threads)
    return look(plan.team + STATUS)


@jit
def numbers_of(array):  # type: ignore[no-untyped-def]
    """Where the numbers of an array are; of none, 0."""
    return data_of(array) if array else 0


@cache
def _gradients(dtype: np.dtype[Any]) -> Any:
    """dE/dW^l = delta^l^T a^{l-1}, dE/db^l = sum_i delta^l_i, for the samples of a part."""
    p, s, size = products(dtype), sums(dtype), dtype.itemsize

    @jit
    def gradients(plan, layers, batch, place, first, samples, total):  # type: ignore[no-untyped-def]
        """`first` counts leaves of the `total` ones; pending nodes are kept from part to part."""
        part, task = Part(first, samples, total), 0
        for l in range(1, plan.layers + 1):
            layer, below = layer_of(layers, l), layer_of(layers, l - 1)
            delta, a = place.room + layer.delta, place.room + below.a
            room = Room(
                place.own + plan.near_at,
                place.room + layer.nodes,
                plan.levels,
                place.own + plan.packed_rows_at,
                place.own + plan.packed_panel_at,
            )
            p.share_of_columns(
                delta,
                layer.step,
                layer.units,
                a,
                below.step,
                layer.inputs,
                Out(batch.gradient + layer.W, layer.inputs * size, batch.rate),
                room,
                part,
                False,
                place,
            )
            if layer.b >= 0:
                if task % place.threads == place.thread:
                    s.columns(
                        delta,
                        layer.step,
                        layer.units,
                        first,
                        samples,
                        total,
                        place.room + layer.bias_nodes,
                        plan.bias_step,
                        batch.gradient + layer.b,
                        batch.rate,
                    )
                task += 1

    return gradients


@cache
def _batches(dtype: np.dtype[Any]) -> Any:
    """A batch, or a block of one, part by part."""
    chunk_, gradients, o, s = chunks(dtype), _gradients(dtype), outputs(dtype), sums(dtype)
    few_, size = few(dtype), dtype.itemsize

    @jit
    def at_outputs(plan, layers, batch, place, first, i, count):  # type: ignore[no-untyped-def]
        """What there is to do with a^L of samples i, ... of the part, `first`, ... of the batch."""
        last = layer_of(layers, plan.layers)
        if batch.outputs:
            n = last.units
            a = place.room + last.a + i * last.step
            there = batch.outputs + first * n * size
            o.copy(a, last.step, there, n * size, count, n)
        if plan.factors:
            o.errors(plan, last, batch, place, first, i, count)
        if batch.gradient:
            o.delta(plan, last, batch, place, first, i, count)

    @jit
    def chunk(plan, layers, batch, place, start, i, count):  # type: ignore[no-untyped-def]
        """Forward and backward for samples i, ... of the part that begins at sample `start`."""
        inputs, first = layer_of(layers, 0), start + i
        chunk_.copy_inputs(inputs, batch.X + first * inputs.units * size, place.room, i, count)
        chunk_.forward(plan, layers, batch.parameters, place, i, count)
        at_outputs(plan, layers, batch, place, first, i, count)
        if batch.gradient:
            chunk_.backward(plan, layers, place, i, count)

    @jit
    def by_units(plan, layers, batch, place):  # type: ignore[no-untyped-def]
        """Forward and backward for a few samples, by units; what takes whole rows by samples."""
        inputs, samples = layer_of(layers, 0), batch.samples
        first, end = share(samples, place)
        count = end - first
        chunk_.copy_inputs(inputs, batch.X + first * inputs.units * size, place.room, first, count)
        together(plan, place)
        few_.forward(plan, layers, batch.parameters, place, samples)
        few_.softmax(plan, layers, place, first, count)
        at_outputs(plan, layers, batch, place, first, first, count)
        if batch.gradient:
            few_.backward(plan, layers, batch.parameters, place, samples)

    @jit
    def run(plan, layers, batch, place, error):  # type: ignore[no-untyped-def]
        """The error and the gradient of a batch; the weights are in panels already."""
        total = (batch.samples + LEAF_SAMPLES - 1) // LEAF_SAMPLES
        start = 0
        while start < batch.samples:
            samples = min(plan.part, batch.samples - start)
            first, end = share(samples, place)
            if plan.few:
                by_units(plan, layers, batch, place)
                first = end
            while first < end:
                chunk(plan, layers, batch, place, start, first, min(plan.chunk, end - first))
                first += plan.chunk
            together(plan, place)
            leaf = start // LEAF_SAMPLES
            if batch.gradient:
                gradients(plan, layers, batch, place, leaf, samples, total)
            if plan.factors and place.thread == place.threads - 1:
                weights = batch.weights + start * size if batch.weights else 0
                e, nodes = place.room + plan.error_at, place.room + plan.error_nodes
                s.errors(e, weights, leaf, samples, total, nodes, error)
            together(plan, place)
            start += samples

    return run


@cache
def _jobs(dtype: np.dtype[Any]) -> Any:
    """How threads share a call."""
    pack, run, s = packing(dtype), _batches(dtype), sums(dtype)
    size = dtype.itemsize

    @jit
    def member(plan, e):  # type: ignore[no-untyped-def]
        """The data and numbers of member e."""
        offset = e * plan.next_parameters
        return Batch(
            numbers_of(plan.X) + e * plan.next_X,
            numbers_of(plan.Y) + e * plan.next_Y if plan.Y else 0,
            numbers_of(plan.weights) + e * plan.next_weights if plan.weights else 0,
            plan.samples,
            numbers_of(plan.parameters) + offset,
            numbers_of(plan.gradient) + offset if plan.gradient else 0,
            numbers_of(plan.outputs) + e * plan.next_outputs if plan.outputs else 0,
            numbers_of(plan.rate) + e * plan.next_rate if plan.rate else 0,
        )

    @jit
    def place_of(plan, thread, threads):  # type: ignore[no-untyped-def]
        return Place(
            plan.rooms + thread * plan.next_room,
            plan.own + thread * plan.next_own,
            plan.panels + thread * plan.next_panels,
            thread,
            threads,
        )

    @jit
    def cooperate(plan, layers, place):  # type: ignore[no-untyped-def]
        """All threads go through the samples together."""
        batch = member(plan, 0)
        if not plan.few:
            pack(plan, layers, batch.parameters, place)
            together(plan, place)
        run(plan, layers, batch, place, numbers_of(plan.errors))

    @jit
    def some_members(plan, layers, place, first, end):  # type: ignore[no-untyped-def]
        """Nets first, ..., end - 1 of an ensemble."""
        alone = Place(place.room, place.own, place.panels, 0, 1)
        for e in range(first, end):
            batch = member(plan, e)
            pack(plan, layers, batch.parameters, alone)
            run(plan, layers, batch, alone, numbers_of(plan.errors) + e * size)

    @jit
    def members(plan, layers, place):  # type: ignore[no-untyped-def]
        """Each thread has nets of its own: all of them, or in an open job some by some."""
        if place.threads == 1:
            some_members(plan, layers, place, 0, plan.members)
            return
        some = max(1, plan.members // (DEALS * place.threads))
        first = tickets(plan.team, some)
        while first < plan.members:
            some_members(plan, layers, place, first, min(first + some, plan.members))
            first = tickets(plan.team, some)

    @jit
    def blocks(plan, layers, place):  # type: ignore[no-untyped-def]
        """Each thread has blocks of the batch; then their gradients are added, as a tree."""
        whole = member(plan, 0)
        alone = Place(place.room, place.own, place.panels, 0, 1)
        pack(plan, layers, whole.parameters, alone)
        first, end = share(plan.blocks, place)
        for t in range(first, end):
            start = t * plan.block
            node = plan.nodes + t * plan.next_node
            batch = Batch(
                whole.X + start * layer_of(layers, 0).units * size,
                whole.Y + start * layer_of(layers, plan.layers).units * size,
                whole.weights + start * size if whole.weights else 0,
                min(plan.block, plan.samples - start),
                whole.parameters,
                node if whole.gradient else 0,
                whole.outputs + start * layer_of(layers, plan.layers).units * size
                if whole.outputs
                else 0,
                0,
            )
            run(plan, layers, batch, alone, node + plan.count * size)
        together(plan, place)
        if plan.factors:
            combine(plan, whole, place)

    @jit
    def combine(plan, whole, place):  # type: ignore[no-untyped-def]
        """The tree over the blocks' nodes, for this thread's share of the parameters."""
        first, end = share(plan.count if whole.gradient else 0, place)
        count = end - first
        if place.thread == place.threads - 1:
            s.tree(
                plan.nodes + plan.count * size,
                plan.next_node,
                plan.blocks,
                1,
                numbers_of(plan.errors),
            )
        if count:
            node = plan.nodes + first * size
            root = node if whole.rate else whole.gradient + first * size
            s.tree(node, plan.next_node, plan.blocks, count, root)
            if whole.rate:
                w = whole.parameters + first * size
                call(plan.descend, (w, node, 0, 0, whole.rate, count))

    return namespace(place_of=place_of, cooperate=cooperate, members=members, blocks=blocks)


def sweep(dtype: np.dtype[Any]) -> Any:
    """(plan): all that the plan asks for."""
    m = memory(dtype)
    jobs, plan_at, plan_bytes = _jobs(dtype), record_at(PLAN), PLAN.itemsize

    @entry
    def run(block, thread, threads):  # type: ignore[no-untyped-def]
        plan, layers = plan_at(block, 0), block + plan_bytes
        place = jobs.place_of(plan, thread, threads)
        if plan.members > 1:
            if flushes():
                return FLUSHED
            jobs.members(plan, layers, place)
            return KEPT
        if flushed_anywhere(plan, place):
            return FLUSHED
        if plan.blocks > 1:
            jobs.blocks(plan, layers, place)
        else:
            jobs.cooperate(plan, layers, place)
        if plan.loss_scale and thread == threads - 1:
            error = data_of(plan.errors)
            m.write(m.read(error) * m.read(data_of(plan.loss_scale)), error)
        return KEPT

    return run
