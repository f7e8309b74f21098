"""Which backend is chosen, by whom, and what happens where it cannot run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from llvmlite import binding

import deltaprop as dp
from conftest import HERE, assert_same_bits, sample
from deltaprop.devices.cache import cache_folder

backends = sys.modules["deltaprop.backends"]  # `dp.backends` is the function
SIZES = [3, 4, 2]


@pytest.fixture(autouse=True)
def no_choice_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELTAPROP_BACKEND", raising=False)


@pytest.fixture
def nothing_loaded():
    """Backends are loaded anew, as in a new process."""
    backends._made.cache_clear()
    yield
    backends._made.cache_clear()


def chosen(backend: str | None = None) -> str:
    return dp.MLP(SIZES, backend=backend).backend


def python(code: str, **environment: str) -> str:
    """What a Python of its own prints for that code."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ------------------------------------------------------------------------------ what there is


def test_every_backend_has_a_row() -> None:
    rows = dp.backends()
    assert [row.name for row in rows] == ["reference", "numpy", "numba", "cuda", "cuda-host"]
    assert [row.name for row in rows if not row.exact] == ["numpy"]
    for row in rows:
        assert row.available == (row.reason == "")
        if row.available:
            assert chosen(row.name) == row.name
        else:
            with pytest.raises(dp.BackendUnavailableError) as caught:
                chosen(row.name)
            assert str(caught.value) == f"backend {row.name!r}: {row.reason}"
    assert f"numpy {np.__version__}" in rows[0].version
    assert "llvmlite" in rows[2].version


def test_the_import_is_light() -> None:
    heavy = {"numba", "llvmlite", "cupy", "cuda", "matplotlib", "sklearn", "scipy", "torch", "tqdm"}
    heavy |= {"click", "importlib.metadata", "networkx", "safetensors"}
    heavy |= {f"deltaprop.{name}" for name in ("graph", "plot", "diagnosis", "explain", "check")}
    code = f"import deltaprop, sys; print([m for m in {heavy} if m in sys.modules])"
    assert python(code) == "[]"


def test_a_gradient_needs_no_compiler_once_it_is_compiled() -> None:
    gradient = "deltaprop.MLP([4, 3]).value_and_grad(np.ones((5, 4), 'f'), np.ones((5, 3), 'f'))"
    code = f"import sys; import numpy as np; import deltaprop; {gradient}"
    python(code)
    assert python(f"{code}; print('numba' in sys.modules)") == "False"


# ---------------------------------------------------------------------------- order of choice


def test_the_order_of_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen() == "numba"
    monkeypatch.setenv("DELTAPROP_BACKEND", "")
    assert chosen() == "numba"
    monkeypatch.setenv("DELTAPROP_BACKEND", "numpy")
    assert chosen() == "numpy"
    with dp.use_backend("reference"):
        assert chosen() == "reference"
        assert chosen("numba") == "numba"
        assert chosen("auto") == "numba"
    assert chosen() == "numpy"


def test_ops_are_chosen_for_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    z = sample((50, 3), "float64")
    exact, blas = (dp.ops.activate(z, "tanh", backend=name) for name in ("reference", "numpy"))
    assert np.any(exact != blas), "this input cannot tell the two apart"
    monkeypatch.setenv("DELTAPROP_BACKEND", "numpy")
    assert_same_bits(dp.ops.activate(z, "tanh"), blas)
    with dp.use_backend("reference"):
        assert_same_bits(dp.ops.activate(z, "tanh"), exact)
        assert_same_bits(dp.ops.activate(z, "tanh", backend="numpy"), blas)


def test_aliases() -> None:
    assert chosen("cpu") == "numba"
    with dp.use_backend("cpu"):
        assert chosen() == "numba"
    with dp.use_backend("numpy"), dp.use_backend("auto"):
        assert chosen() == "numba"


def test_auto_takes_a_gpu_for_large_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_reason", lambda name: "")
    assert backends.resolve("auto", backends.AUTO_WORK) == "cuda"
    assert backends.resolve("auto", backends.AUTO_WORK - 1) == "numba"
    assert backends.resolve("cpu", backends.AUTO_WORK) == "numba"
    monkeypatch.setattr(backends, "_reason", lambda name: "no GPU here")
    assert backends.resolve(None, backends.AUTO_WORK) == "numba"


def test_blocks_nest_and_end() -> None:
    with dp.use_backend("numpy"):
        with dp.use_backend("reference"):
            assert chosen() == "reference"
        assert chosen() == "numpy"
        with pytest.raises(ZeroDivisionError), dp.use_backend("reference"):
            raise ZeroDivisionError
        assert chosen() == "numpy"
    assert chosen() == "numba"


def test_a_block_is_its_threads_own() -> None:
    entered, asked, seen = Event(), Event(), []

    def elsewhere() -> None:
        with dp.use_backend("reference"):
            entered.set()
            asked.wait(60)
            seen.append(chosen())

    thread = Thread(target=elsewhere)
    with dp.use_backend("numpy"):
        thread.start()
        entered.wait(60)
        assert chosen() == "numpy"
        asked.set()
        thread.join()
    assert seen == ["reference"]


# -------------------------------------------------------------------------- what cannot be had


def test_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"backend 'nunba' \(did you mean 'numba'\?\).* auto"):
        chosen("nunba")
    with pytest.raises(ValueError, match=r"backend 'Cuda' \(did you mean 'cuda'\?\)"):
        dp.use_backend("Cuda").__enter__()
    assert chosen() == "numba"
    monkeypatch.setenv("DELTAPROP_BACKEND", "gpu")
    with pytest.raises(ValueError, match=r"\$DELTAPROP_BACKEND 'gpu'"):
        chosen()


def unavailable(name: str, *words: str) -> None:
    """That backend says why it cannot run, and none stands in for it."""
    with pytest.raises(dp.BackendUnavailableError) as caught:
        chosen(name)
    for word in (f"backend {name!r}", *words):
        assert word in str(caught.value)
    with dp.use_backend(name), pytest.raises(dp.BackendUnavailableError):
        dp.ops.softmax(sample((2, 3), "float32"))
    (row,) = (row for row in dp.backends() if row.name == name)
    assert not row.available
    assert row.reason in str(caught.value)


def test_cuda_without_cupy(monkeypatch: pytest.MonkeyPatch, nothing_loaded: None) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    unavailable("cuda", "cupy", "pip install 'deltaprop[cuda13]'", "[cuda12]")


@pytest.mark.parametrize("variable", ["CXX", "PATH"])
def test_cuda_host_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, nothing_loaded: None, variable: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, "/nonexistent")
    named = {"CXX": "'/nonexistent'", "PATH": "'g++'"}[variable]
    unavailable("cuda-host", "no C++ compiler", named, "install g++, or set CXX")


@pytest.mark.parametrize("name", ["numba", "cuda-host"])
def test_a_cpu_without_fma(
    monkeypatch: pytest.MonkeyPatch, nothing_loaded: None, name: str
) -> None:
    monkeypatch.setattr(binding, "get_host_cpu_features", dict)
    monkeypatch.setattr(binding, "get_process_triple", lambda: "x86_64-unknown-linux-gnu")
    unavailable(name, "no fused multiply-add", "backend='numpy'")
    assert chosen("numpy") == "numpy"


def test_numba_that_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, nothing_loaded: None
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    unavailable("numba", "numba", "pip install --upgrade numba")


# ------------------------------------------------------------------------------ many threads


def gradient(backend: str, dtype: str, activation: str, m: int) -> str:
    net = dp.MLP([40, 70, 3], activation, dtype=dtype, backend=backend)
    X, Y = sample((m, 40), dtype, 1), sample((m, 3), dtype, 2)
    return dp.digest(net.value_and_grad(X, Y)[1])


JOBS = [(dtype, g, m) for dtype, g in (("float32", "tanh"), ("float64", "relu")) for m in (9, 200)]


def test_threads_share_a_backend(backend: str) -> None:
    alone = [gradient(backend, *job) for job in JOBS]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: gradient(backend, *job), JOBS * 8))
    assert together == alone * 8


@pytest.mark.parametrize(
    ("name", "m"), [case for case in (("numba", 3000), ("cuda-host", 200)) if case[0] in HERE]
)
def test_threads_that_all_come_first(name: str, m: int, tmp_path: Path) -> None:
    """What is not compiled yet is asked for by all of them; numba is left without OpenMP.

    The sweep is there already, as one function of a dozen: it takes ten times as long as the rest.
    """
    gradient("numba", "float32", "tanh", m)
    for path in cache_folder().glob("sweeps.sweep-*.o"):
        shutil.copy(path, tmp_path)
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_backends import ThreadPoolExecutor, gradient
with ThreadPoolExecutor(3) as pool:
    found = list(pool.map(lambda i: gradient({name!r}, "float32", "tanh", {m}), range(30)))
print(set(found) == {{gradient("reference", "float32", "tanh", {m})}})
"""
    cold = {"DELTAPROP_CACHE": str(tmp_path), "NUMBA_THREADING_LAYER": "workqueue"}
    assert python(code, **cold) == "True"
