"""What `check_backprop` returns, of any net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCALES = {
    "half_sse": "1",
    "half_mse": "1/m",
    "mse": "2/(m n_out)",
    "cross_entropy": "1/m",
    "binary_cross_entropy": "1/m",
}
"""The scale of each loss's error, as it is written."""

SAME = "; or, which gives the same numbers: "
"""Between explanations that cannot be told apart."""

ONE_SAMPLE = "there is one sample: a missing 1/m cannot be seen"
ALL_RIGHT = "every gradient is right, to within rounding"


@dataclass(frozen=True)
class Verdict:
    """On the gradient of one parameter.

    right
        Whether every element is right, to within rounding.
    mistake
        What explains the gradient exactly; "" if it is right or nothing does.
    error
        The largest error over what rounding may do, at most 1 if right; inf for a wrong shape.
    worst
        How far off it is and where; "" if it is right.
    """

    right: bool
    mistake: str
    error: float
    worst: str

    def __str__(self) -> str:
        if self.right:
            return "right"
        return f"WRONG  {self.mistake or f'not explained, {self.worst}'}"


@dataclass(frozen=True)
class BackpropCheck:
    """What `check_backprop` found; true if every gradient is right.

    `verdicts` gives a `Verdict` for each parameter ("0.W"; "x1 -> h" and "bias of h" of a graph),
    `summary` the likeliest mistake and
    how to mend it, `notes` what could not have been seen.
    """

    verdicts: Mapping[str, Verdict]
    summary: str
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(verdict.right for verdict in self.verdicts.values())

    def __str__(self) -> str:
        width = max(6, *map(len, self.verdicts))
        lines = [f"{name:<{width}} {verdict}" for name, verdict in self.verdicts.items()]
        return "\n".join([*lines, self.summary, *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__
