"""What is compiled is kept: once for all processes, for what it was made of, and only if whole."""

from __future__ import annotations

import ast
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.backends import native
from deltaprop.devices.cache import cache_folder, say_once
from processes import end, python, start

F32 = np.dtype("float32")
RULE = dp.ACTIVATIONS["squareplus"].value
Z = sample(100, "float32")

ACTIVATE = """
import deltaprop as dp
from conftest import sample
for name in ("squareplus", "hard_sigmoid"):
    print(dp.digest(dp.ops.activate(sample((10, 10), "float32"), name, backend="numba")))
"""
ONCE = "compiling for this CPU, once"


def wanted() -> str:
    names = ("squareplus", "hard_sigmoid")
    x = sample((10, 10), "float32")
    return "\n".join(dp.digest(dp.ops.activate(x, name, backend="reference")) for name in names)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("DELTAPROP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(rule: Any = RULE) -> bytes:
    return native._kept("rows.value", (F32, rule))


# ------------------------------------------------------------------------- once for all processes

NETS = """
import sys
import numpy as np
import deltaprop as dp
from conftest import sample
X, Y = sample((70, 3), "float32", 1), sample((70, 2), "float32", 2)
net = dp.MLP([3, 5, 2], "tanh", backend="numba")
print(dp.digest(net.value_and_grad(X, Y)[1]))
net.train_step(X, Y)
print(dp.digest(net.to_graph().value_and_grad(X, Y)[1]))
"""


def test_a_warm_process_imports_no_compiler() -> None:
    python(NETS)
    out, err = python(NETS + "assert 'numba' not in sys.modules")
    assert err == ""
    X, Y = sample((70, 3), "float32", 1), sample((70, 2), "float32", 2)
    net = dp.MLP([3, 5, 2], "tanh", backend="reference")
    first = dp.digest(net.value_and_grad(X, Y)[1])
    net.train_step(X, Y)
    assert out.split() == [first, dp.digest(net.to_graph().value_and_grad(X, Y)[1])]


def test_the_notice_is_printed_once_by_the_first_process_alone(folder: Path) -> None:
    out, err = python(ACTIVATE)
    assert out == wanted()
    assert err.count("\n") == 0
    assert ONCE in err
    assert str(folder) in err
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["rows.value"] * 2
    assert python(ACTIVATE) == (wanted(), "")


def test_two_processes_that_both_come_first(folder: Path) -> None:
    for process in [start(ACTIVATE) for _ in range(2)]:
        assert end(process)[0] == wanted()
    names = [path.name for path in folder.iterdir()]
    assert len(names) == 2
    assert not any(name.startswith(".") for name in names), "a partial file was left"
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    out, err = python(ACTIVATE)
    assert out == wanted()
    assert ONCE in err, "what is truncated is compiled anew"


# -------------------------------------------------------------------------------- only if whole

DAMAGE = {
    "empty": lambda whole: b"",
    "truncated": lambda whole: whole[:-1],
    "one bit": lambda whole: whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
    "another digest": lambda whole: bytes(32) + whole[32:],
    "longer": lambda whole: whole + b"\0",
}


def test_a_damaged_file_is_replaced(folder: Path) -> None:
    kept()
    (path,) = folder.iterdir()
    for damage in DAMAGE.values():
        path.write_bytes(damage(path.read_bytes()))
        assert native._read(path) is None
        assert kept() == native._read(path), "what was compiled anew is not what is kept"
    assert len(list(folder.iterdir())) == 1


def test_without_a_folder_it_computes_and_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "cache", tmp_path / "file"):
        out, err = python(ACTIVATE, DELTAPROP_CACHE=place)
        assert out == wanted()
        notice, not_kept = err.splitlines()
        assert ONCE in notice
        assert f"could not keep what was compiled in {place}: " in not_kept
        assert not_kept.endswith("; set DELTAPROP_CACHE")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write there")
def test_a_folder_that_cannot_be_written_to(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    out, err = python(ACTIVATE)
    assert out == wanted()
    assert err.count("could not keep") == 1


def test_a_folder_in_the_place_of_a_file(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """As of a folder that cannot be written to, but for root too."""
    say_once.cache_clear()
    kept()
    (path,) = folder.iterdir()
    path.unlink()
    path.mkdir()
    for _ in range(2):
        assert kept()
    assert capsys.readouterr().err.count("could not keep") == 1
    assert [p.name for p in folder.iterdir()] == [path.name]


# -------------------------------------------------------------------------- for what it is made of


def test_another_rule_of_the_same_name_has_other_code(folder: Path) -> None:
    found = []
    for text in ("z * z", "z * z * z", "0.5 * z"):
        dp.ACTIVATIONS.pop("mine", None)
        dp.activation("mine", text)
        found.append(dp.ops.activate(Z.reshape(10, 10), "mine", backend="numba"))
        reference = dp.ops.activate(Z.reshape(10, 10), "mine", backend="reference")
        assert_same_bits(found[-1], reference, text)
    assert len({x.tobytes() for x in found}) == 3
    assert len(list(folder.iterdir())) == 3


def test_constants_count_to_the_last_bit(folder: Path) -> None:
    def times(c: float) -> Any:
        return lambda z: c * z

    for c in (0.1, float(np.nextafter(0.1, 1))):
        native._kept("rows.value", (np.dtype("float64"), times(c)))
    assert len(list(folder.iterdir())) == 2


def test_another_cpu_has_other_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_known() -> None:
        for f in (native.host, native._surroundings):
            f.cache_clear()

    before = native._surroundings()
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    nothing_known()
    try:
        assert native._surroundings() != before
        assert native.host() == ("generic", os.environ.get("NUMBA_CPU_FEATURES", ""))
    finally:
        monkeypatch.undo()
        nothing_known()
    assert native._surroundings() == before


def test_all_sources_of_the_loops_count() -> None:
    """What they import from the package is part of what is kept, or a rule that is traced."""
    package = Path(native.__file__).parents[1]
    used = set()
    for path in (package / "backends" / "loops").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("deltaprop."):
                name = str(node.module).removeprefix("deltaprop.").replace(".", "/")
                if not name.startswith("backends/loops"):
                    used.add(f"{name}.py")
    assert used
    assert used <= set(native.SOURCES)
    for name in native.SOURCES:
        assert (package / name).is_file()


# ---------------------------------------------------------------------------- what code may call


def undefined(code: bytes) -> Iterator[str]:
    """The symbols that an ELF file of 64 bits refers to and does not have."""
    (sections,) = struct.unpack_from("<Q", code, 0x28)
    size, count = struct.unpack_from("<HH", code, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", code, sections + i * size) for i in range(count)]
    for _, kind, _, _, first, length, link, _, _, step in headers:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = headers[link][4]
        for at in range(first + step, first + length, step):
            name, _, _, section = struct.unpack_from("<IBBH", code, at)
            if section == 0:
                text = names + name
                yield code[text : code.index(b"\0", text)].decode()


def test_code_calls_nothing_but_what_is_listed() -> None:
    python(NETS)
    files = sorted(cache_folder().glob("*.o"))
    assert {path.name.partition("-")[0] for path in files} >= {"sweeps.sweep", "rows.value"}
    allowed = {*native.OF_C, *native.OF_POSIX, *native.OF_LINUX}
    called = set()
    for path in files:
        code = native._read(path)
        assert code is not None, path.name
        if code[:5] != b"\x7fELF\x02":
            pytest.skip("the object files are of another kind here")
        called |= set(undefined(code))
    assert called <= allowed
    assert called & set(native.OF_POSIX), "the sweeps have a barrier, which gives way"


def test_a_loop_that_could_raise_is_refused(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from deltaprop.backends.loops.jit import by_address

    def raising(dtype: np.dtype) -> Any:
        @by_address(1)
        def run(x):
            if x == 3:
                raise ValueError

        return run

    module = ModuleType("careless")
    module.raising = raising
    monkeypatch.setitem(sys.modules, "deltaprop.backends.loops.careless", module)
    with pytest.raises(RuntimeError, match="a compiled loop must not call "):
        native._kept("careless.raising", (F32,))
    assert not folder.exists() or not list(folder.iterdir())
