"""a_j = logistic(sum over 16 edges of w_ji a_i + b_j)"""

import numpy as np

from conftest import Case, random_fan, rounding
from deltaprop.activations import ACTIVATIONS


def bench_edge_forward(case: Case) -> None:
    a_in, b = case.draw(case.n_in, case.m), case.draw(case.n, seed=1)
    fan, w = random_fan(case)
    ends = fan.peer.reshape(case.n, -1)
    terms = w.reshape(case.n, -1, 1).astype(float) * a_in[ends]
    z = terms.sum(axis=1) + b[:, None]
    on_it = case.here(a_in, w, b)
    there = case.fan(fan)
    case.measure(
        lambda: case.k.edge_forward(
            on_it[0], there, *on_it[1:], ACTIVATIONS["logistic"], False, None
        )[1],
        1 / (1 + np.exp(-z)),
        rounding(ends.shape[1], np.abs(terms).sum(axis=1) + np.abs(b[:, None]) + 1),
        flops=2 * w.size * case.m,
        moved=a_in.size + 2 * w.size + b.size + case.n * case.m,
    )
