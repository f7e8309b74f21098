"""Trainings that are killed, a hundred of them, end as if nobody had."""

from __future__ import annotations

from pathlib import Path

from processes import python

CODE = """
from pathlib import Path
from kill_training import KILLS, survivors
print(survivors(KILLS, Path({!r})), "of", KILLS)
"""


def test_what_is_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """In a process without threads, which forks them."""
    out, _ = python(CODE.format(str(tmp_path)))
    assert out == "100 of 100"
