"""What is compiled and kept: whole or not used, and never in the way of computing."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest

from deltaprop.devices import cache, host
from deltaprop.devices.cache import cache_folder, cached, say_once
from deltaprop.devices.host import HostDevice
from deltaprop.devices.nvrtc import cubin_file
from deltaprop.errors import KernelError
from kernels.helpers import Text
from processes import end, python, start

REAL = np.dtype("float32")
CODE = bytes(range(256)) * 40
TINY = 'extern "C" __global__ void tiny(real* x) { x[0] = 7; }'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("DELTAPROP_CACHE", str(tmp_path / "cache"))
    say_once.cache_clear()
    cache._own_folder.cache_clear()
    return tmp_path / "cache"


class Build:
    """Code, and how often it was made."""

    times = 0

    def __call__(self) -> bytes:
        self.times += 1
        return CODE


def flip_a_bit(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


DAMAGE = {
    "empty": lambda content: b"",
    "torn": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "a bit flipped": flip_a_bit,
    "garbage": lambda content: b"garbage" * 100,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_built_anew(folder: Path, damage: str) -> None:
    build = Build()
    path = cached("unit", "cubin", build, "source")
    assert cached("unit", "cubin", build, "source") == path
    assert build.times == 1
    path.write_bytes(DAMAGE[damage](CODE))
    assert cached("unit", "cubin", build, "source").read_bytes() == CODE
    assert build.times == 2
    assert list(folder.iterdir()) == [path]


def test_a_file_of_something_else_under_that_name(folder: Path) -> None:
    """Such as of another architecture: its digest is not that of the name."""
    one, other = (cached("unit", "cubin", lambda c=c: c, c.decode()) for c in (b"sm_75", b"sm_90"))
    one.write_bytes(other.read_bytes())
    assert cached("unit", "cubin", lambda: b"sm_75", "sm_75").read_bytes() == b"sm_75"


def test_each_has_a_file_of_its_own(folder: Path) -> None:
    for name, kind, depends in (
        ("a", "so", "x"),
        ("b", "so", "x"),
        ("a", "o", "x"),
        ("a", "so", "y"),
    ):
        build = Build()
        cached(name, kind, build, depends)
        assert build.times == 1
    assert len(list(folder.iterdir())) == 4


def computes() -> bool:
    """Whether the CPU's device does, with all that it needs loaded anew."""
    host._entry.cache_clear()
    x = np.zeros(1, REAL)
    HostDevice().launch(Text("tiny", REAL, text=TINY), (1, 1, 1), (1, 1, 1), (x,))
    return bool(x[0] == 7)


def test_a_library_that_is_damaged_is_compiled_anew(folder: Path) -> None:
    assert computes()
    (path,) = folder.glob("tiny-*.so")
    whole = path.read_bytes()
    path.unlink()  # it is loaded, and what is loaded changes with its file
    path.write_bytes(flip_a_bit(whole))
    assert computes()
    assert path.read_bytes() == whole


def test_a_library_that_cannot_be_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is what the compiler made, as in a folder that may hold no programs."""
    host._runtime()
    monkeypatch.setattr(host, "_compile", lambda source: b"not a library")
    with pytest.raises(
        KernelError, match=r"tiny cannot be loaded: .*tiny-\w+-\w+\.so.*; set DELTA"
    ):
        computes()


# ---------------------------------------------------------------------- nothing can be kept


def read_only(*_, **__) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def full(*_, **__) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


FAULTS = {
    "mkdir": (read_only, "Read-only file system"),
    "write_bytes": (full, "No space left on dev"),
}


@pytest.mark.parametrize("method", FAULTS)
def test_it_computes_where_nothing_can_be_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, method: str
) -> None:
    """And says so, in one line with the folder and the reason."""
    fault, why = FAULTS[method]
    usual = getattr(Path, method)

    def fails_there(path: Path, *args, **options):
        return (fault if path.is_relative_to(folder) else usual)(path, *args, **options)

    monkeypatch.setattr(Path, method, fails_there)
    assert computes() and computes()
    cubin = cubin_file(Text("tiny", REAL, text=TINY), "sm_90")
    assert cubin.read_bytes()[:4] == b"\x7fELF"
    assert not cubin.is_relative_to(folder)
    assert not folder.exists() or not list(folder.iterdir())
    (line,) = capsys.readouterr().err.splitlines()
    assert f"could not keep what was compiled in {folder}: {why}" in line
    assert "set DELTAPROP_CACHE" in line


COMPUTES = """
from test_cache import computes
print(computes())
"""


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    """Nothing stays behind when the process ends."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "file").touch()
    out, err = python(COMPUTES, DELTAPROP_CACHE=tmp_path / "file", TMPDIR=tmp_path / "temporary")
    assert out == "True"
    assert re.fullmatch(r"deltaprop: could not keep .*/file: .*; set DELTAPROP_CACHE", err)
    assert left(tmp_path / "temporary") == []


NO_HOME = """
import os, pwd
for name in ("HOME", "DELTAPROP_CACHE", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
def nobody(uid):
    raise KeyError
pwd.getpwuid = nobody
"""


def test_without_a_home(tmp_path: Path) -> None:
    """A forked child takes nothing away, and what is kept goes with the process."""
    fork = """
import sys
if os.fork() == 0:
    sys.exit()
os.wait()
from deltaprop.devices.cache import cache_folder
print(cache_folder().is_dir() and len(list(cache_folder().iterdir())) > 1)
"""
    out, err = python(NO_HOME + COMPUTES + fork, TMPDIR=tmp_path)
    assert out == "True\nTrue"
    assert err == (
        "deltaprop: no home directory: what is compiled is not kept; set DELTAPROP_CACHE"
    )
    assert left(tmp_path) == []


# ------------------------------------------------------------------------- several processes

TOGETHER = """
import sys, time
import numpy as np
from deltaprop.devices import nvrtc
from deltaprop.devices.unit import Unit
unit = Unit("add", np.dtype("float32"))
nvrtc.nvrtc_version()
print("ready", flush=True)
sys.stdin.readline()
for arch in ("sm_75", "sm_90"):
    path = nvrtc.cubin_file(unit, arch)
    print(path.name, hash(path.read_bytes()))
"""


def test_processes_that_fill_the_cache_together(folder: Path) -> None:
    """Each gets whole files with the same bytes; nothing half-written stays."""
    processes = [start(TOGETHER, PYTHONHASHSEED=0) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    outs = {end(process)[0] for process in processes}
    assert len(outs) == 1, outs
    names = [line.split()[0] for line in outs.pop().splitlines()]
    assert sorted(names) == sorted(left(folder))
    assert all(cache._is_whole(cache_folder() / name) for name in names)
