"""y = exp(x), tanh(x): the elementary functions on arrays"""

import numpy as np
import pytest

from conftest import Case, rounding
from deltaprop.elementary import exp, tanh


@pytest.mark.parametrize("f", [exp, tanh], ids=["exp", "tanh"])
def bench_apply(case: Case, f) -> None:
    x = case.draw(case.m, case.n)
    (here,) = case.here(x)
    wanted = {exp: np.exp, tanh: np.tanh}[f](x.astype(float))
    case.measure(
        lambda: case.k.apply(f, here), wanted, rounding(0, np.abs(wanted)), moved=2 * x.size
    )
