"""The command line for tests: commands run, and small data for them in the current folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from deltaprop.cli import main


def run(*arguments: object) -> Result:
    """The command's result; an exception that would show a traceback fails the test."""
    result = CliRunner().invoke(main, [str(x) for x in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def well(*arguments: object) -> str:
    """What a command prints that succeeds."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def refused(*arguments: object, words: Iterable[object]) -> None:
    """A failure is told in one line, the last one, that has all these words."""
    result = run(*arguments)
    assert result.exit_code != 0
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    for word in words:
        assert str(word) in last


def write_flowers() -> Path:
    """40 samples of two columns; the label says whether their sum is positive."""
    x = np.random.default_rng(0).standard_normal((40, 2))
    table = np.column_stack([x, x.sum(axis=1) > 0])
    np.savetxt("flowers.csv", table, delimiter=",", header="a,b,y", comments="")
    return Path("flowers.csv")


def write_houses() -> Path:
    """Numbers as people have them: square metres, years, prices."""
    random = np.random.default_rng(0)
    size, year = random.uniform(40, 200, 50), random.integers(1900, 2020, 50)
    price = 3000 * size + 500 * (year - 1900) + random.normal(0, 5000, 50)
    np.savetxt("houses.csv", np.column_stack([size, year, price]), delimiter=",")
    return Path("houses.csv")
