"""A batch in parts: the sums over all of it, bit for bit, in the memory of one part.

A sum over samples is an aligned tree over leaves of 64 consecutive samples. A part that begins
and ends between leaves is split into aligned blocks, each a node of that tree; nodes of equal
size that are neighbours become one as soon as both are there. Parts of NumPy's arrays are brought
to the backend one after another, so the whole need not have room there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from deltaprop.arrays import back_to, check_count
from deltaprop.contract import LEAF_SAMPLES, Array, Kernels
from deltaprop.equations import Batch
from deltaprop.foreign import is_cupy

Part = int | Literal["auto"] | None
"""micro_batch: samples at a time, a multiple of 64; "auto" has as many as there is room for."""

Sweep = Callable[[Array, Batch], tuple[Array, ...]]
"""(X, batch) -> sums over its samples: the error, the gradient."""


def check_part(micro_batch: Part) -> Part:
    """A multiple of 64, "auto", None; or an error."""
    if micro_batch is None or micro_batch == "auto":
        return micro_batch
    part = check_count("micro_batch", micro_batch)
    if part % LEAF_SAMPLES:
        raise ValueError(f"micro_batch must be a multiple of {LEAF_SAMPLES}, got {part}")
    return part


def part_for(room: int, sample: int) -> int:
    """The most samples, a power of two times 64, for which `room` bytes do at `sample` bytes each.

    At least 64, for which there may be no room.
    """
    return LEAF_SAMPLES << max(0, (room // (sample * LEAF_SAMPLES)).bit_length() - 1)


@dataclass
class Node:
    """The sums over leaves start, ..., start + size - 1."""

    start: int
    size: int
    sums: tuple[Array, ...]


def blocks(leaves: int, part: int) -> Iterator[tuple[int, int]]:
    """(start, size) of the aligned blocks, none longer than a part and none across two."""
    start = 0
    while start < leaves:
        size = min(part - start % part, leaves - start)
        aligned = start & -start or size
        size = min(1 << (size.bit_length() - 1), aligned)
        yield start, size
        start += size


def in_parts(k: Kernels, sweep: Sweep, X: Array, batch: Batch, part: int) -> tuple[Array, ...]:
    """As `sweep` of the whole batch, with at most `part` samples at a time, a multiple of 64.

    Arrays may have an axis of members before that of samples.
    """
    if part >= X.shape[-2]:
        return sweep(*brought(k, X, batch))
    nodes: list[Node] = []
    for start, size in blocks(-(-X.shape[-2] // LEAF_SAMPLES), part // LEAF_SAMPLES):
        rows = slice(start * LEAF_SAMPLES, (start + size) * LEAF_SAMPLES)
        nodes.append(Node(start, size, sweep(*brought(k, X, batch, rows))))
        while len(nodes) > 1 and _are_siblings(*nodes[-2:]):
            _merge(k, nodes)
    while len(nodes) > 1:
        _merge(k, nodes)
    return nodes[0].sums


def outputs_in_parts(k: Kernels, outputs: Callable[[Array], Array], X: Array, part: int) -> Array:
    """As `outputs` of all of X, at most `part` samples at a time; NumPy's or CuPy's, as X is."""
    back, m = back_to(X, k), X.shape[-2]
    first = back(outputs(k.arrays.asarray(X[..., :part, :])))
    empty = k.arrays.empty if is_cupy(X) else np.empty
    found = empty((*first.shape[:-2], m, first.shape[-1]), first.dtype)
    found[..., :part, :] = first
    for start in range(part, m, part):
        rows = slice(start, start + part)
        found[..., rows, :] = back(outputs(k.arrays.asarray(X[..., rows, :])))
    return found


def brought(k: Kernels, X: Array, batch: Batch, rows: slice = slice(None)) -> tuple[Array, Batch]:
    """Those samples where the backend computes."""
    here = k.arrays.asarray
    weights = None if batch.weights is None else here(batch.weights[..., rows, :])
    return here(X[..., rows, :]), replace(batch, Y=here(batch.Y[..., rows, :]), weights=weights)


def _are_siblings(left: Node, right: Node) -> bool:
    return left.size == right.size and left.start % (2 * left.size) == 0


def _merge(k: Kernels, nodes: list[Node]) -> None:
    right = nodes.pop()
    left = nodes[-1]
    for x, y in zip(left.sums, right.sums):
        k.add(x.reshape(-1), y.reshape(-1))
    left.size += right.size
