"""delta = (delta_next W_next) * a (1 - a)"""

import numpy as np

from conftest import Case, rounding
from deltaprop.activations import ACTIVATIONS


def bench_hidden_delta(case: Case) -> None:
    delta_next = case.draw(case.m, case.n_in)
    W_next = case.draw(case.n_in, case.n, seed=1)
    a = np.random.default_rng(2).random((case.m, case.n), case.dtype)
    args = case.here(delta_next, W_next, a)
    size = np.abs(delta_next) @ np.abs(W_next)
    case.measure(
        lambda: case.k.hidden_delta(*args, ACTIVATIONS["logistic"]),
        (delta_next.astype(float) @ W_next) * (a.astype(float) * (1 - a.astype(float))),
        rounding(case.n_in, size),
        flops=2 * case.m * case.n * case.n_in,
        moved=delta_next.size + W_next.size + 2 * a.size,
    )
