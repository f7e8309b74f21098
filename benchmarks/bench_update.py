"""w <- w - eta m / (sqrt v + eps), with Adam's means m and v, in one pass"""

import numpy as np
import pytest

from conftest import Case, rounding
from deltaprop.optimizers import SGD, Adam, Optimizer


@pytest.mark.parametrize("optimizer", [SGD(), Adam()], ids=["SGD", "Adam"])
def bench_update(case: Case, optimizer: Optimizer) -> None:
    w, g = case.draw(case.m * case.n), case.draw(case.m * case.n, seed=1)
    count = len(optimizer.rules) - 1
    weights, gradients, *states = case.here(w.copy(), g, *(g * g + 1 for _ in range(count)))
    constants = optimizer.constants(2.0**-60, 1)  # too small to move a weight: w stays w

    def step() -> object:
        case.k.update(weights, gradients, states, optimizer.rules, constants)
        return weights

    moved = (1 + 2 * len(optimizer.rules)) * w.size
    case.measure(step, w, rounding(0, np.abs(w)), flops=2 * w.size, moved=moved)
