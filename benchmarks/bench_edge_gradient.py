"""dE/dw_e = sum over samples of delta_target(e) a_source(e), 16 edges a unit"""

import numpy as np

from conftest import Case, random_fan, rounding


def bench_edge_gradient(case: Case) -> None:
    delta, a = case.draw(case.n, case.m), case.draw(case.n_in, case.m, seed=1)
    fan, _ = random_fan(case)
    target = np.repeat(np.arange(case.n, dtype=np.int32), np.diff(fan.start))
    terms = delta.astype(float)[target] * a[fan.peer]
    args = case.here(delta, a, target, fan.peer)
    case.measure(
        lambda: case.k.edge_gradient(*args, None),
        terms.sum(axis=1),
        rounding(case.m, np.abs(terms).sum(axis=1)),
        flops=2 * target.size * case.m,
        moved=delta.size + a.size + 3 * target.size,
    )
