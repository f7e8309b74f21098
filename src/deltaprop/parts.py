"""A batch in parts: the gradient of all of it, bit for bit, in the memory of one part.

A sum over samples is an aligned tree over leaves of 64 consecutive samples. A part that begins
and ends between leaves is split into aligned blocks, each a node of that tree; nodes of equal
size that are neighbours become one as soon as both are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from deltaprop.contract import LEAF_SAMPLES, Array, Kernels
from deltaprop.equations import Batch

Sweep = Callable[[Array, Batch], tuple[Array, Array]]
"""(X, batch) -> sum_i w_i e_i and the gradient, one flat array: forward and backward."""


@dataclass
class Node:
    """The sums over leaves start, ..., start + size - 1."""

    start: int
    size: int
    error: Array
    gradient: Array


def blocks(leaves: int, part: int) -> Iterator[tuple[int, int]]:
    """(start, size) of the aligned blocks, none longer than a part and none across two."""
    start = 0
    while start < leaves:
        size = min(part - start % part, leaves - start)
        aligned = start & -start or size
        size = min(1 << (size.bit_length() - 1), aligned)
        yield start, size
        start += size


def in_parts(k: Kernels, sweep: Sweep, X: Array, batch: Batch, part: int) -> tuple[Array, Array]:
    """As `sweep` of the whole batch, with at most `part` samples at a time, a multiple of 64.

    Arrays may have an axis of members before that of samples.
    """
    samples = X.shape[-2]
    if part >= samples:
        return sweep(X, batch)
    nodes: list[Node] = []
    for start, size in blocks(-(-samples // LEAF_SAMPLES), part // LEAF_SAMPLES):
        rows = slice(start * LEAF_SAMPLES, (start + size) * LEAF_SAMPLES)
        weights = None if batch.weights is None else batch.weights[..., rows, :]
        rows_of_batch = replace(batch, Y=batch.Y[..., rows, :], weights=weights)
        nodes.append(Node(start, size, *sweep(X[..., rows, :], rows_of_batch)))
        while len(nodes) > 1 and _are_siblings(*nodes[-2:]):
            _merge(k, nodes)
    while len(nodes) > 1:
        _merge(k, nodes)
    return nodes[0].error, nodes[0].gradient


def _are_siblings(left: Node, right: Node) -> bool:
    return left.size == right.size and left.start % (2 * left.size) == 0


def _merge(k: Kernels, nodes: list[Node]) -> None:
    right = nodes.pop()
    left = nodes[-1]
    k.add(left.error.reshape(-1), right.error.reshape(-1))
    k.add(left.gradient.reshape(-1), right.gradient.reshape(-1))
    left.size += right.size
