"""Compiled kernels kept on disk, for this process and the next."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sys
import tempfile
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
    """Where compiled kernels are kept: $DELTAPROP_CACHE, else ~/.cache/deltaprop.

    Where there is no home it is a folder of this process.
    """
    if chosen := os.environ.get("DELTAPROP_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deltaprop"
    except RuntimeError:
        say_once("no home directory: what is compiled is not kept; set DELTAPROP_CACHE")
        return _own_folder(os.getpid())


@cache
def _own_folder(process: int) -> Path:
    """Removed when that process ends, and by none of its children."""
    from multiprocessing.util import Finalize

    folder = tempfile.mkdtemp(prefix="deltaprop-")
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)
    return Path(folder)


@cache
def _sources() -> bytes:
    files = sorted(p for p in kernels_folder().rglob("*") if p.is_file())
    return b"\0".join(p.read_bytes() for p in files)


def cached(
    name: str, kind: str, build: Callable[[], bytes], *depends: str, anew: bool = False
) -> Path:
    """The file `name`-<key>-<digest>.`kind`, which holds what `build` returns.

    The key is of the CUDA sources and of all that it `depends` on, the digest of what the file
    holds: one that is torn or changed is not used. It is built where it is missing, or `anew`.
    Where it cannot be kept it is in a folder of this process.
    """
    key = hashlib.sha256(b"\0".join((_sources(), *(d.encode() for d in depends)))).hexdigest()[:24]
    if not anew:
        for path in sorted(cache_folder().glob(f"{name}-{key}-*.{kind}")):
            if _is_whole(path):
                return path
    content = build()
    file = f"{name}-{key}-{_digest(content)}.{kind}"
    if not kept(path := cache_folder() / file, content):
        keep(path := _own_folder(os.getpid()) / file, content)
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def _is_whole(path: Path) -> bool:
    """Whether the file holds what its name says."""
    try:
        return path.stem.endswith(f"-{_digest(path.read_bytes())}")
    except OSError:
        return False


def kept(path: Path, content: bytes) -> bool:
    """Whether the file could be kept; if not, a line on stderr says why, once."""
    try:
        keep(path, content)
    except OSError as error:
        why = error.strerror or error
        say_once(f"could not keep what was compiled in {path.parent}: {why}; set DELTAPROP_CACHE")
        return False
    return True


def keep(path: Path, content: bytes) -> None:
    """The file at that path. Nobody sees half of it, whoever else writes the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(8)}-{path.name}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@cache
def say_once(text: str) -> None:
    """On stderr."""
    print(f"deltaprop: {text}", file=sys.stderr)
