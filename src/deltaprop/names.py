"""What units are called, and how errors list them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Name = str | int
"""What a unit may be called."""
SHOWN = 6
"""How many units an error lists."""


def as_name(name: Any) -> Name:
    """A unit's name, or TypeError."""
    if isinstance(name, str) and name:
        return name
    if isinstance(name, (int, np.integer)) and not isinstance(name, bool):
        return int(name)
    raise TypeError(f"a unit is named by a str or an int, got {name!r}")


def as_names(what: str, names: Any) -> list[Name]:
    """Names that are given together: none twice, at least one."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f"{what} must list the names of units, got {names!r}")
    found = [as_name(name) for name in names]
    if not found:
        raise ValueError(f"{what} must name at least one unit")
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise ValueError(f"{what} names {listed(twice)} more than once")
    return found


def listed(names: Sequence[Any]) -> str:
    """The first few of many names."""
    more = len(names) - SHOWN
    text = ", ".join(repr(name) for name in names[:SHOWN])
    return f"{text} and {more} more" if more > 0 else text
