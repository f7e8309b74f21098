"""digest, differing_bits, and the reports of crosscheck and gradcheck."""

from __future__ import annotations

import hashlib
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest

import deltaprop as dp
from conftest import HERE, INFO, assert_same_bits, sample
from deltaprop.backends import load
from deltaprop.check import differing_bits

SIZES, M = [3, 4, 2], 70
NAMES = ["0.W", "0.b", "1.W", "1.b"]
AWAY = [name for name, info in INFO.items() if not info.available]


def task(dtype: str = "float32", backend: str = "reference", **options):
    net = dp.MLP(SIZES, dtype=dtype, backend=backend, **options)
    return net, sample((M, 3), dtype, 1), sample((M, 2), dtype, 2)


def sabotage(monkeypatch: pytest.MonkeyPatch, name: str, change) -> None:
    """From now on that backend's weight gradients are changed in place by `change`."""
    right = load(name)

    def weight_gradient(delta, a_in, out):
        out = right.weight_gradient(delta, a_in, out)
        change(out)
        return out

    wrong = replace(right, weight_gradient=weight_gradient, sweeps=None)
    module = sys.modules["deltaprop.backends"]
    loaded = module._load
    monkeypatch.setattr(module, "_load", lambda n: wrong if n == name else loaded(n))


def flip_the_last_bit(x: np.ndarray) -> None:
    bits = x.view(f"u{x.itemsize}")
    bits ^= bits.dtype.type(1)


# ----------------------------------------------------------------------------- digest, bits


def test_a_digest_is_of_the_little_endian_bytes() -> None:
    numbers = [1.0, -0.0, 1e-40, float("inf")]
    for letter, dtype in (("f", np.float32), ("d", np.float64)):
        wanted = hashlib.sha256(struct.pack(f"<4{letter}", *numbers)).hexdigest()
        x = np.array(numbers, dtype)
        assert dp.digest(x) == wanted
        assert dp.digest(x.astype(x.dtype.newbyteorder(">"))) == wanted
        assert dp.digest(x.reshape(2, 2)) == wanted
        assert dp.digest(np.asfortranarray(x.reshape(2, 2))) == wanted
        assert dp.digest(np.repeat(x, 2)[::2]) == wanted


def test_a_digest_sees_one_bit(backend: str, dtype: str) -> None:
    net, X, Y = task(dtype, backend)
    _, gradients = net.value_and_grad(X, Y)
    before = dp.digest(gradients)
    assert before == dp.digest(gradients.flat)
    flip_the_last_bit(gradients.flat[5:6])
    assert dp.digest(gradients) != before
    assert dp.digest(net.parameters) == dp.digest(net.to("reference").parameters)


def test_differing_bits(dtype: str) -> None:
    x = sample((4, 5), dtype)
    assert differing_bits(x, x.copy()) == 0
    y = x.copy()
    y[1, 2] = -y[1, 2]
    flip_the_last_bit(y[3])
    assert differing_bits(x, y) == differing_bits(y, x) == 6
    zeros, nan = np.zeros(2, dtype), np.full(2, np.nan, dtype)
    assert differing_bits(zeros, -zeros) == 2
    assert differing_bits(nan, -nan) == 0
    assert differing_bits(zeros, nan) > 0


# ------------------------------------------------------------------------------- crosscheck


def test_crosscheck_has_a_row_for_every_backend(dtype: str) -> None:
    net, X, Y = task(dtype)
    before = net.parameters.copy()
    result = dp.crosscheck(net, X, Y, sample_weight=sample(M, dtype, 3))
    assert result
    assert_same_bits(net.parameters, before)
    rows = {row.backend: row for row in result.rows}
    assert list(rows) == list(INFO)
    wanted = dp.digest(net.value_and_grad(X, Y, sample_weight=sample(M, dtype, 3))[1])
    for name in HERE:
        row = rows[name]
        assert row.ok
        assert list(row.differences) == NAMES
        assert row.exact == INFO[name].exact
        assert row.seconds > 0
        if row.exact:
            assert set(row.differences.values()) == {0}
            assert row.digest == wanted
        else:
            assert 0 < max(row.differences.values()) <= 1
    for name in AWAY:
        assert (rows[name].reason, rows[name].differences) == (INFO[name].reason, {})


def test_crosscheck_reads_as_a_table() -> None:
    net, X, Y = task()
    result = dp.crosscheck(net, X, Y)
    assert repr(result) == str(result), "what a notebook shows"
    lines = dict(zip(INFO, str(result).splitlines(), strict=True))
    for name, line in lines.items():
        assert line.startswith(name)
    for name in HERE:
        digest = next(row.digest for row in result.rows if row.backend == name)
        for word in (" ok ", *NAMES, digest[:12]):
            assert word in lines[name]
    for name in AWAY:
        assert f"not here: {INFO[name].reason}" in lines[name]


def test_crosscheck_of_chosen_backends() -> None:
    net, X, _ = task(output="softmax")
    labels = np.arange(M) % 2
    result = dp.crosscheck(net, X, labels, "cross_entropy", backends=["numpy", "cpu"])
    assert [row.backend for row in result.rows] == ["numpy", "numba"]
    assert result
    (row,) = dp.crosscheck(net, X, labels, backends="numba").rows
    assert row.backend == "numba"
    with pytest.raises(ValueError, match="backend 'nunba'"):
        dp.crosscheck(net, X, labels, backends=["nunba"])
    for name in AWAY:
        with pytest.raises(dp.BackendUnavailableError, match=f"backend '{name}'"):
            dp.crosscheck(net, X, labels, backends=[name])


@pytest.mark.parametrize("name", [name for name in HERE if name not in ("reference", "cuda")])
def test_crosscheck_counts_what_is_wrong(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    net, X, Y = task()
    exact = INFO[name].exact
    change = flip_the_last_bit if exact else lambda x: np.multiply(x, 1.001, out=x)
    sabotage(monkeypatch, name, change)
    result = dp.crosscheck(net, X, Y)
    assert not result
    assert [row.backend for row in result.rows if not row.ok] == [name]
    (row,) = (row for row in result.rows if row.backend == name)
    if exact:
        assert row.differences == {"0.W": 12, "0.b": 0, "1.W": 8, "1.b": 0}
    else:
        assert row.differences["0.W"] > 1 >= row.differences["0.b"]
    assert f"{name:<10} BAD" in str(result)


def test_crosscheck_refuses_lists() -> None:
    net, X, Y = task()
    with pytest.raises(TypeError, match=r"X must be an array of .*, got list"):
        dp.crosscheck(net, X.tolist(), Y)
    with pytest.raises(TypeError, match=r"Y must be an array of .*, got list"):
        dp.crosscheck(net, X, Y.tolist())


# -------------------------------------------------------------------------------- gradcheck


def test_gradcheck_reports_every_parameter(backend: str, dtype: str) -> None:
    net, X, Y = task(dtype, backend)
    before = net.to("reference").parameters
    report = dp.gradcheck(net, X, Y, "mse", sample(M, dtype, 3))
    assert report
    assert list(report.errors) == NAMES
    assert max(report.errors.values()) <= 1
    assert "agrees with central differences" in str(report)
    assert_same_bits(net.to("reference").parameters, before)


def test_gradcheck_names_the_worst_element(dtype: str) -> None:
    net, X, Y = task(dtype)
    _, gradients = net.value_and_grad(X, Y)
    assert dp.gradcheck(net, X, Y, gradients=gradients)
    gradients[1].W[1, 3] *= 1.1
    report = dp.gradcheck(net, X, Y, gradients=gradients)
    assert not report
    assert report.worst == "worst at 1.W[1, 3]"
    assert "DIFFERS" in str(report)
    assert report.worst in str(report)
    assert [name for name, error in report.errors.items() if error > 1] == ["1.W"]


def test_gradcheck_refuses_what_it_cannot_compare() -> None:
    net, X, Y = task()
    other = dp.MLP([3, 5, 2], backend="reference").value_and_grad(X, Y)[1]
    for wrong in (other, other.flat, [0.0]):
        with pytest.raises(ValueError, match="gradients must be like"):
            dp.gradcheck(net, X, Y, gradients=wrong)
    with pytest.raises(TypeError, match="X must be an array of NumPy"):
        dp.gradcheck(net, X.tolist(), Y)
