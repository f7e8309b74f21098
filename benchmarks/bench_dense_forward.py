"""z = a_in W^T + b, a = logistic(z)"""

import numpy as np

from conftest import Case, rounding
from deltaprop.activations import ACTIVATIONS


def bench_dense_forward(case: Case) -> None:
    a_in = case.draw(case.m, case.n_in)
    W, b = case.draw(case.n, case.n_in, seed=1), case.draw(case.n, seed=2)
    args = case.here(a_in, W, b)
    z = a_in.astype(float) @ W.T + b
    size = np.abs(a_in) @ np.abs(W.T) + np.abs(b)
    case.measure(
        lambda: case.k.dense_forward(*args, ACTIVATIONS["logistic"], False)[1],
        1 / (1 + np.exp(-z)),
        rounding(case.n_in, size),
        flops=2 * case.m * case.n * case.n_in,
        moved=a_in.size + W.size + b.size + z.size,
    )
