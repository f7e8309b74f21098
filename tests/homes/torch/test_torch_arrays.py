"""PyTorch's tensors: taken as they are, and given back as tensors over the same memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import deltaprop as dp
from conftest import assert_same_bits, sample

M = 130
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def tensor(shape: tuple[int, ...] | int, dtype: str = "float32", seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(sample(shape, dtype, seed).copy())


def nets(dtype: str = "float32") -> list[Any]:
    one = dp.MLP([4, 16, 3], "tanh", dtype=dtype, backend="cpu", seed=1)
    many = dp.MLP([4, 16, 3], "tanh", dtype=dtype, backend="cpu", ensemble=2)
    return [one, many, one.to_graph()]


def assert_is(got: Any, wanted: np.ndarray, dtype: str = "float32") -> None:
    assert type(got) is torch.Tensor
    assert (got.dtype, got.device.type, got.requires_grad) == (DTYPES[dtype], "cpu", False)
    assert_same_bits(got.numpy(), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", range(3))
def test_a_net(which: int, dtype: str) -> None:
    net, same = nets(dtype)[which], nets(dtype)[which]
    X, Y, w = tensor((M, 4), dtype, 1), tensor((M, 3), dtype, 2), tensor(M, dtype, 3)
    given = [x.numpy() for x in (X, Y, w)]
    for part in (None, 64):
        E, gradients = net.value_and_grad(X, Y, None, w, part)
        wanted_E, wanted = same.value_and_grad(*given[:2], None, given[2], part)
        assert type(E) is (torch.Tensor if which == 1 else float)
        assert np.array_equal(E, wanted_E)
        assert_is(gradients.flat, wanted.flat, dtype)
        for (_, x), (_, y) in zip(gradients.named(), wanted.named()):
            assert_is(x, y, dtype)
        assert_is(net.predict(X, part), same.predict(given[0], part), dtype)
    for options in ({}, {"optimizer": dp.Adam()}):
        step, wanted_step = net.train_step(X, Y, **options), same.train_step(*given[:2], **options)
        assert np.array_equal(step, wanted_step)
    history = net.fit(X, Y, epochs=2, sample_weight=w, validation=(X, Y))
    wanted_history = same.fit(*given[:2], epochs=2, sample_weight=given[2], validation=given[:2])
    assert np.array_equal(history.validation_loss, wanted_history.validation_loss)
    assert_same_bits(net.parameters, same.parameters)


def test_nothing_is_copied() -> None:
    net = nets()[0]
    X, Y, seen = tensor((M, 4)), tensor((M, 3)), list[Any]()
    gradient = net._sweeps.gradient

    def watched(parameters: Any, X: Any, batch: Any, loss: Any) -> Any:
        error, flat = gradient(parameters, X, batch, loss)
        seen.extend(x.ctypes.data for x in (X, batch.Y, flat))
        return error, flat

    net._sweeps.gradient = watched
    _, gradients = net.value_and_grad(X, Y)
    assert seen == [x.data_ptr() for x in (X, Y, gradients.flat)]
    assert gradients[0].W.data_ptr() == gradients.flat.data_ptr(), "a view"
    assert net.forward(X).a[0] is X


def test_results_are_the_callers() -> None:
    """They outlive the net, may be written to, and no later call changes them."""
    net = nets()[0]
    X, Y = tensor((M, 4)), tensor((M, 3))
    _, gradients = net.value_and_grad(X, Y)
    before = gradients.flat.clone()
    net.train_step(X, Y)
    net.value_and_grad(X, Y)
    del net
    assert torch.equal(gradients.flat, before)
    gradients.flat.mul_(2)
    assert torch.equal(gradients[1].b, 2 * before[-3:])


def test_layouts_and_dtypes() -> None:
    net = nets()[0]
    wide = tensor((8, M))
    for x in (wide.T[:, ::2], wide[:4].T, wide.half().T[:, 4:], (9 * wide[:4]).to(torch.int16).T):
        assert_is(net.predict(x), net.predict(np.ascontiguousarray(x.numpy(), "float32")))
    with torch.no_grad():
        assert_is(
            net.predict(torch.nn.Parameter(wide[:4].T).detach()), net.predict(wide[:4].T.numpy())
        )


def test_labels_and_kinds_that_differ() -> None:
    net = dp.MLP([4, 16, 3], output="softmax", backend="cpu")
    X, labels = tensor((M, 4)), torch.arange(M) % 3
    wanted = net.value_and_grad(X.numpy(), labels.numpy())[1].flat
    for Y in (labels, labels.to(torch.uint8), labels.numpy(), torch.eye(3)[labels]):
        assert_is(net.value_and_grad(X, Y)[1].flat, wanted)
    assert_same_bits(net.value_and_grad(X.numpy(), labels)[1].flat, wanted)


def test_gradients_of_autograd_are_checked() -> None:
    """What PyTorch computed is right to within rounding, and what it did not is not."""
    net = dp.MLP([4, 16, 3], "tanh", "softmax", backend="cpu", seed=1)
    X, labels = tensor((M, 4)), torch.arange(M) % 3
    parameters = [torch.tensor(x, requires_grad=True) for _, x in net._parameters.named()]
    W1, b1, W2, b2 = parameters
    logits = torch.tanh(X @ W1.T + b1) @ W2.T + b2
    torch.nn.functional.cross_entropy(logits, labels).backward()
    mine = [x.grad for x in parameters]
    assert dp.check_backprop(mine, net, X, labels)
    assert dp.check_backprop([*mine[:3], M * mine[3]], net, X, labels).verdicts["1.b"].mistake
    with pytest.raises(TypeError, match=r"0\.W, Parameter.* cannot be shared: .*detach"):
        dp.check_backprop([torch.nn.Parameter(x) for x in mine], net, X, labels)
    assert dp.crosscheck(net, X, labels, backends=["cpu", "numpy"])
    _, gradients = net.value_and_grad(X, labels)
    assert dp.digest(gradients) == dp.digest(net.value_and_grad(X.numpy(), labels.numpy())[1])
    explained = str(net.explain("0.b[1]", X, labels))
    assert explained == str(net.explain("0.b[1]", X.numpy(), labels.numpy()))


def test_sweeps() -> None:
    for net in (nets()[0], nets()[2]):
        X, Y = tensor((M, 4)), tensor((M, 3), seed=1)
        back = net.backward(net.forward(X), Y)
        wanted = net.backward(net.forward(X.numpy()), Y.numpy())
        assert_is(back.gradients.flat, wanted.gradients.flat)


def test_ops() -> None:
    z, Y = tensor((M, 3)), tensor((M, 3), seed=1)
    assert_is(dp.ops.softmax(z), dp.ops.softmax(z.numpy()))
    delta, db = dp.ops.fused_delta(z, Y, "gelu")
    wanted, wanted_db = dp.ops.fused_delta(z.numpy(), Y.numpy(), "gelu")
    assert_is(delta, wanted)
    assert_is(db, wanted_db)


REFUSED: dict[str, tuple[Callable[[], torch.Tensor], type[Exception], str]] = {
    "grad": (lambda: torch.ones(M, 4, requires_grad=True), TypeError, "cannot be shared: .*detach"),
    "meta": (lambda: torch.ones(M, 4, device="meta"), TypeError, "on meta, cannot be shared"),
    "bfloat16": (lambda: torch.ones(M, 4).bfloat16(), TypeError, "Tensor of torch.bfloat16"),
    "sparse": (lambda: torch.ones(M, 4).to_sparse(), TypeError, "cannot be shared: .*layout"),
    "complex": (lambda: torch.ones(M, 4) * 1j, TypeError, "complex64"),
    "double": (lambda: torch.ones(M, 4).double(), TypeError, "float64, which float32 cannot hold"),
    "long": (lambda: torch.ones(M, 4).long(), TypeError, "int64, which float32 cannot hold"),
    "number": (lambda: torch.tensor(1.0), ValueError, r"must have shape \(m, 4\), got \(\)"),
    "empty": (lambda: torch.ones(0, 4), ValueError, r"must not be empty, got shape \(0, 4\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_named(name: str) -> None:
    make, error, said = REFUSED[name]
    net, x, Y = nets()[0], make(), tensor((M, 3))
    before = net.parameters.copy()
    for call in (net.predict, net.forward, lambda x: net.train_step(x, Y), lambda x: net.fit(x, Y)):
        with pytest.raises(error, match=re.compile(f"X.*{said}")):
            call(x)
    assert_same_bits(net.parameters, before)
