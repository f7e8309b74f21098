"""delta = d * a (1 - a), and dE/db, its sum over samples"""

import numpy as np

from conftest import Case, rounding
from deltaprop.activations import ACTIVATIONS


def bench_fused_delta(case: Case) -> None:
    d, a = case.draw(case.m, case.n), np.random.default_rng(2).random((case.m, case.n), case.dtype)
    db = case.k.arrays.empty((case.n,), d.dtype)
    args = case.here(d, a)
    case.measure(
        lambda: case.k.fused_delta(*args, ACTIVATIONS["logistic"], db),
        d.astype(float) * (a.astype(float) * (1 - a.astype(float))),
        rounding(0, np.abs(d)),
        flops=4 * d.size,
        moved=3 * d.size + case.n,
    )
