"""Where to draw the units and edges of a graph: columns by level, and ways between them.

x is a unit's level, y grows upwards; 1 is the distance of two units in the fullest column.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from deltaprop.graphs.topology import Integers, Topology

SWEEPS = 12
WIDEST = 1.6
"""The distance of two units in a column that has few."""

LANE = 0.25
"""The distance of edges that pass above or below all units of a column."""


def places(graph: Topology) -> np.ndarray:
    """x and y of each unit by number (units, 2).

    Within a column, units are sorted by the mean y of the units they have edges with, from
    the left and from the right in turns; the order with the shortest edges is kept. Units
    that tie stay as they were declared.
    """
    columns = _columns(graph)
    fullest = max(map(len, columns))
    y = np.empty(graph.units)
    for column in columns:
        _stack(y, column, fullest)
    best, shortest = y.copy(), _length(graph, y)
    for sweep in range(SWEEPS):
        ends = (graph.source, graph.target) if sweep % 2 == 0 else (graph.target, graph.source)
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            middle = _mean_of_peers(*ends, y)
            _stack(y, column[np.argsort(-middle[column], kind="stable")], fullest)
        length = _length(graph, y)
        if length < shortest - 1e-9:
            best, shortest = y.copy(), length
    return np.column_stack([graph.levels, best])


def _columns(graph: Topology) -> list[Integers]:
    """The units of each level."""
    order = np.argsort(graph.levels, kind="stable")
    borders = np.flatnonzero(np.diff(graph.levels[order])) + 1
    return np.split(order, borders)


def _stack(y: np.ndarray, column: Integers, fullest: int) -> None:
    """Puts the units of a column one below the other around y = 0."""
    distance = min(WIDEST, fullest / len(column))
    y[column] = distance * ((len(column) - 1) / 2 - np.arange(len(column)))


def _mean_of_peers(one: Integers, other: Integers, y: np.ndarray) -> np.ndarray:
    """The mean y over the edges from `one` that end in each `other`; its own y without any."""
    count = np.bincount(other, minlength=len(y))
    total = np.bincount(other, y[one], minlength=len(y))
    mean: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), y)
    return mean


def _length(graph: Topology, y: np.ndarray) -> float:
    return float(np.abs(y[graph.source] - y[graph.target]).sum())


def routes(
    xy: np.ndarray,
    source: Integers,
    target: Integers,
    room: tuple[float, float],
    steps: int,
    share: bool,
) -> list[np.ndarray]:
    """The way of each edge as points (n, 2), n differing; past the units of columns between.

    `room` is what a unit takes above and below its centre, in units of y; `steps` are the
    points from column to column. With `share`, edges that pass between the same two units
    have a place each; without, only those that would touch a unit leave their straight way.
    """
    passing = _passing(xy, source, target, room, share)
    first, last = xy[source], xy[target]
    span = (last[:, 0] - first[:, 0]).astype(np.int64)
    ways: list[np.ndarray] = [np.empty(0)] * len(source)
    for k in np.unique(span):
        edges = np.flatnonzero(span == k)
        y = np.empty((len(edges), k + 1))
        y[:, 0], y[:, k] = first[edges, 1], last[edges, 1]
        for i in range(1, k):
            y[:, i] = passing[edges, first[edges, 0].astype(np.int64) + i]
        t, smooth = _smooth(y, steps)
        for e, way in zip(edges, smooth):
            ways[e] = np.column_stack([first[e, 0] + t, way])
    return ways


def _passing(
    xy: np.ndarray, source: Integers, target: Integers, room: tuple[float, float], share: bool
) -> np.ndarray:
    """(edges, columns): y where an edge passes a column between its ends; others mean nothing."""
    (x0, y0), (x1, y1) = xy[source].T, xy[target].T
    columns = int(xy[:, 0].max()) + 1
    passing = np.zeros((len(source), columns))
    # Where a unit is in the middle of the way, every second edge goes above it, the longest
    # furthest out.
    aside = 1e-6 * (x1 - x0) * (-1.0) ** np.arange(len(source))
    for c in range(1, columns - 1):
        edges = np.flatnonzero((x0 < c) & (c < x1))
        if edges.size:
            straight = y0 + (y1 - y0) * (c - x0) / np.maximum(x1 - x0, 1) + aside
            units = np.sort(xy[xy[:, 0] == c, 1])
            passing[edges, c] = _between(units, straight[edges], room, share)
    return passing


def _between(
    units: np.ndarray, wanted: np.ndarray, room: tuple[float, float], share: bool
) -> np.ndarray:
    """y near those wanted, between units of a column or beyond the last."""
    above, below = room
    gap = np.searchsorted(units, wanted)
    count = np.bincount(gap, minlength=len(units) + 1)
    outside = LANE * (1 + count[[0, -1]])
    low = np.append(min(wanted.min(), units[0] - below - outside[0]), units + above)
    high = np.append(units - below, max(wanted.max(), units[-1] + above + outside[1]))
    middle = (low + high) / 2  # for a gap that is less than the room
    low, high = np.minimum(low, middle)[gap], np.maximum(high, middle)[gap]
    near: np.ndarray = np.clip(wanted, low, high)
    if not share:
        return near
    order = np.lexsort([wanted, gap])
    rank = np.empty(len(gap))
    rank[order] = np.arange(len(gap)) - (np.cumsum(count) - count)[gap[order]]
    even = low + (high - low) * (rank + 1) / (count[gap] + 1)
    return np.where(count[gap] == 1, near, even)


def _smooth(y: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Curves through y (n, k + 1) at x = 0, ..., k: x (points,) and y (n, points).

    Cubic Hermite; the slope at a point is the harmonic mean of those beside it, or 0 at a
    turn, so that a curve stays between the points it joins.
    """
    k = y.shape[1] - 1
    if k == 1 and steps == 1:
        return np.array([0.0, 1.0]), y
    d = np.diff(y, axis=1)
    slope = np.empty_like(y)
    product = d[:, 1:] * d[:, :-1]
    total = np.where(product > 0, d[:, 1:] + d[:, :-1], 1)
    slope[:, 1:-1] = np.where(product > 0, 2 * product / total, 0)
    slope[:, 0] = 1.5 * d[:, 0] - 0.5 * slope[:, 1] if k > 1 else d[:, 0]
    slope[:, -1] = 1.5 * d[:, -1] - 0.5 * slope[:, -2] if k > 1 else d[:, -1]
    s = np.arange(steps) / steps
    weights = (1 + 2 * s) * (1 - s) ** 2, s * (1 - s) ** 2, s**2 * (3 - 2 * s), s**2 * (s - 1)
    pieces = [
        sum(
            np.outer(value, weight)
            for value, weight in zip((y[:, i], slope[:, i], y[:, j], slope[:, j]), weights)
        )
        for i, j in pairwise(range(k + 1))
    ]
    x = (np.arange(k)[:, None] + s).reshape(-1)
    return np.append(x, k), np.column_stack([*pieces, y[:, -1:]])


def spots(
    ways: Sequence[np.ndarray], sizes: np.ndarray, taken: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """A point on each way for a label of its size: off units, other labels and other ways.

    `sizes` (ways, 2) are widths and heights, `taken` (n, 4) boxes x0, y0, x1, y1; both in
    inches, as the ways are once they are multiplied by `scale`.
    """
    inches = [way * scale for way in ways]
    boxes, chosen = list(taken), np.empty((len(ways), 2))
    for e, way in enumerate(inches):
        others = [other for i, other in enumerate(inches) if i != e]
        points = np.concatenate(others) if others else np.empty((0, 2))
        places = [_along(way, t) for t in (0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73, 0.2, 0.8)]
        costs = [
            _cost(np.concatenate([p - sizes[e] / 2, p + sizes[e] / 2]), boxes, points)
            for p in places
        ]
        best = places[int(np.argmin(costs))]
        boxes.append(np.concatenate([best - sizes[e] / 2, best + sizes[e] / 2]))
        chosen[e] = best / scale
    return chosen


def _along(way: np.ndarray, t: float) -> np.ndarray:
    """The point of a way at a fraction of its length."""
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(way, axis=0).T))])
    return np.array([np.interp(t * length[-1], length, x) for x in way.T])


def _cost(box: np.ndarray, boxes: Sequence[np.ndarray], points: np.ndarray) -> float:
    """How bad a label there is: the area it shares with others, and the ways it covers."""
    others = np.array(boxes).reshape(-1, 4)
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = float(np.prod(np.maximum(sides, 0), axis=1).sum())
    covered = np.all((points >= box[:2]) & (points <= box[2:]), axis=1).sum()
    return 1000 * shared + float(covered)
