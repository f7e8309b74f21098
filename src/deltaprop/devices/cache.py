"""Compiled kernels kept on disk, for this process and the next."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path


@cache
def kernels_folder() -> Path:
    """The CUDA C++ sources: in the installed package, or beside src/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "kernels", package.parents[1] / "kernels"):
        if (folder / "scalar.cuh").is_file():
            return folder
    raise FileNotFoundError(f"the CUDA sources are missing: no kernels/ in {package}")


def cache_folder() -> Path:
    """Where compiled kernels are kept: $DELTAPROP_CACHE, else ~/.cache/deltaprop."""
    if chosen := os.environ.get("DELTAPROP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deltaprop"


@cache
def _sources() -> bytes:
    files = sorted(p for p in kernels_folder().rglob("*") if p.is_file())
    return b"\0".join(p.read_bytes() for p in files)


def cached(name: str, kind: str, build: Callable[[Path], object], *depends: str) -> Path:
    """The file `name`-<digest>.`kind`, which `build` writes at a path it is given.

    The digest is of the CUDA sources and of all that it `depends` on. The file is moved into
    place when it is whole, so no other process or thread sees half of it.
    """
    digest = hashlib.sha256(b"\0".join((_sources(), *(d.encode() for d in depends))))
    path = cache_folder() / f"{name}-{digest.hexdigest()[:24]}.{kind}"
    if not path.exists():
        keep(path, build)
    return path


def keep(path: Path, write: Callable[[Path], object]) -> None:
    """The file at that path, which `write` makes at another: nobody sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
