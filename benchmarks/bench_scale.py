"""c x"""

from conftest import Case


def bench_scale(case: Case) -> None:
    x = case.draw(case.m * case.n)
    (there,) = case.here(x)
    case.measure(lambda: case.k.scale(there, 0.5), x / 2, 0.0, flops=x.size, moved=2 * x.size)
