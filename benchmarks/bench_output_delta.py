"""delta = (a - y) / m * a (1 - a)"""

import numpy as np

from conftest import Case, rounding
from deltaprop.activations import ACTIVATIONS
from deltaprop.losses import LOSSES


def bench_output_delta(case: Case) -> None:
    random = np.random.default_rng(0)
    a, Y = (random.random((case.m, case.n), case.dtype) for _ in range(2))
    here, targets = case.here(a, Y)
    g, loss = ACTIVATIONS["logistic"], LOSSES["half_mse"]
    wide = a.astype(float)
    wanted = (wide - Y) / case.m * (wide * (1 - wide))
    case.measure(
        lambda: case.k.output_delta(here, targets, here, None, loss, g, 1 / case.m, None),
        wanted,
        rounding(0, np.full_like(wanted, 1 / case.m)),
        flops=5 * a.size,
        moved=3 * a.size,
    )
