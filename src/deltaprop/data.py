"""Real data to run on: handwritten digits that come with the package, and files."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

DAMAGE = (
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
    FloatingPointError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a file that is not as it should be may raise."""

MOST_LABELS = 10_000
"""Whole numbers beyond are no labels: prices, times, identifiers."""


@dataclass(frozen=True)
class Dataset:
    """X (m, n_in) float32; Y labels (m,) int64, or targets (m, n_out) float32."""

    name: str
    X: np.ndarray
    Y: np.ndarray

    @property
    def is_classification(self) -> bool:
        """Whether Y holds labels."""
        return self.Y.ndim == 1

    @property
    def outputs(self) -> int:
        """How many outputs a net for this data has."""
        return int(self.Y.max()) + 1 if self.is_classification else self.Y.shape[1]

    def split(self) -> tuple[Dataset, Dataset]:
        """Training and test data: every fifth sample, from the first, is for testing."""
        test = np.arange(len(self.X)) % 5 == 0
        return (
            Dataset(self.name, self.X[~test], self.Y[~test]),
            Dataset(self.name, self.X[test], self.Y[test]),
        )


def digits() -> Dataset:
    """1,797 handwritten digits of 43 people, 8 x 8 pixels from 0 to 1.

    The test set of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI
    Machine Learning Repository, 1998 (CC BY 4.0), the one scikit-learn carries.
    """
    with as_file(files("deltaprop") / "digits.npz") as path, np.load(path) as file:
        X = file["images"].astype(np.float32) / 16
        return Dataset("digits", X, file["labels"].astype(np.int64))


def read(path: str | Path) -> Dataset:
    """A .npz file with X (m, n) and Y, or a .csv file of numbers whose last column is Y.

    Whole numbers from 0 to 9,999 in Y (m,) are labels, any others the targets of one output. A
    first line of a .csv file that has no number is a heading. Raises ValueError for anything
    else.
    """
    path = Path(path)
    reader = {".npz": _from_npz, ".csv": _from_csv}.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: data must be a .npz or .csv file")
    content = path.read_bytes()
    try:
        with np.errstate(over="raise"):
            return _dataset(path.name, *reader(content))
    except DAMAGE as error:
        raise ValueError(f"{path}: {error}") from error


def _dataset(name: str, X: np.ndarray, Y: np.ndarray) -> Dataset:
    if X.ndim != 2 or Y.ndim not in (1, 2) or 0 in X.shape + Y.shape or len(X) != len(Y):
        raise ValueError(f"X has shape {X.shape} and Y {Y.shape}; wanted (m, n) and m of either")
    if X.dtype.kind not in "biuf" or Y.dtype.kind not in "biuf":
        raise ValueError(f"X is {X.dtype} and Y is {Y.dtype}; wanted numbers")
    if Y.ndim == 1 and np.all((np.floor(Y) == Y) & (Y >= 0) & (Y < MOST_LABELS)):
        return Dataset(name, X.astype(np.float32), Y.astype(np.int64))
    return Dataset(name, X.astype(np.float32), Y.reshape(len(Y), -1).astype(np.float32))


def _from_npz(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    raw = io.BytesIO(content)
    if not zipfile.is_zipfile(raw):
        raise ValueError("not a whole .npz file")
    with np.load(raw, allow_pickle=False) as file:
        if "X" not in file or "Y" not in file:
            raise ValueError(f"has arrays {sorted(file)}, wanted X and Y")
        return file["X"], file["Y"]


def _from_csv(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    if lines and not any(map(_is_number, lines[0].split(","))):
        lines = lines[1:]
    if not lines:
        raise ValueError("has no line of numbers")
    table = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
    return table[:, :-1], table[:, -1]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
