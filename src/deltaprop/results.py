"""Figures as JSON, which a run that is stopped leaves as they were last written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(found: dict[str, Any], path: Path) -> None:
    """The whole file at once."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
