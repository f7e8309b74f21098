"""The memory of a plan by the formula of docs/memory.md, and the table there.

To write the table anew: python tests/memory.py
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import deltaprop as dp
from deltaprop.backends import team
from deltaprop.backends.plans import Plan
from deltaprop.backends.tiling import Shape
from deltaprop.bench import NETS

AVX512 = {"float32": Shape(4, 16, 14, 2, 32, 1792), "float64": Shape(8, 8, 14, 2, 16, 1792)}
"""The tiles of the table's CPU."""


class Needs(NamedTuple):
    """Bytes of one room, of one thread's scratch, of all panels, and of one gradient."""

    room: int
    own: int
    panels: int
    node: int


def lines(count: int) -> int:
    """Bytes, rounded up to cache lines."""
    return -(-count // 64) * 64


def up(x: int, y: int) -> int:
    return -(-x // y)


def digits(leaves: int) -> int:
    return (leaves - 1).bit_length()


def needs(plan: Plan, tile: Shape) -> Needs:
    """By the formula; from the plan come its decisions: part, block, chunk, threads."""
    sizes, s, p, k = plan.form.sizes, plan.size, plan.part, plan.chunk
    steps = [n * s + (64 if n * s % 512 == 0 else 0) for n in sizes]
    leaves = up(plan.block, 64)
    room = sum(lines(p * step) for step in steps)
    room += sum(lines(p * step) for l, step in enumerate(steps[1:]) if plan._keeps_z(l))
    room += lines(p * s) + lines(digits(leaves) * s) + 256
    panels = 256
    for l, (n_in, n) in enumerate(() if plan.few else pairwise(sizes)):
        panels += lines(up(n, tile.width) * tile.width * n_in * s)
        if l and plan.gradient:
            panels += lines(up(n_in, tile.width) * tile.width * n * s)
    if plan.gradient:
        room += sum(lines(p * step) for step in steps[1:])
        room += (len(sizes) - 1) * lines(digits(leaves) * lines(max(sizes[1:]) * s))
        levels = max(0, digits(leaves) - 2)
        cuts = 0 if plan.alone else plan.threads
        nodes = [
            lines(up(n_in, tile.width) * (up(n, tile.rows) + cuts) * tile.bytes * levels)
            for n_in, n in pairwise(sizes)
        ]
        apart = plan.part < plan.block or not plan.alone
        room += sum(nodes) if apart else max(nodes)
    block = 256 if plan.gradient else 0
    most = max(sizes)
    own = 256 + 2 * tile.bytes
    own += lines((up(most, tile.rows) * tile.rows * block + 64) * s)
    own += lines((block * tile.width + 64) * s)
    own += lines(up(k, tile.rows) * digits(up(most, 256)) * tile.bytes)
    own += lines(256 * tile.width * s) if plan.few else 0
    own += 4 * lines(k * sizes[-1] * s + 64) + 64 * (2 * 64 // s + 40)
    return Needs(room, own, panels, lines((plan.form.count + 1) * s))


def total(plan: Plan, tile: Shape) -> int:
    """All that the plan needs for one call at a time."""
    room, own, panels, node = needs(plan, tile)
    threads, many = plan.threads, plan.members > 1 or plan.blocks > 1
    found = room * (threads if plan.alone else 1) + own * threads
    found += panels * (threads if many else 1)
    return found + (node * plan.blocks if plan.blocks > 1 else 0)


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.2f}" if count < 1e7 else f"{count / 1e6:,.0f}"


def table() -> str:
    """The nets of `deltaprop bench`, float32, by two threads of a CPU with AVX-512."""
    rows = [
        "| net | batch | shared as | plan | X, Y, parameters, gradient | all activations |",
        "|---|---|---|---|---|---|",
    ]
    before = team.get_num_threads()
    team.set_num_threads(2)
    try:
        for sizes, m in NETS:
            net = dp.MLP(sizes, "logistic", "logistic", backend="numba")
            loss = net._loss(None)
            plan = Plan(net._sweeps.form, loss, m, True)
            kept = sum(sizes) + sum(sizes[1:])
            name = f"{sizes[0]} x {len(sizes)}" if len(sizes) > 6 else "-".join(map(str, sizes))
            how = "alone" if plan.threads == 1 else "together"
            how = f"{plan.blocks} blocks" if plan.blocks > 1 else how
            given = 4 * (m * (sizes[0] + sizes[-1]) + 2 * plan.form.count)
            numbers = total(plan, AVX512["float32"]), given, 4 * m * kept
            rows.append(f"| {name} | {m} | {how} | {' | '.join(map(megabytes, numbers))} |")
    finally:
        team.set_num_threads(before)
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
