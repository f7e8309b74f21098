"""Which deltaprop this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version() -> str:
    """Of the installed package; "unknown" for a source tree on the path."""
    try:
        return installed("deltaprop")
    except PackageNotFoundError:
        return "unknown"
