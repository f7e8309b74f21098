"""delta_i = (sum over 16 edges of w_ji delta_j) * a_i (1 - a_i)"""

import numpy as np

from conftest import Case, random_fan, rounding
from deltaprop.activations import ACTIVATIONS


def bench_edge_delta(case: Case) -> None:
    delta = case.draw(case.n_in, case.m)
    a = np.random.default_rng(2).random((case.n, case.m), case.dtype)
    fan, w = random_fan(case)
    ends = fan.peer.reshape(case.n, -1)
    terms = w.reshape(case.n, -1, 1).astype(float) * delta[ends]
    on_it = case.here(delta, w, a)
    there = case.fan(fan)
    case.measure(
        lambda: case.k.edge_delta(on_it[0], there, *on_it[1:], ACTIVATIONS["logistic"], None, None),
        terms.sum(axis=1) * (a.astype(float) * (1 - a.astype(float))),
        rounding(ends.shape[1], np.abs(terms).sum(axis=1)),
        flops=2 * w.size * case.m,
        moved=delta.size + 2 * w.size + 2 * a.size,
    )
