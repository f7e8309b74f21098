"""dE/dW = delta^T a_in"""

import numpy as np

from conftest import Case, rounding


def bench_weight_gradient(case: Case) -> None:
    delta, a_in = case.draw(case.m, case.n), case.draw(case.m, case.n_in, seed=1)
    args = case.here(delta, a_in)
    case.measure(
        lambda: case.k.weight_gradient(*args, None),
        delta.astype(float).T @ a_in,
        rounding(case.m, np.abs(delta).T @ np.abs(a_in)),
        flops=2 * case.m * case.n * case.n_in,
        moved=delta.size + a_in.size + case.n * case.n_in,
    )
