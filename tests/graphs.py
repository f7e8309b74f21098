"""Graphs that tests try: the derivations' small ones, and random ones of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

import deltaprop as dp
from conftest import sample
from tasks import UNITWISE, targets


def two_paths(dtype: str = "float64", backend: str = "reference") -> dp.Graph:
    """h leads to both outputs: its error is summed over two paths."""
    g = dp.Graph(["x1", "x2"], ["y1", "y2"], dtype=dtype, backend=backend)
    g.unit("h", "logistic", bias=0.5)
    g.unit("y1", "tanh", bias=None)
    g.unit("y2", "identity", bias=-0.25)
    g.edge("x1", "h", 0.5)
    g.edge("x2", "h", -1.5)
    g.edge("h", "y1", 0.75)
    g.edge("h", "y2", -2.0)
    g.edge("x1", "y2", 0.125)
    return g


@st.composite
def random_graphs(
    draw: Any, units: int = 60, dtypes: tuple[str, ...] = ("float32", "float64")
) -> tuple[dp.Graph, tuple[Any, ...]]:
    """A graph without cycles on the reference, and (X, Y, loss, weights) for it.

    Units are declared in an order that is not that of evaluation; edges skip levels; some units
    have many edges; outputs may lead on; some inputs lead nowhere.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(dtypes))
    loss = draw(st.sampled_from(sorted(dp.LOSSES)))
    n_in, n = draw(st.integers(1, 6)), draw(st.integers(1, units))
    density = draw(st.floats(0.02, 1))
    edges = [
        (i, j)
        for j in range(n_in, n_in + n)
        for i in range(j)
        if random.random() < density or (i == j - 1 and not density > 1)
    ]
    # The edge from the unit before it joins every unit to an input.
    leads = {i for i, _ in edges}
    link = dp.LOSSES[loss].link
    outputs = [j for j in range(n_in, n_in + n) if j not in leads]
    if link != "softmax":
        outputs += [j for j in range(n_in, n_in + n) if j in leads and random.random() < 0.1]
    random.shuffle(outputs)
    names = [f"u{j}" for j in range(n_in + n)]
    g = dp.Graph(
        names[:n_in],
        [names[j] for j in outputs],
        dtype=dtype,
        backend="reference",
        seed=int(random.integers(100)),
    )
    for j in random.permutation(np.arange(n_in, n_in + n)):
        activation = link if link and j in outputs else str(random.choice(UNITWISE))
        bias = None if random.random() < 0.3 else float(random.standard_normal())
        g.unit(names[j], activation, bias=bias)
    for e in random.permutation(len(edges)):
        i, j = edges[e]
        weight = None if random.random() < 0.2 else float(random.standard_normal()) / 2
        g.edge(names[i], names[j], weight)
    m = draw(st.integers(1, 9))
    seed = int(random.integers(1000))
    X = sample((m, n_in), dtype, seed)
    Y = targets(loss, m, len(outputs), dtype, seed + 1)
    weights = np.abs(sample(m, dtype, seed + 2)) if draw(st.booleans()) else None
    return g, (X, Y, loss, weights)
