"""x <- x + y"""

import numpy as np

from conftest import Case


def bench_add(case: Case) -> None:
    x, zero = case.draw(case.m * case.n), np.zeros(case.m * case.n, case.dtype)
    left, right = case.here(x.copy(), zero)

    def step() -> object:
        case.k.add(left, right)
        return left

    case.measure(step, x, 0.0, flops=x.size, moved=3 * x.size)
