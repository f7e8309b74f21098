"""w <- w - eta g"""

import numpy as np

from conftest import Case, rounding


def bench_descend(case: Case) -> None:
    w, g = case.draw(case.m * case.n), case.draw(case.m * case.n, seed=1)
    weights, gradients = case.here(w.copy(), g)

    def step() -> object:
        case.k.descend(weights, gradients, 2.0**-60)  # too small to move a weight: w stays w
        return weights

    case.measure(step, w, rounding(0, np.abs(w)), flops=2 * w.size, moved=3 * w.size)
