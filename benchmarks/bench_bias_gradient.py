"""dE/db = the sum of delta over samples"""

import numpy as np

from conftest import Case, rounding


def bench_bias_gradient(case: Case) -> None:
    delta = case.draw(case.m, case.n)
    (here,) = case.here(delta)
    case.measure(
        lambda: case.k.bias_gradient(here, None),
        delta.astype(float).sum(axis=0),
        rounding(case.m, np.abs(delta).sum(axis=0)),
        flops=delta.size,
        moved=delta.size + case.n,
    )
