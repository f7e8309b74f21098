"""Every snippet of the documentation runs, and prints what the page says it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from snippets import ROOT, check

DOCS = ROOT / "docs"
HOMES = {"howto/pytorch", "howto/jax"}
"""Pages whose snippets need a library that is not here: tests/homes/docs has them."""

PAGES = {str(page.relative_to(DOCS).with_suffix("")): page for page in DOCS.rglob("*.md")}


@pytest.fixture(autouse=True)
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is shown on a screen."""
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.mark.parametrize("page", sorted(PAGES.keys() - HOMES))
def test_the_page_prints_what_it_says(page: str) -> None:
    check(PAGES[page])


def test_the_homes_are_pages() -> None:
    assert PAGES.keys() >= HOMES


def test_another_digit_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "```python\nprint(1 / 4)\n```\n\n```output\n0.25\n```\n"
    page.write_text(text, encoding="utf-8")
    assert check(page) == 1
    page.write_text(text.replace("0.25", "0.26"), encoding="utf-8")
    with pytest.raises(AssertionError, match=r"page\.md, line 1"):
        check(page)
