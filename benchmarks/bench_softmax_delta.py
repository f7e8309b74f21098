"""delta_k = a_k (u_k - sum_j a_j u_j), row by row"""

import numpy as np

from conftest import Case, rounding


def bench_softmax_delta(case: Case) -> None:
    z, u = case.draw(case.m, case.n), case.draw(case.m, case.n, seed=1)
    a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    args = case.here(a, u)
    p, v = a.astype(float), u.astype(float)
    size = np.abs(p * v).sum(axis=1, keepdims=True)
    case.measure(
        lambda: case.k.softmax_delta(*args),
        p * (v - (p * v).sum(axis=1, keepdims=True)),
        rounding(case.n, p * (np.abs(v) + size)),
        flops=4 * z.size,
        moved=3 * z.size,
    )
