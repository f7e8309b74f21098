"""Arrays as they come: any strides, byte order and protection, and numbers that are not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.check import to_numpy

SIZES, M = [3, 4, 2], 70


class Subclass(np.ndarray):
    """An array of a library's own kind."""


def unaligned(x: np.ndarray) -> np.ndarray:
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    raw[:] = np.frombuffer(x.tobytes(), np.uint8)
    return raw.view(x.dtype).reshape(x.shape)


def in_file(x: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / f"{x.ndim}-{x.size}.bin"
    x.tofile(path)
    return np.memmap(path, x.dtype, "r", shape=x.shape)


def every_other(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=0)[::2]


AS_THEY_COME = {
    "Fortran order": lambda x, _: np.asfortranarray(x),
    "negative strides": lambda x, _: x[::-1].copy()[::-1],
    "every other row": lambda x, _: every_other(x),
    "transposed": lambda x, _: x.T.copy().T,
    "read-only": lambda x, _: x,
    "writable": lambda x, _: x.copy(),
    "big-endian": lambda x, _: x.astype(x.dtype.newbyteorder(">")),
    "unaligned": lambda x, _: unaligned(x),
    "mapped file": in_file,
    "subclass": lambda x, _: x.view(Subclass),
}


@pytest.mark.parametrize("way", AS_THEY_COME)
def test_the_same_numbers_give_the_same_bits(
    backend: str, dtype: str, way: str, tmp_path: Path
) -> None:
    net = dp.MLP(SIZES, dtype=dtype, backend=backend)
    X, Y, weights = sample((M, 3), dtype, 1), sample((M, 2), dtype, 2), sample(M, dtype, 3)
    odd = [AS_THEY_COME[way](x, tmp_path) for x in (X, Y, weights)]
    before = [np.array(x) for x in odd]
    loss, gradients = net.value_and_grad(X, Y, None, weights)
    odd_loss, odd_gradients = net.value_and_grad(odd[0], odd[1], None, odd[2])
    assert odd_loss == loss == net.loss(*odd[:2], None, odd[2])
    assert_same_bits(odd_gradients.flat, gradients.flat)
    predicted = net.predict(odd[0])
    assert type(predicted) is np.ndarray
    assert_same_bits(predicted, net.predict(X))
    a = dp.ops.activate(odd[0], "logistic", backend=backend)
    assert_same_bits(a, dp.ops.activate(X, "logistic", backend=backend))
    for x, as_before in zip(odd, before):
        assert_same_bits(x, as_before, "an input was changed")


@pytest.mark.parametrize("kind", ["bool", "i1", "u1", "i2", "u2", "f2", ">i2", ">f2"])
def test_what_loses_nothing_is_converted(backend: str, dtype: str, kind: str) -> None:
    net = dp.MLP(SIZES, dtype=dtype, backend=backend)
    X, Y = np.arange(M * 3).reshape(M, 3) % 100, np.arange(M * 2).reshape(M, 2) % 2
    loss, gradients = net.value_and_grad(X.astype(kind), Y.astype(kind))
    wanted_loss, wanted = net.value_and_grad(
        X.astype(kind).astype(dtype), Y.astype(kind).astype(dtype)
    )
    assert loss == wanted_loss
    assert_same_bits(gradients.flat, wanted.flat)


@pytest.mark.parametrize("kind", ["i4", "u4", "f4"])
def test_a_double_holds_more(backend: str, kind: str) -> None:
    net = dp.MLP(SIZES, dtype="float64", backend=backend)
    X = (np.arange(M * 3).reshape(M, 3) * 12_345_679 % 2**31).astype(kind)
    assert_same_bits(net.predict(X), net.predict(X.astype(np.float64)))
    with pytest.raises(TypeError, match="int64"):
        net.predict(X.astype(np.int64))


def test_one_sample(backend: str, dtype: str) -> None:
    net = dp.MLP(SIZES, dtype=dtype, backend=backend)
    X, Y = sample((M, 3), dtype, 1), sample((M, 2), dtype, 2)
    _, gradients = net.value_and_grad(X[:1], Y[:1], "half_sse")
    weights = np.zeros(M, dtype)
    weights[0] = 1
    _, among_others = net.value_and_grad(X, Y, "half_sse", weights)
    if backend == "numpy":  # a BLAS has another way for a single row
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(gradients.flat, among_others.flat, rtol=100 * eps, atol=eps)
    else:
        np.testing.assert_array_equal(gradients.flat, among_others.flat)
        assert_same_bits(net.predict(X[3:4]), net.predict(X)[3:4])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(backend: str, dtype: str, number: float) -> None:
    net = dp.MLP(SIZES, "logistic", "logistic", dtype=dtype, backend=backend)
    X, Y = sample((M, 3), dtype, 1).copy(), sample((M, 2), dtype, 2)
    finite = net.predict(X)
    X[5, 1] = number
    trace = net.forward(X)
    others = np.arange(M) != 5
    assert_same_bits(trace.a[2][others], finite[others])
    column = to_numpy(net.layers[0].W)[:, 1].astype(np.float64)
    np.testing.assert_array_equal(trace.z[1][5], column * number)
    gradients = net.backward(trace, Y).gradients
    loss, again = net.value_and_grad(X, Y)
    assert_same_bits(again.flat, gradients.flat)
    with np.errstate(all="ignore"):
        logistic = 1 / (1 + np.exp(-column * number))
    np.testing.assert_array_equal(trace.a[1][5], logistic)
    assert np.isnan(gradients[0].W[:, 1]).all()
    assert np.isfinite(gradients[0].W[:, [0, 2]]).all() != np.isnan(number)
    assert np.isfinite(loss) != np.isnan(number)


def test_a_net_that_diverged_still_answers(backend: str, dtype: str) -> None:
    net = dp.MLP(SIZES, dtype=dtype, backend=backend)
    X, Y = sample((M, 3), dtype, 1), sample((M, 2), dtype, 2)
    net.parameters[...] = np.finfo(dtype).max
    assert not np.isfinite(net.train_step(X, Y))
    net.parameters[...] = np.nan
    assert np.isnan(net.loss(X, Y))
    loss, gradients = net.value_and_grad(X, Y, micro_batch=64)
    assert np.isnan(loss)
    assert np.isnan(gradients.flat).all()
    assert dp.crosscheck(net, X, Y, backends=backend)
    softmax = dp.MLP(SIZES, output="softmax", dtype=dtype, backend=backend)
    softmax.parameters[...] = np.inf
    assert np.isnan(softmax.loss(X, np.zeros(M, int)))
