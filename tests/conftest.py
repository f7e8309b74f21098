"""What every test shares: the backends of this machine, and arrays nobody may write to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import deltaprop as dp
from deltaprop.backends import numba, plans, team
from switch import flushing_entry

INFO = {b.name: b for b in dp.backends()}
GPU = bool(os.environ.get("DELTAPROP_REQUIRE_GPU"))
# Where a GPU is required it takes the place of its stand-in, which would be compiled for minutes.
HERE = [name for name, b in INFO.items() if b.available and not (GPU and name == "cuda-host")]
EXACT = [name for name in HERE if INFO[name].exact and name != "reference"]

if GPU and not INFO["cuda"].available:
    pytest.exit(f"DELTAPROP_REQUIRE_GPU is set, but: {INFO['cuda'].reason}", returncode=1)


@pytest.fixture(params=HERE)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend of this machine."""
    return request.param


@pytest.fixture(params=EXACT)
def exact(request: pytest.FixtureRequest) -> str:
    """Every backend of this machine that must return the reference's bits."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def activations_as_shipped() -> Iterator[None]:
    """What a test defines ends with it."""
    shipped = dict(dp.ACTIVATIONS)
    yield
    dp.ACTIVATIONS.clear()
    dp.ACTIVATIONS.update(shipped)


@pytest.fixture(autouse=True)
def figures_are_closed() -> Iterator[None]:
    """What a test draws ends with it."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets the number of threads; all of them are used, however little there is to do."""
    monkeypatch.setattr(plans, "PARALLEL_WORK", 1)
    monkeypatch.setattr(plans, "TOGETHER_WORK", 1)
    monkeypatch.setattr(numba, "PARALLEL_WORK", 1)
    before = team.get_num_threads()
    team.set_num_threads(3)
    yield team.set_num_threads
    team.set_num_threads(before)


@pytest.fixture(scope="session")
def flush(tmp_path_factory: pytest.TempPathFactory) -> int:
    """An entry: the last of the threads flushes subnormal numbers to zero from now on, or not."""
    return flushing_entry(tmp_path_factory.mktemp("switch"))


def sample(shape: tuple[int, ...] | int, dtype: str, seed: int = 0) -> np.ndarray:
    """Normal random numbers that cannot be written to."""
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    x.flags.writeable = False
    return x


def assert_same_bits(got: np.ndarray, wanted: np.ndarray, what: str = "") -> None:
    """Equal shape, dtype and bits; a NaN equals any NaN."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"{what}: shape {got.shape}, wanted {wanted.shape}"
    assert got.dtype == wanted.dtype, f"{what}: dtype {got.dtype}, wanted {wanted.dtype}"
    kind = f"u{wanted.dtype.itemsize}"
    got_bits = np.ascontiguousarray(got).view(kind)
    wanted_bits = np.ascontiguousarray(wanted).view(kind)
    wrong = (got_bits != wanted_bits) & ~(np.isnan(got) & np.isnan(wanted))
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} elements differ, first at {first}: "
            f"got {got[first]!r} ({got[first].item().hex()}), "
            f"wanted {wanted[first]!r} ({wanted[first].item().hex()})"
        )
