"""Arrays of other libraries on a GPU, for which a strict stand-in takes the place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import HERE, assert_same_bits
from foreign import GPU, OTHER_GPU, Interface, Tensor
from foreign_nets import NETS, M, addresses, assert_like, batch_of, layers, tensors
from strict_cupy import TAPE, DeviceArray, StrictCupy, use_strict_cupy


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> StrictCupy:
    if "cuda-host" not in HERE:
        pytest.skip("needs a C++ compiler")
    return use_strict_cupy(monkeypatch)


@pytest.mark.parametrize("name", NETS)
def test_on_a_gpu(cupy: StrictCupy, name: str) -> None:
    """The memory is CuPy's view of theirs; nobody waits; both libraries' streams are told."""
    same = NETS[name]().to("reference")
    net = same.to("cuda")
    given = batch_of(net)
    X, Y, w = tensors(*given, place=GPU)
    before, found = TAPE.waits, list[Any]()
    seen = addresses(net, lambda: found.append(net.value_and_grad(X, Y, None, w)))
    E, gradients = found[0]
    wanted_E, wanted = same.value_and_grad(*given[:2], None, given[2])
    assert seen == [X.address, Y.address, w.address, gradients.flat.address]
    assert X.exports == Y.exports == w.exports == [{"stream": 1}], "once, and to CuPy's stream"
    assert TAPE.waits == before
    for got, right in ((E, np.asarray(wanted_E)), (gradients.flat, wanted.flat)):
        assert (type(got), got.place) == (Tensor, GPU)
        assert_same_bits(got.memory, right)
    for part in (None, 64):
        assert_same_bits(net.predict(X, part).memory, same.predict(given[0]))
        assert_same_bits(net.loss(X, Y, micro_batch=part).memory, np.asarray(same.loss(*given[:2])))
    assert TAPE.waits == before
    history = net.fit(X, Y, epochs=1, validation=(X, Y))
    wanted_history = same.fit(*given[:2], epochs=1, validation=given[:2])
    assert np.array_equal(history.validation_loss, wanted_history.validation_loss)
    assert_same_bits(net.parameters.memory, same.parameters)


def test_sweeps_on_a_gpu(cupy: StrictCupy) -> None:
    net = layers().to("cuda")
    X, Y, _ = batch_of(net)
    back = net.backward(net.forward(Tensor(X, GPU)), Tensor(Y, GPU))
    assert back.gradients[0].W.place == back.delta[1].place == GPU
    assert dp.crosscheck(net, Tensor(X, GPU), Tensor(Y, GPU), backends="cpu")
    assert dp.check_backprop(back.gradients, net, Tensor(X, GPU), Tensor(Y, GPU))
    z = dp.ops.softmax(Tensor(X, GPU))
    assert z.place == GPU
    assert_same_bits(z.memory, dp.ops.softmax(X, backend="cpu"))


def test_labels_on_a_gpu(cupy: StrictCupy) -> None:
    net, labels = layers().to("cuda"), np.arange(M) % 3
    X = batch_of(net)[0]
    got = net.value_and_grad(Tensor(X, GPU), Tensor(labels, GPU))[1].flat
    assert_same_bits(got.memory, layers().value_and_grad(X, labels)[1].flat)


def test_tensors_of_this_machine_go_to_the_gpu(cupy: StrictCupy) -> None:
    net = layers().to("cuda")
    X, Y, _ = batch_of(net)
    E, gradients = net.value_and_grad(Tensor(X), Tensor(Y))
    assert_like(E, layers().loss(X, Y))
    assert_like(gradients.flat, layers().value_and_grad(X, Y)[1].flat)
    assert_like(net.predict(Tensor(X), 64), layers().predict(X))


def test_the_interface_of_cuda(cupy: StrictCupy) -> None:
    """Without DLPack there is no way back: results are CuPy's."""
    net = layers().to("cuda")
    X = batch_of(net)[0]
    outputs = net.predict(Interface(X))
    assert isinstance(outputs, DeviceArray)
    assert_same_bits(outputs.memory, layers().predict(X))


def test_tensors_of_another_gpu_are_refused(cupy: StrictCupy) -> None:
    net = layers().to("cuda")
    X, Y, _ = batch_of(net)
    for call in (
        lambda: net.predict(Tensor(X, OTHER_GPU)),
        lambda: net.loss(Tensor(X, GPU), Tensor(Y, OTHER_GPU)),
    ):
        with pytest.raises(TypeError, match=r"[XY] is on GPU 1, but .* on GPU 0; .*'cuda:1'"):
            call()
    there = layers().to("cuda:1")
    assert there.predict(Tensor(X, OTHER_GPU)).place == OTHER_GPU
