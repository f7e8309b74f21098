"""e = the squared error of each sample"""

from conftest import Case, rounding
from deltaprop.losses import LOSSES


def bench_sample_loss(case: Case) -> None:
    a, Y = case.draw(case.m, case.n), case.draw(case.m, case.n, seed=1)
    args = case.here(a, Y)
    wanted = ((a.astype(float) - Y) ** 2).sum(axis=1, keepdims=True)
    case.measure(
        lambda: case.k.sample_loss(*args, LOSSES["half_mse"]),
        wanted,
        rounding(case.n, wanted),
        flops=3 * a.size,
        moved=2 * a.size + case.m,
    )
