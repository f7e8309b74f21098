"""The snippets of pages that need PyTorch or JAX run, and print what is shown."""

from __future__ import annotations

import pytest

from snippets import check
from test_pages import HOMES, PAGES


@pytest.mark.parametrize("page", sorted(HOMES))
def test_the_page_prints_what_it_says(page: str) -> None:
    check(PAGES[page])
