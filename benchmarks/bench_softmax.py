"""p = exp(z - max z) / sum, row by row"""

import numpy as np

from conftest import Case, rounding


def bench_softmax(case: Case) -> None:
    z = case.draw(case.m, case.n)
    (here,) = case.here(z)
    shifted = z.astype(float) - z.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    wanted = np.exp(shifted) / total
    case.measure(
        lambda: case.k.softmax(here),
        wanted,
        rounding(case.n, 1 + np.abs(shifted)),
        moved=2 * z.size,
    )
