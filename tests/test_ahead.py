"""Compiling ahead: after it no net of the shipped activations and losses compiles anything."""

from __future__ import annotations

import ast
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp
from commands import refused, well
from deltaprop.devices.cache import cache_folder

EVERYTHING = """
import sys
import numpy as np
import deltaprop as dp

def nets(g, loss, dtype):
    hidden = "logistic" if g.rowwise else g
    for output in {g.name, loss.link or g.name}:
        if (loss.link or dp.ACTIVATIONS[output].rowwise) and loss.link != output:
            continue
        for bias in (True, False):
            net = dp.MLP([5, 4, 3, 2], hidden, output, bias=bias, dtype=dtype)
            yield net
            yield net.to_graph()
        yield dp.MLP([5, 2], output=output, dtype=dtype, ensemble=3)
        yield dp.Graph.from_arrays(
            [0, 1, 2, 3, 2], [2, 2, 3, 4, 4], inputs=2, dtype=dtype,
            outputs=[4] if output == "softmax" else [3, 4], activation=hidden, output=output,
        )

def everything(net, loss):
    n_in = net.inputs if isinstance(net.inputs, int) else len(net.inputs)
    n = net.outputs if isinstance(net.outputs, int) else len(net.outputs)
    X, Y = np.ones((150, n_in), net.dtype), np.zeros((150, n), net.dtype)
    Y[:, 0] = 1
    net.value_and_grad(X, Y, loss)
    net.value_and_grad(X, Y, loss, sample_weight=np.ones(150, net.dtype), micro_batch=64)
    net.train_step(X, Y, loss, learning_rate=0.1)
    net.loss(X, Y, loss)
    net.predict(X)
    if not isinstance(net, dp.Ensemble):
        net.backward(net.forward(X), Y, loss)
        net.pull_back(net.forward(X), Y)

count = 0
for dtype in ("float32", "float64"):
    for g in dp.ACTIVATIONS.values():
        for loss in dp.LOSSES.values():
            for net in nets(g, loss, dtype):
                everything(net, loss)
                count += 1
    wide = dp.MLP([300, 300, 1], dtype=dtype)
    wide.value_and_grad(np.ones((300, 300), dtype), np.ones((300, 1), dtype))
print(count > 300, "numba" in sys.modules)
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"DELTAPROP_BACKEND": "numba"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def warm() -> dp.Warmup:
    return dp.warmup()


def test_after_it_nothing_is_compiled(warm: dp.Warmup) -> None:
    done = python(EVERYTHING)
    assert done.stderr == ""
    assert done.stdout == "True False\n"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_whatever_the_number_of_threads(warm: dp.Warmup, threads: str) -> None:
    wide = "X = np.ones((300, 300), 'f'); dp.MLP([300, 300]).value_and_grad(X, X)"
    done = python(f"import numpy as np, deltaprop as dp; {wide}", DELTAPROP_NUM_THREADS=threads)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_second_time_all_of_it_is_there(warm: dp.Warmup) -> None:
    again = dp.warmup()
    assert again.folder == warm.folder == cache_folder()
    assert again.compiled == 0
    assert again.there >= warm.compiled + warm.there > 100


@pytest.fixture
def kept(warm: dp.Warmup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is kept, in use; what is added to it, or taken away, ends with the test."""
    folder = tmp_path / "kept"
    shutil.copytree(cache_folder(), folder)
    monkeypatch.setenv("DELTAPROP_CACHE", str(folder))
    return folder


def test_what_a_test_defines_is_compiled_too(kept: Path) -> None:
    never_seen = 1 + secrets.randbelow(2**20) / 2**20
    dp.activation("odd_one", lambda z: z * z * never_seen)
    assert dp.warmup(["float32"], ["odd_one"]).compiled > 2
    assert dp.warmup(["float32"], ["odd_one"]).compiled == 0


def test_the_command(kept: Path) -> None:
    """What is missing is compiled and counted, the rest is not."""
    for path in kept.glob("kernels.dots-*.o"):
        path.unlink()
    command = [sys.executable, "-W", "error", "-m", "deltaprop.cli", "warmup"]
    for dtype, compiled in (("float32", 1), ("float64", 1), ("float64", 0)):
        done = subprocess.run(
            [*command, "--dtype", dtype, "--activation", "relu"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        assert done.stdout.startswith(f"{compiled} functions compiled, ")
        assert done.stdout.endswith(f" s\nkept in {kept}\n")


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("warmup", "--activation", "rely", words=["'rely'", "'relu'"])
    refused("warmup", "--dtype", "float16", words=["float16"])
    (tmp_path / "file").touch()
    monkeypatch.setenv("DELTAPROP_CACHE", str(tmp_path / "file" / "kept"))
    refused("warmup", words=["file"])
    assert "--activation" in well("warmup", "--help")


# ------------------------------------------------------------------------- beside other code

USERS = """
import numpy as np
from deltaprop.backends.native import address
address("edges.edge_sums", np.dtype("float32"))
import numba

@numba.njit
def f(n, m):
    if n < 0:
        raise ValueError("negative")
    x = np.zeros(min(n, m))
    for i in range(x.size):
        x[i] = min(i, 3) + max(i, 2)
    return x.sum(), [str(i) for i in range(min(n, 2))]

print(f(5, 7), f.py_func(5, 7) == f(5, 7))
try:
    f(-1, 2)
except ValueError as error:
    print(error)
"""


def test_numba_is_as_before_for_others(tmp_path: Path) -> None:
    """What it compiled for deltaprop has no machine code; what it compiles for others does."""
    done = python(USERS, DELTAPROP_CACHE=str(tmp_path))
    assert "compiling for this CPU" in done.stderr
    assert done.stdout == "(22.0, ['0', '1']) True\nnegative\n"


# -------------------------------------------------------------------------------- lazy names


def test_every_public_name_is_there() -> None:
    code = """
import deltaprop as dp
missing = [name for name in dp.__all__ if name not in dir(dp)]
unlike = [name for name in dp.__all__ if not hasattr(dp, name)]
print(missing, unlike, dp.__version__ == dp.__version__, hasattr(dp, "nothing"))
from deltaprop import *
"""
    done = python(code)
    assert (done.stderr, done.stdout) == ("", "[] [] True False\n")


def test_types_are_told_of_what_is_imported_late() -> None:
    """The table of late names and what type checkers read are the same."""
    tree = ast.parse(Path(dp.__file__).read_text(encoding="utf-8"))
    (block,) = (
        s for s in tree.body if isinstance(s, ast.If) and ast.unparse(s.test) == "TYPE_CHECKING"
    )
    told = {
        (str(s.module).removeprefix("deltaprop").removeprefix("."), alias.name)
        for s in block.body
        if isinstance(s, ast.ImportFrom)
        for alias in s.names
    }
    late = {(module, name) for module, names in dp._LATE.items() for name in names}
    assert told == late | {("", name) for name in dp._MODULES}


def test_threads_can_be_set() -> None:
    usual = dp.get_num_threads()
    dp.set_num_threads(3)
    assert dp.get_num_threads() == 3
    dp.set_num_threads(usual)
    with pytest.raises(ValueError, match="count"):
        dp.set_num_threads(0)
    assert np.isscalar(usual)
