"""The digits that come with the package, and data from files, whole and damaged."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from conftest import assert_same_bits
from deltaprop.data import Dataset, digits, read

X = np.arange(18).reshape(6, 3) / 4
LABELS = np.array([0, 2, 1, 1, 0, 2])


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path, content: str | bytes, *words: str) -> None:
    written(path, content)
    with pytest.raises(ValueError) as caught:
        read(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


# ---------------------------------------------------------------------------------- digits


def test_digits_are_scikit_learns() -> None:
    here, there = digits(), load_digits()
    assert_same_bits(here.X, (there.data / 16).astype(np.float32))
    assert_same_bits(here.Y, there.target.astype(np.int64))
    assert here.is_classification
    assert here.outputs == len(there.target_names)


def test_a_split_is_fixed_and_disjoint() -> None:
    training, test = digits().split()
    assert len(training.X) == len(training.Y) == 1437
    assert len(test.X) == len(test.Y) == 360
    every = digits()
    for part, in_test in ((test, True), (training, False)):
        rows = np.flatnonzero((np.arange(len(every.X)) % 5 == 0) == in_test)
        assert_same_bits(part.X, every.X[rows])
        assert_same_bits(part.Y, every.Y[rows])


def test_a_split_of_few_samples() -> None:
    data = Dataset("few", X.astype(np.float32), LABELS)
    training, test = data.split()
    assert_same_bits(test.X, data.X[[0, 5]])
    assert_same_bits(training.Y, LABELS[1:5])


# ----------------------------------------------------------------------------------- files


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float64", ">i4"])
def test_npz_with_labels(tmp_path: Path, dtype: str) -> None:
    data = read(written(tmp_path / "data.npz", npz(X=X, Y=LABELS.astype(dtype))))
    assert data.name == "data.npz"
    assert data.is_classification
    assert data.outputs == 3
    assert_same_bits(data.X, X.astype(np.float32))
    assert_same_bits(data.Y, LABELS)


@pytest.mark.parametrize("Y", [LABELS + 0.5, LABELS - 1, LABELS * 10_000, X[:, :2], X[:, :1]])
def test_npz_with_targets(tmp_path: Path, Y: np.ndarray) -> None:
    data = read(str(written(tmp_path / "data.npz", npz(X=X > 2, Y=Y, more=X))))
    assert not data.is_classification
    assert_same_bits(data.X, (X > 2).astype(np.float32))
    assert_same_bits(data.Y, Y.reshape(6, -1).astype(np.float32))
    assert data.outputs == data.Y.shape[1]


ROWS = [[1, 2, 0], [3.5, -4e-3, 1]]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "start", ["", "a,b,class\n", "\ufeff", "\ufeff\u00e4,b,y\n", "\n", "# x\n"]
)
def test_csv(tmp_path: Path, start: str, end: str) -> None:
    text = start + "".join(",".join(map(str, row)) + "\n" for row in ROWS)
    data = read(written(tmp_path / "data.CSV", text.replace("\n", end)))
    assert_same_bits(data.X, np.array(ROWS, np.float32)[:, :2])
    assert_same_bits(data.Y, np.array([0, 1]))


def test_csv_with_targets_and_what_is_not_finite(tmp_path: Path) -> None:
    data = read(written(tmp_path / "data.csv", "nan,1,2.5\n-inf,2,nan"))
    assert_same_bits(data.X, np.array([[np.nan, 1], [-np.inf, 2]], np.float32))
    assert_same_bits(data.Y, np.array([[2.5], [np.nan]], np.float32))


# ------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no line of numbers"),
        ("\n \n", "no line of numbers"),
        ("a,b,y\n", "no line of numbers"),
        ("1\n2\n", "(2, 0)"),
        ("1,,0\n3,4,1\n", "column 2"),
        ("1,two,0\n", "'two'"),
        ("a,b,y\n1,2,0\n3,x,1\n", "'x'"),
        ("1,2,3\n4,5\n", "columns changed from 3 to 2"),
        ("1;2;3\n4;5;6\n", "'4;5;6'"),
        ('"1","2"\n"3","4"\n', "'\"3\"'"),
        ("1e39,0\n2,1\n", "overflow"),
        (b"1,2\xff\n", "utf-8"),
        ("1,2\n".encode("utf-16"), "utf-8"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str | bytes, word: str) -> None:
    refused(tmp_path / "data.csv", text, word)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": X}, ("['X']", "wanted X and Y")),
        ({"x": X, "y": LABELS}, ("['x', 'y']",)),
        ({"X": X, "Y": LABELS[:5]}, ("(6, 3)", "(5,)")),
        ({"X": X, "Y": np.int64(3)}, ("(6, 3)", "()")),
        ({"X": X[0], "Y": LABELS}, ("(3,)",)),
        ({"X": X[None], "Y": LABELS}, ("(1, 6, 3)",)),
        ({"X": X, "Y": X[:, :, None]}, ("(6, 3, 1)",)),
        ({"X": X[:0], "Y": LABELS[:0]}, ("(0, 3)",)),
        ({"X": X[:, :0], "Y": LABELS}, ("(6, 0)",)),
        ({"X": X, "Y": X[:, :0]}, ("(6, 0)",)),
        ({"X": X * 1j, "Y": LABELS}, ("complex128", "numbers")),
        ({"X": X, "Y": LABELS.astype("U1")}, ("<U1", "numbers")),
        ({"X": X, "Y": np.array([{}] * 6)}, ("Object arrays",)),
        ({"X": X * 1e39, "Y": LABELS}, ("overflow",)),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict, words: tuple[str, ...]) -> None:
    refused(tmp_path / "data.npz", npz(**arrays), *words)


def test_damaged_npz(tmp_path: Path) -> None:
    path, whole = tmp_path / "data.npz", npz(X=X, Y=LABELS)
    single = io.BytesIO()
    np.save(single, X)
    for content in (b"", b"PK\x03\x04", bytes(500), pickle.dumps([1]), single.getvalue()):
        refused(path, content, "not a whole .npz file")
    for length in range(0, len(whole), 13):
        refused(path, whole[:length])
    for i in range(len(whole)):
        try:
            data = read(written(path, whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :]))
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert_same_bits(data.X, X.astype(np.float32), f"byte {i}")
            assert_same_bits(data.Y, LABELS, f"byte {i}")


def test_no_file(tmp_path: Path) -> None:
    for name in ("none.csv", "none.npz"):
        with pytest.raises(FileNotFoundError, match=name):
            read(tmp_path / name)
    for name in ("data.xlsx", "data", "data.npy"):
        with pytest.raises(ValueError, match=r"must be a \.npz or \.csv file"):
            read(tmp_path / name)
