"""ln p = (z - max z) - ln sum, row by row"""

import numpy as np

from conftest import Case, rounding


def bench_log_softmax(case: Case) -> None:
    z = case.draw(case.m, case.n)
    (here,) = case.here(z)
    shifted = z.astype(float) - z.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    wanted = shifted - np.log(total)
    case.measure(
        lambda: case.k.log_softmax(here),
        wanted,
        rounding(case.n, 1 + np.abs(shifted)),
        moved=2 * z.size,
    )
