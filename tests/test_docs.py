"""The worked page prints what it says it prints, to the last character."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "deriving.md"


def snippets(page: str) -> str:
    """The sessions of a page as one; a blank line in what is printed is spelt out for doctest."""
    blocks = re.findall(r"^```pycon\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return "\n".join(re.sub(r"^$\n", "<BLANKLINE>\n", block, flags=re.M) for block in blocks)


def failures(page: str) -> tuple[int, int]:
    """How many of how many snippets print something else; compared character by character."""
    test = doctest.DocTestParser().get_doctest(snippets(page), {}, PAGE.name, str(PAGE), 0)
    result = doctest.DocTestRunner(optionflags=0).run(test)
    return result.failed, result.attempted


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact backends return the same bits; this one compiles nothing."""
    monkeypatch.setenv("DELTAPROP_BACKEND", "reference")


def test_the_page_prints_what_it_says() -> None:
    failed, attempted = failures(PAGE.read_text(encoding="utf-8"))
    assert failed == 0
    assert attempted > 50


def test_another_digit_would_be_seen() -> None:
    page = PAGE.read_text(encoding="utf-8")
    wrong = page.replace("delta_h = 0.007053 0.007053", "delta_h = 0.007053 0.007052")
    assert wrong != page
    assert failures(wrong)[0] == 1
