"""Seconds that may be spent: counted, and over when nothing is left."""

from __future__ import annotations

import math
import signal
import time

import pytest

from deltaprop.peers import allowance
from deltaprop.peers.allowance import Allowance


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "WORTH", 0.05)
    monkeypatch.setattr(allowance, "AGAIN", 0.05)


def test_what_is_spent_is_counted() -> None:
    some = Allowance(60.0)
    with some.spend():
        time.sleep(0.02)
    assert 58 < some.left <= 60 - 0.02
    endless = Allowance(math.inf)
    with endless.spend():
        pass
    assert endless.left == math.inf


def test_what_lasts_too_long_is_broken_off_even_if_it_catches_exceptions() -> None:
    before = signal.getsignal(signal.SIGALRM)
    some, begin = Allowance(0.1), time.perf_counter()
    with pytest.raises(TimeoutError, match="no time left: it was broken off"), some.spend():
        while time.perf_counter() < begin + 2:
            try:
                time.sleep(1)
            except Exception:
                continue
    assert time.perf_counter() - begin < 2
    with pytest.raises(TimeoutError, match=r"^no time left$"), some.spend():
        raise AssertionError("nothing is begun")
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_other_errors_are_their_own() -> None:
    some = Allowance(60.0)
    with pytest.raises(KeyError), some.spend():
        raise KeyError
    assert some.left < 60
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
