"""Arrays of other libraries that cannot be taken are named, with what was wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from foreign import GPU, METAL, Interface, Tensor
from foreign_nets import M, batch_of, layers


class Unwilling(Tensor):
    def __dlpack__(self, **_: Any) -> Any:
        raise RuntimeError("it has a gradient of its own: detach it")


class Nowhere(Tensor):
    def __dlpack_device__(self) -> tuple[int, int]:
        raise ValueError("meta is no device")


class Table:
    """As pandas has them."""

    def to_numpy(self) -> np.ndarray:
        return np.ones((M, 2))


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "unwilling": (
        Unwilling(np.ones((M, 2))),
        TypeError,
        "X, Unwilling.*, cannot be shared: .*detach",
    ),
    "nowhere": (Nowhere(np.ones((M, 2))), TypeError, "X, Nowhere.*, cannot be shared: meta is no"),
    "metal": (Tensor(np.ones((M, 2)), METAL), TypeError, "memory 8:0 of DLPack is neither"),
    "gpu": (
        Tensor(np.ones((M, 2)), GPU),
        TypeError,
        "X is on a GPU, but backend 'numba' .* on the CPU",
    ),
    "interface": (Interface(np.ones((M, 2))), TypeError, "X is on a GPU, but backend 'numba'"),
    "complex": (
        Tensor(np.ones((M, 2), "c8")),
        TypeError,
        "X has dtype complex64.* wanted float64",
    ),
    "integers": (
        Tensor(np.ones((M, 2), "i8")),
        TypeError,
        "X has dtype int64, which float64 cannot",
    ),
    "number": (Tensor(np.ones(())), ValueError, r"X must have shape \(m, 2\), got \(\)"),
    "narrow": (Tensor(np.ones((M, 1))), ValueError, r"X must have shape \(m, 2\), got \(130, 1\)"),
    "table": (Table(), TypeError, r"X must be an array of .*, got Table; pass X.to_numpy\(\)"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("part", [None, 64])
def test_what_cannot_be_taken_is_named(name: str, part: int | None) -> None:
    x, error, said = REFUSED[name]
    net = layers()
    before, Y = net.parameters.copy(), batch_of(net)[1]
    for call in (
        lambda: net.predict(x, part),
        lambda: net.loss(x, Y, micro_batch=part),
        lambda: net.train_step(x, Y, micro_batch=part),
        lambda: net.fit(x, Y),
        lambda: net.forward(x),
    ):
        with pytest.raises(error, match=said):
            call()
    if error is TypeError:
        X, w = (
            sample((M, 2), "float64"),
            said.replace("X", "sample_weight").replace("Table; ", ".*"),
        )
        with pytest.raises(TypeError, match=said.replace("X", "Y")):
            net.loss(X, x)
        with pytest.raises(TypeError, match=w):
            net.train_step(X, Y, sample_weight=x)
    assert_same_bits(net.parameters, before)


@pytest.mark.parametrize("name", ["unwilling", "nowhere", "metal"])
def test_the_checks_name_it_too(name: str) -> None:
    x, error, said = REFUSED[name]
    net = layers()
    X, Y, _ = batch_of(net)
    for call in (
        lambda: dp.crosscheck(net, x, Y),
        lambda: dp.gradcheck(net, x, Y),
        lambda: net.explain("0.b[0]", x, Y),
        lambda: dp.check_backprop(net.parameters, net, x, Y),
        lambda: dp.ops.softmax(x),
    ):
        with pytest.raises(error, match=said.replace("X", "[Xz]")):
            call()
    with pytest.raises(TypeError, match=said.replace("X", "0.W")):
        dp.check_backprop([x] * 4, net, X, Y)
