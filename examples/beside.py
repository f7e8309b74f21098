"""What the examples share: gradients by hand beside those of backpropagation."""

from __future__ import annotations

from math import isclose
from typing import Any


def beside(by_hand: dict[str, float], gradients: Any) -> None:
    """Prints both, and asserts that they agree to rounding."""
    print(f"{'':<16}{'by hand':>24}{'backpropagation':>24}")
    for name, wanted in by_hand.items():
        ends = tuple(name.split(" -> "))
        kind = "w" if len(ends) == 2 else "b"
        got = gradients[ends if kind == "w" else name]
        print(f"{f'dE/d{kind}({name})':<16}{wanted:>24.16g}{got:>24.16g}")
        assert isclose(got, wanted, rel_tol=1e-13), name
    print()
