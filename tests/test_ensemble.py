"""Ensembles: every member has the bits of that net alone, with its own batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import HERE, assert_same_bits, sample
from deltaprop.check import to_numpy
from ensembles import SIZES, WAYS, N, P, alone, assert_as_alone, assert_same, batch, ensemble, own
from strict_cupy import DeviceArray, use_strict_cupy

# ------------------------------------------------------------------------------- the net


def test_member_e_starts_as_the_net_of_seed_s_plus_e(backend: str, dtype: str) -> None:
    net = dp.MLP(SIZES, "tanh", seed=4, dtype=dtype, backend=backend, ensemble=N)
    for e in range(N):
        one = dp.MLP(SIZES, "tanh", seed=4 + e, dtype=dtype, backend=backend)
        assert_same_bits(to_numpy(net.parameters)[e], to_numpy(one.parameters))
        assert_same_bits(to_numpy(net.member(e).parameters), to_numpy(one.parameters))


def test_layers_view_the_rows(backend: str, dtype: str) -> None:
    net = ensemble(backend, dtype)
    assert net.parameters.shape == (N, P)
    assert net.parameters.flags.c_contiguous
    assert [x.shape for W, b, _ in net.layers for x in (W, b)] == [
        (N, 5, 3), (N, 5), (N, 2, 5), (N, 2)
    ]  # fmt: skip
    X = batch(dtype)[0]
    before = net.predict(X)
    net.layers[1].b[1] = 9
    assert np.all(to_numpy(net.parameters)[1, -2:] == 9)
    changed = np.any(net.predict(X) != before, axis=(1, 2))
    assert changed.tolist() == [False, True, False]


def test_without_bias() -> None:
    net = dp.MLP(SIZES, bias=False, ensemble=N, backend="reference")
    assert [b for _, b, _ in net.layers] == [None, None]
    _, gradients = net.value_and_grad(*batch("float32")[:2])
    assert gradients.flat.shape == (N, 3 * 5 + 5 * 2)
    assert [b for _, b in gradients] == [None, None]


def test_one_member_has_an_axis_and_a_net_has_none() -> None:
    X, Y, _ = batch("float32")
    one, plain = (dp.MLP(SIZES, backend="numpy", ensemble=n) for n in (1, None))
    assert (one.ensemble, plain.ensemble) == (1, None)
    assert type(plain) is dp.MLP
    assert one.predict(X).shape == (1, *plain.predict(X).shape)
    assert one.loss(X, Y).shape == (1,)
    assert type(plain.loss(X, Y)) is float


def test_the_work_is_that_of_all_members() -> None:
    """By which "auto" chooses the backend."""
    net = ensemble("numpy")
    assert net._work() == N * net.member(0)._work()


def test_repr_says_what_it_is(backend: str) -> None:
    shown = repr(ensemble(backend))
    assert shown == f"Ensemble(3 x 3-5-2; tanh, identity; float32, backend {backend!r})"
    gradients = ensemble("numpy").value_and_grad(*batch("float32")[:2])[1]
    assert "3x5x3, 3x2x5" in repr(gradients)
    assert f"{N * P} numbers" in repr(gradients)


def test_where_a_number_is() -> None:
    gradients = ensemble("numpy")._like_parameters(np.arange(N * P).reshape(N, P))
    for position in range(N * P):
        name, index = gradients.where(position)[:-1].split("[")
        assert dict(gradients.named())[name][tuple(map(int, index.split(",")))] == position
    with pytest.raises(IndexError, match=str(N * P)):
        gradients.where(N * P)


# ------------------------------------------------------------------- gradients and outputs


@pytest.mark.parametrize("each", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("m", [1, 64, 65, 130])
def test_every_member_has_its_own_bits(backend: str, dtype: str, m: int, each: bool) -> None:
    net, nets = ensemble(backend, dtype), alone(backend, dtype)
    X, Y, w = batch(dtype, m, each)
    assert_as_alone(net, nets, X, Y, None, None)
    assert_as_alone(net, nets, X, Y, w, None)
    outputs = net.predict(X)
    assert outputs.shape == (N, m, 2)
    for e, one in enumerate(nets):
        assert_same(outputs[e], one.predict(own(X, e, 2)), backend)


@pytest.mark.parametrize("loss", dp.LOSSES)
def test_every_loss(backend: str, dtype: str, loss: str) -> None:
    options = {"output": dp.LOSSES[loss].link or "identity"}
    net, nets = ensemble(backend, dtype, **options), alone(backend, dtype, **options)
    for each in (False, True):
        assert_as_alone(net, nets, *batch(dtype, 9, each), loss)


def test_inputs_targets_and_weights_are_shared_or_not_each_for_itself(backend: str) -> None:
    net, nets = ensemble(backend), alone(backend)
    shared, each = batch("float32", 9), batch("float32", 9, True)
    for choice in range(8):
        given = [(shared, each)[choice >> i & 1][i] for i in range(3)]
        assert_as_alone(net, nets, *given, None)


@pytest.mark.parametrize("m", [2, 3, 65])
def test_labels(backend: str, dtype: str, m: int) -> None:
    net, nets = (make(backend, dtype, output="softmax") for make in (ensemble, alone))
    shared, each = batch(dtype, m)[0], batch(dtype, m, True)[0]
    labels = np.arange(N * m).reshape(N, m) // 2 % 2
    assert_as_alone(net, nets, shared, labels[0], None, None)
    assert_as_alone(net, nets, each, labels[0], None, None)
    assert_as_alone(net, nets, each, labels, None, None)
    if m != 2:
        assert_as_alone(net, nets, shared, labels, None, "cross_entropy")


def test_integers_that_may_be_labels_or_targets() -> None:
    """n = m = n_out: X decides."""
    net = dp.MLP([4, 3], output="softmax", ensemble=3, backend="reference")
    X, one_hot = sample((3, 3, 4), "float32"), np.eye(3, dtype=np.int8)
    rows = np.eye(3, dtype=np.float32)
    assert_same_bits(net.loss(X[0], one_hot), net.loss(X[0], rows))
    assert_same_bits(net.loss(X, one_hot), net.loss(X, rows[one_hot]))


@pytest.mark.parametrize("part", [64, 192])
@pytest.mark.parametrize("each", WAYS.values(), ids=WAYS)
def test_a_batch_in_parts(backend: str, part: int, each: bool) -> None:
    net, nets = ensemble(backend), alone(backend)
    X, Y, w = batch("float32", 300, each)
    assert_as_alone(net, nets, X, Y, w, None, part)
    whole, in_parts = (net.value_and_grad(X, Y, None, w, size)[1].flat for size in (None, part))
    assert_same(in_parts, whole, backend)


def test_results_share_no_memory(backend: str) -> None:
    net, (X, Y, _) = ensemble(backend), batch("float32")
    (_, first), before = net.value_and_grad(X, Y), to_numpy(net.parameters).copy()
    kept = first.flat.copy()
    _, second = net.value_and_grad(X, Y + 1)
    assert_same_bits(first.flat, kept)
    second[0].W[...] = 0
    assert not np.any(second.flat[:, :15])
    assert_same_bits(to_numpy(net.parameters), before)


def test_what_overflows_in_one_member_stays_there(backend: str) -> None:
    net, (X, Y, _) = ensemble(backend), batch("float32")
    wanted, gradients = net.value_and_grad(X, Y)
    net.parameters[1] = np.nan
    losses, others = net.value_and_grad(X, Y)
    assert np.isnan(losses).tolist() == [False, True, False]
    assert_same_bits(losses[[0, 2]], wanted[[0, 2]])
    assert_same_bits(others.flat[[0, 2]], gradients.flat[[0, 2]])


def test_crosscheck(backend: str) -> None:
    for each in (False, True):
        X, Y, w = batch("float32", 9, each)
        check = dp.crosscheck(ensemble("reference"), X, Y, None, w, backend)
        assert check
        assert list(check.rows[0].differences) == ["0.W", "0.b", "1.W", "1.b"]


@pytest.mark.skipif("cuda-host" not in HERE, reason="needs a C++ compiler")
@pytest.mark.parametrize("each", WAYS.values(), ids=WAYS)
def test_arrays_of_a_gpu(monkeypatch: pytest.MonkeyPatch, each: bool) -> None:
    cupy = use_strict_cupy(monkeypatch)
    net, there = ensemble("reference", output="softmax"), ensemble("cuda", output="softmax")
    X, Y, w = batch("float32", 130, each)
    given = [cupy.asarray(x) for x in (X, Y, w)]
    losses, gradients = there.value_and_grad(*given[:2], None, given[2], 64)
    assert type(gradients.flat) is type(there.predict(given[0])) is DeviceArray
    wanted_losses, wanted = net.value_and_grad(X, Y, None, w, 64)
    assert_same_bits(to_numpy(losses), wanted_losses)
    assert_same_bits(to_numpy(gradients.flat), wanted.flat)
    for which, (x, y) in ((net, (X, Y)), (there, given[:2])):
        which.train_step(x, y, learning_rate=0.3)
        which.train_step(x, y, learning_rate=[0.1, 0.2, 0.3])
    assert_same_bits(to_numpy(there.parameters), net.parameters)
    assert_same_bits(to_numpy(there.predict(given[0])), net.predict(X))


# ------------------------------------------------------------------------------- training


@pytest.mark.parametrize("rates", [0.3, [0.1, 0.2, 0.3], np.array([0, 0.5, 1], "float32")], ids=str)
@pytest.mark.parametrize("each", WAYS.values(), ids=WAYS)
def test_a_step_is_that_of_each_net(backend: str, dtype: str, rates: Any, each: bool) -> None:
    net, nets = ensemble(backend, dtype), alone(backend, dtype)
    X, Y, w = batch(dtype, 9, each)
    for _ in range(2):
        before = net.loss(X, Y, None, w)
        assert_same(net.train_step(X, Y, None, rates, w), before, backend)
        for e, one in enumerate(nets):
            eta = rates if isinstance(rates, float) else float(rates[e])
            one.train_step(own(X, e, 2), own(Y, e, 2), None, eta, own(w, e, 1))
    assert_same(net.parameters, np.stack([to_numpy(one.parameters) for one in nets]), backend)


@pytest.mark.parametrize("each", WAYS.values(), ids=WAYS)
def test_fit_is_that_of_each_net(backend: str, each: bool) -> None:
    net, nets = ensemble(backend), alone(backend)
    X, Y, w = batch("float32", 30, each)
    options = {"epochs": 3, "batch_size": 7, "seed": 5}
    rates = [0.1, 0.2, 0.3]
    history = net.fit(
        X, Y, **options, learning_rate=rates, sample_weight=w, validation=(X, Y), progress=True
    )
    for e, one in enumerate(nets):
        given = own(X, e, 2), own(Y, e, 2)
        options |= {"learning_rate": rates[e], "sample_weight": own(w, e, 1), "validation": given}
        wanted = one.fit(*given, **options)
        assert_same(np.array([x[e] for x in history.loss]), np.array(wanted.loss), "numpy")
        if backend != "numpy":
            assert [x[e] for x in history.loss] == wanted.loss
            assert [x[e] for x in history.validation_loss] == wanted.validation_loss
        assert_same(net.parameters[e], one.parameters, backend)


def test_fit_takes_labels() -> None:
    """A batch of as many samples and outputs as members, where rows have the labels' shape."""
    X, labels = sample((N, 9, 4), "float32"), np.arange(N * 9).reshape(N, 9) // 2 % 3
    nets = [dp.MLP([4, 3], output="softmax", ensemble=N, backend="reference") for _ in range(3)]
    for net, y in zip(nets, (labels[0], labels, np.eye(3, dtype=np.float32)[labels])):
        net.fit(X, y, epochs=1, batch_size=3)
    assert_same_bits(nets[1].parameters, nets[2].parameters)
    assert np.any(nets[0].parameters != nets[1].parameters)
