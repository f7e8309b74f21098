"""The README tells the truth: its code runs, its lines are in the sources, its links lead on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import deltaprop as dp
from deltaprop.activations import ACTIVATIONS
from deltaprop.losses import LOSSES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_snippets_run(capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippets
    for snippet in snippets:
        exec(snippet, {})
    assert "differing bits" in capsys.readouterr().out


def test_the_check_of_a_derivation_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    section = README.split("## Check your own derivation")[1].split("\n## ")[0]
    (snippet,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (shown,) = re.findall(r"```\n(0\.W.*?)```", section, re.DOTALL)
    exec(snippet, {})
    assert capsys.readouterr().out == shown


def test_the_lines_of_the_equations_are_in_the_code() -> None:
    code = (ROOT / "src/deltaprop/equations.py").read_text(encoding="utf-8")
    table = README.split("line in `src/deltaprop/equations.py`")[1].split("\n\n")[0]
    lines = re.findall(r"\| `(.*?)` \|$", table, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        assert line in code
    assert "self.kernels.update(self.parameters, gradient, (), DESCENT, (rate,))" in README
    assert "self.kernels.update(self.parameters, gradient, (), DESCENT, (rate,))" in (
        ROOT / "src/deltaprop/net.py"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), f"{page.name} links to {target}"


def test_files_in_the_reading_order_are_there() -> None:
    order = README.split("## Reading order")[1].split("##")[0]
    for name in re.findall(r"`((?:src|kernels)/[^`]+)`", order):
        assert (ROOT / name).is_file(), name


def test_every_name_of_the_tables_is_told() -> None:
    names = [*ACTIVATIONS, *LOSSES, *(b.name for b in dp.backends())]
    missing = [name for name in names if name not in README]
    assert not missing
