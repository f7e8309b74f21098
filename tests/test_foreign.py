"""Arrays of any library, by DLPack: taken and given back as they are, never copied."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from foreign import Tensor
from foreign_nets import NETS, M, addresses, assert_like, batch_of, graph, layers, members, tensors


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("part", [None, 64])
def test_every_method(name: str, part: int | None) -> None:
    net, same = NETS[name](), NETS[name]()
    given = batch_of(net)
    X, Y, w = tensors(*given)
    E, gradients = net.value_and_grad(X, Y, None, w, part)
    wanted_E, wanted = same.value_and_grad(given[0], given[1], None, given[2], part)
    assert_like(E, wanted_E)
    assert_like(gradients.flat, wanted.flat)
    for (_, x), (_, y) in zip(gradients.named(), wanted.named()):
        assert_like(x, y)
    assert repr(gradients).split(";")[0] == repr(wanted).split(";")[0]
    assert gradients.where(3) == wanted.where(3)
    assert_like(net.loss(X, Y, None, w, part), same.loss(*given[:2], None, given[2], part))
    assert_like(net.predict(X, part), same.predict(given[0], part))
    assert_like(
        net.train_step(X, Y, None, 0.5, w, part),
        same.train_step(*given[:2], None, 0.5, given[2], part),
    )
    step, wanted_step = (
        net.train_step(X, Y, optimizer=dp.Adam()),
        same.train_step(*given[:2], optimizer=dp.Adam()),
    )
    assert_like(step, wanted_step)
    options = {"epochs": 2, "batch_size": 48, "learning_rate": 0.25}
    found = net.fit(X, Y, sample_weight=w, validation=(X, Y), **options)
    history = same.fit(*given[:2], sample_weight=given[2], validation=given[:2], **options)
    assert np.array_equal(found.loss, history.loss)
    assert np.array_equal(found.validation_loss, history.validation_loss)
    assert type(found.validation_loss[0]) is type(history.validation_loss[0])
    assert_same_bits(net.parameters, same.parameters)


def test_the_sweeps_of_layers() -> None:
    net = layers()
    given = batch_of(net)
    X, Y, w = tensors(*given)
    trace, wanted = net.forward(X), net.forward(given[0])
    back = net.backward(trace, Y, None, w, input_gradient=True)
    wanted_back = net.backward(wanted, given[1], None, given[2], input_gradient=True)
    assert trace.a[0] is X
    for l in (1, 2):
        assert_like(trace.z[l], wanted.z[l])
        assert_like(trace.a[l], wanted.a[l])
        assert_like(back.delta[l], wanted_back.delta[l])
    assert_like(back.gradients.flat, wanted_back.gradients.flat)
    assert_like(back.input_gradient, wanted_back.input_gradient)
    pulled, wanted_pulled = net.pull_back(trace, Y), net.pull_back(wanted, given[1])
    assert_like(pulled.gradients.flat, wanted_pulled.gradients.flat)
    assert_like(pulled.input_gradient, wanted_pulled.input_gradient)


def test_the_sweeps_of_a_graph() -> None:
    g = graph()
    given = batch_of(g)
    X, Y, w = tensors(*given)
    trace, wanted = g.forward(X), g.forward(given[0])
    back, wanted_back = g.backward(trace, Y, None, w), g.backward(wanted, given[1], None, given[2])
    assert_like(trace.a["h"], wanted.a["h"])
    assert_like(trace.z.array, wanted.z.array)
    assert_like(back.delta.array, wanted_back.delta.array)
    assert_like(back.slope["h"], wanted_back.slope["h"])
    assert_like(back.input_gradient, wanted_back.input_gradient)
    assert back.gradients["x1", "h"] == wanted_back.gradients["x1", "h"]


def test_labels() -> None:
    net = layers()
    X, labels = batch_of(net)[0], np.arange(M) % 3
    wanted = net.value_and_grad(X, labels)[1].flat
    assert_like(net.value_and_grad(*tensors(X, labels))[1].flat, wanted)
    each = dp.MLP([2, 5, 3], output="softmax", dtype="float64", ensemble=2)
    both = np.stack([labels, labels[::-1]])
    wanted = each.value_and_grad(np.stack([X, X]), both)[1].flat
    assert_like(each.value_and_grad(*tensors(np.stack([X, X]), both))[1].flat, wanted)


def test_rates_of_members_and_edges_of_a_graph() -> None:
    net, same, rates = members(), members(), np.array([0.5, 0.25])
    X, Y, _ = batch_of(net)
    net.train_step(X, Y, learning_rate=Tensor(rates))
    same.train_step(X, Y, learning_rate=rates)
    assert_same_bits(net.parameters, same.parameters)
    edges = np.array([0, 1, 0]), np.array([2, 2, 3]), np.array([0.5, -1.0, 2.0]), np.ones(4)
    made = [
        dp.Graph.from_arrays(source, target, weight, inputs=[0, 1], outputs=[2, 3], bias=bias)
        for source, target, weight, bias in (edges, tensors(*edges))
    ]
    assert_same_bits(made[1].parameters, made[0].parameters)


def test_kinds_may_differ() -> None:
    """Results are as X is."""
    net = layers()
    X, Y, w = batch_of(net)
    E, wanted = net.value_and_grad(X, Y, None, w)
    assert_like(net.value_and_grad(Tensor(X), Y, None, w)[1].flat, wanted.flat)
    got = net.value_and_grad(X, Tensor(Y), None, Tensor(w))
    assert got[0] == E
    assert_same_bits(got[1].flat, wanted.flat)
    assert type(got[1].flat) is np.ndarray


def test_a_library_that_takes_no_dlpack_gets_numpys() -> None:
    class Bare:
        __dlpack_device__, __dlpack__ = Tensor.__dlpack_device__, Tensor.__dlpack__
        __init__ = Tensor.__init__

    Bare.__module__ = "builtins"
    net = layers()
    X = batch_of(net)[0]
    assert_same_bits(net.predict(Bare(X)), net.predict(X))


def test_the_array_api_names_its_namespace() -> None:
    class Other(Tensor):
        def __array_namespace__(self) -> Any:
            return SimpleNamespace(from_dlpack=lambda x: ("theirs", np.from_dlpack(x)))

    net = layers()
    X = batch_of(net)[0]
    theirs, outputs = net.predict(Other(X))
    assert theirs == "theirs"
    assert_same_bits(outputs, net.predict(X))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ops(dtype: str) -> None:
    delta, W, a = sample((M, 3), dtype), sample((3, 4), dtype, 1), sample((M, 4), dtype, 2)
    b, w, Y = sample(3, dtype, 3), sample(M, dtype, 4), sample((M, 3), dtype, 5)
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (dp.ops.activate, (a, "gelu")),
        (dp.ops.slope, (a, "tanh")),
        (dp.ops.dense_forward, (a, W, b, "silu")),
        (dp.ops.softmax, (a,)),
        (dp.ops.log_softmax, (a,)),
        (dp.ops.softmax_delta, (delta, Y)),
        (dp.ops.sample_loss, (delta, Y, "mse")),
        (dp.ops.output_delta, (delta, Y, "mse", "gelu", Y, w)),
        (dp.ops.hidden_delta, (delta, W, a)),
        (dp.ops.fused_delta, (a, a, "tanh")),
        (dp.ops.softmax_delta, (delta, Y)),
        (dp.ops.input_gradient, (delta, W)),
        (dp.ops.weight_gradient, (delta, a)),
        (dp.ops.bias_gradient, (delta,)),
        (dp.ops.descend, (W, W, 0.5)),
    ]
    assert {f.__name__ for f, _ in calls} >= set(dp.ops.__all__)
    for f, arguments in calls:
        given = [Tensor(x) if isinstance(x, np.ndarray) else x for x in arguments]
        got, wanted = f(*given, backend="cpu"), f(*arguments, backend="cpu")
        pairs = zip(got, wanted) if isinstance(wanted, tuple) else [(got, wanted)]
        for x, y in pairs:
            assert_like(x, y)


def test_gradients_are_checked() -> None:
    net = layers()
    given = batch_of(net)
    X, Y, w = tensors(*given)
    _, gradients = net.value_and_grad(X, Y, None, w)
    wanted = net.value_and_grad(*given[:2], None, given[2])[1]
    assert dp.digest(gradients) == dp.digest(gradients.flat) == dp.digest(wanted)
    assert dp.crosscheck(net, X, Y, None, w, ["cpu", "numpy"])
    assert dp.gradcheck(net, X, Y, None, w, gradients)
    pairs = [(layer.W, layer.b) for layer in gradients]
    for mine in (gradients, pairs, dict(gradients.named()), gradients.flat):
        assert dp.check_backprop(mine, net, X, Y, None, w)
    doubled = [(Tensor(2 * W.memory), b) for W, b in pairs]
    assert not dp.check_backprop(doubled, net, X, Y, None, w)
    g = graph()
    X, Y, _ = tensors(*batch_of(g))
    gradients = g.value_and_grad(X, Y)[1]
    by_name = {end: gradients.flat[i] for i, end in enumerate(gradients.edges)}
    by_name |= {unit: gradients.biases[i] for i, unit in enumerate(gradients.biased)}
    assert dp.check_backprop(gradients, g, X, Y) and dp.check_backprop(by_name, g, X, Y)


def test_a_gradient_is_explained() -> None:
    net = layers()
    given = batch_of(net)
    X, Y, w = tensors(*given)
    wanted = net.explain("0.W[1, 0]", *given[:2], None, given[2])
    assert str(net.explain("0.W[1, 0]", X, Y, None, w)) == str(wanted)


def test_a_drawing_has_their_gradients() -> None:
    net = layers()
    given = batch_of(net)
    pictures = []
    for X, Y in (given[:2], tensors(*given[:2])):
        for gradients in (net.value_and_grad(X, Y)[1], net.backward(net.forward(X), Y)):
            pictures.append(dp.plot._picture(net, net.to_graph(), gradients).value)
    assert np.array_equal(pictures[:2], pictures[2:])


# ------------------------------------------------------------------------------- no copy


@pytest.mark.parametrize("name", ["MLP", "ensemble"])
def test_a_sweep_is_given_their_memory_and_gives_its_own(name: str) -> None:
    net = NETS[name]()
    X, Y, w = tensors(*batch_of(net))
    found: list[Any] = []
    seen = addresses(net, lambda: found.append(net.value_and_grad(X, Y, None, w)[1].flat))
    assert seen == [X.address, Y.address, w.address, found[0].address]


def test_memory() -> None:
    """16 MB of inputs, and 8 MB of outputs: whoever copies either needs more."""
    net = dp.MLP([2, 1], backend="cpu")
    X = Tensor(np.ones((1 << 21, 2), "f4"))
    net.predict(X[:64])
    tracemalloc.start()
    outputs = net.predict(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outputs.memory.nbytes == 8 << 20
    assert 8 << 20 <= peak < 12 << 20
    assert outputs.address % 64 == 0, "where it does not begin at a cache line, JAX copies it"


def test_strides_and_narrow_dtypes_are_brought_into_order() -> None:
    net = dp.MLP([2, 5, 3], "tanh", backend="cpu")
    wide = sample((4, M), "float32")
    for x in (
        wide.T[:, ::2],
        wide.T[::-1, :2],
        (wide.T[:, :2] * 9).astype("i2"),
        wide.T[:, 1:3].astype("f2"),
    ):
        contiguous = np.ascontiguousarray(x, "float32")
        assert_like(net.predict(Tensor(x)), net.predict(contiguous))
