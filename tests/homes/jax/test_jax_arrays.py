"""JAX's arrays: taken as they are, and given back as JAX's, where JAX can over the same memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample

M = 130


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", before)


def nets(dtype: str) -> list[Any]:
    one = dp.MLP([4, 16, 3], "tanh", dtype=dtype, backend="cpu", seed=1)
    many = dp.MLP([4, 16, 3], "tanh", dtype=dtype, backend="cpu", ensemble=2)
    return [one, many, one.to_graph()]


def assert_is(got: Any, wanted: np.ndarray) -> None:
    assert isinstance(got, jax.Array)
    assert_same_bits(np.asarray(got), wanted)


@pytest.mark.parametrize("which", range(3))
def test_a_net(which: int, dtype: str) -> None:
    net, same = nets(dtype)[which], nets(dtype)[which]
    given = [sample((M, 4), dtype, 1), sample((M, 3), dtype, 2), sample(M, dtype, 3)]
    X, Y, w = map(jnp.asarray, given)
    for part in (None, 64):
        E, gradients = net.value_and_grad(X, Y, None, w, part)
        wanted_E, wanted = same.value_and_grad(*given[:2], None, given[2], part)
        assert isinstance(E, jax.Array) if which == 1 else type(E) is float
        assert np.array_equal(E, wanted_E)
        assert_is(gradients.flat, wanted.flat)
        for (_, x), (_, y) in zip(gradients.named(), wanted.named()):
            assert_is(x, y)
        assert_is(net.predict(X, part), same.predict(given[0], part))
    assert np.array_equal(net.train_step(X, Y), same.train_step(*given[:2]))
    history = net.fit(X, Y, epochs=2, sample_weight=w, validation=(X, Y))
    wanted_history = same.fit(*given[:2], epochs=2, sample_weight=given[2], validation=given[:2])
    assert np.array_equal(history.validation_loss, wanted_history.validation_loss)
    assert_same_bits(net.parameters, same.parameters)


def test_nothing_large_is_copied() -> None:
    net = dp.MLP([4, 1], backend="cpu")
    X, seen = jnp.ones((1 << 15, 4)), list[Any]()
    predict = net._sweeps.outputs

    def watched(parameters: Any, X: Any) -> Any:
        outputs = predict(parameters, X)
        seen.extend(x.ctypes.data for x in (X, outputs))
        return outputs

    net._sweeps.outputs = watched
    outputs = net.predict(X)
    assert seen == [X.unsafe_buffer_pointer(), outputs.unsafe_buffer_pointer()]


def test_what_is_yet_to_be_computed_is_waited_for() -> None:
    net = dp.MLP([512, 1], backend="cpu", seed=1)

    @jax.jit
    def slow(x: jax.Array) -> jax.Array:
        for _ in range(20):
            x = jnp.tanh(x @ x) + 0.1
        return x

    x = slow(jnp.ones((512, 512)))
    x.block_until_ready()
    outputs = net.predict(slow(jnp.ones((512, 512))))
    assert_is(outputs, net.predict(np.asarray(x)))


def test_labels_and_kinds_that_differ() -> None:
    net = dp.MLP([4, 16, 3], output="softmax", backend="cpu")
    X, labels = sample((M, 4), "float32"), np.arange(M) % 3
    wanted = net.value_and_grad(X, labels)[1].flat
    assert_is(net.value_and_grad(jnp.asarray(X), jnp.asarray(labels))[1].flat, wanted)
    assert_is(net.value_and_grad(jnp.asarray(X), labels)[1].flat, wanted)
    assert_same_bits(net.value_and_grad(X, jnp.asarray(labels))[1].flat, wanted)


def test_sweeps_and_ops(dtype: str) -> None:
    X, Y = sample((M, 4), dtype), sample((M, 3), dtype, 1)
    for net in (nets(dtype)[0], nets(dtype)[2]):
        back = net.backward(net.forward(jnp.asarray(X)), jnp.asarray(Y))
        assert_is(back.gradients.flat, net.backward(net.forward(X), Y).gradients.flat)
    assert_is(dp.ops.softmax(jnp.asarray(X)), dp.ops.softmax(X))


def test_gradients_of_jax_are_checked() -> None:
    net = dp.MLP([4, 16, 3], "tanh", "softmax", backend="cpu", seed=1)
    X, labels = jnp.asarray(sample((M, 4), "float32")), jnp.arange(M) % 3

    def E(parameters: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
        (W1, b1), (W2, b2) = parameters
        log_p = jax.nn.log_softmax(jnp.tanh(X @ W1.T + b1) @ W2.T + b2)
        return -log_p[jnp.arange(M), labels].mean()

    mine = jax.grad(E)([(jnp.asarray(W), jnp.asarray(b)) for W, b, _ in net.layers])
    assert dp.check_backprop(mine, net, X, labels)
    assert not dp.check_backprop([(M * W, b) for W, b in mine], net, X, labels)
    assert dp.crosscheck(net, X, labels, backends=["cpu", "numpy"])
    assert str(net.explain("0.b[1]", X, labels)) == str(
        net.explain("0.b[1]", np.asarray(X), np.asarray(labels))
    )


def test_what_cannot_be_taken_is_named() -> None:
    net = nets("float32")[0]
    for x, said in (
        (jnp.ones((M, 4), jnp.bfloat16), "X, ArrayImpl of bfloat16.*, cannot be shared"),
        (jnp.ones((M, 4), jnp.int32), "X has dtype int32, which float32 cannot hold"),
        (jnp.ones((M, 4)) * 1j, "X has dtype complex64"),
    ):
        with pytest.raises(TypeError, match=said):
            net.predict(x)
    with pytest.raises(TypeError, match=r"X must be an array of .*, got DynamicJaxprTracer"):
        jax.jit(net.predict)(jnp.ones((M, 4)))
