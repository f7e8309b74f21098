"""What a release says of itself: one version, its extras, and how it is cited."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_version_is_semantic() -> None:
    assert re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z.-]+)?", PROJECT["version"])


def test_it_is_the_one_of_the_citation_and_of_the_last_changes() -> None:
    assert str(CITATION["version"]) == PROJECT["version"]
    releases = re.findall(r"^## \[(.*?)\]", CHANGES, re.MULTILINE)
    assert releases[0] == "Unreleased"
    assert releases[1] == PROJECT["version"]


def test_changes_are_of_the_known_kinds() -> None:
    kinds = set(re.findall(r"^### (.*)$", CHANGES, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_has_what_the_format_wants() -> None:
    """Citation File Format 1.2.0: what is required, and nothing it does not know."""
    required = {"cff-version", "message", "title", "authors"}
    known = {"type", "abstract", "version", "license", "keywords", "date-released", "doi", "url"}
    assert required <= set(CITATION) <= required | known | {"repository-code"}
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["keywords"] == PROJECT["keywords"]
    assert [author["name"] for author in CITATION["authors"]] == [
        author["name"] for author in PROJECT["authors"]
    ]


def test_a_gpu_needs_no_library_of_matrix_products() -> None:
    """CuPy's [ctk] or cuda-core's [cu13] would pull gigabytes."""
    for name in ("cuda12", "cuda13", "cuda13-local"):
        assert not [entry for entry in EXTRAS[name] if "[" in entry or "blas" in entry]


@pytest.mark.parametrize("name", EXTRAS)
def test_the_readme_tells_every_extra(name: str) -> None:
    install = (ROOT / "README.md").read_text("utf-8").split("## Install\n")[1].split("\n## ")[0]
    assert f"| `{name}` |" in install
