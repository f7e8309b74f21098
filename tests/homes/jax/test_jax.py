"""`deltaprop.jax`: a net as a function of JAX, with the bits and bounds that deltaprop has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deltaprop as dp
import deltaprop.jax as dpj
from conftest import assert_same_bits, sample
from deltaprop.activations import IDENTITY
from deltaprop.bounds import gradient_bounds
from deltaprop.equations import Batch, Layer

M = 100
IN_JNP: dict[str, Callable[[Any], Any]] = {
    "logistic": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "silu": jax.nn.silu,
    "identity": lambda z: z,
    "softmax": lambda z: jax.nn.softmax(z, axis=-1),
}


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", before)


def net_of(dtype: str, hidden: Any = "tanh", output: str = "identity", **options: Any) -> dp.MLP:
    options = {"backend": "cpu", "seed": 1, **options}
    return dp.MLP([4, 16, 8, 3], hidden, output, dtype=dtype, **options)


def in_jnp(net: dp.MLP, params: Any, X: Any) -> Any:
    """The same net, by JAX's own functions."""
    for (W, b), g in zip(params, net.activations):
        z = jnp.matmul(X, W.T, precision="highest")
        X = IN_JNP[g.name](z if b is None else z + b)
    return X


def half_mse(f: Callable[[Any, Any], Any], Y: Any) -> Callable[[Any, Any], Any]:
    return lambda params, X: jnp.sum((f(params, X) - Y) ** 2) / (2 * len(Y))


def same_bits(got: Any, wanted: dp.mlp.Parameters) -> None:
    for layer, layer_wanted in zip(got, wanted, strict=True):
        for x, y in zip(layer, layer_wanted):
            assert (x is None) == (y is None)
            if y is not None:
                assert_same_bits(np.asarray(x), y)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("backend", ["cpu", "reference", "numpy"])
@pytest.mark.parametrize(
    ("hidden", "output", "bias"),
    [("tanh", "identity", True), ("gelu", "softmax", True), (["relu", "silu"], "logistic", False)],
)
def test_the_bits_are_those_of_the_net(
    dtype: str, hidden: Any, output: str, bias: bool, backend: str, compiled: bool
) -> None:
    net = net_of(dtype, hidden, output, bias=bias, backend=backend)
    f, params = dpj.mlp(net), dpj.params_of(net)
    X, upstream = sample((M, 4), dtype), sample((M, 3), dtype, 1)
    maybe = jax.jit if compiled else lambda f: f
    assert_same_bits(np.asarray(maybe(f)(params, X)), net.predict(X))
    pulled = maybe(lambda params, X, u: jax.vjp(f, params, X)[1](u))
    gradients, dX = pulled(params, jnp.asarray(X), jnp.asarray(upstream))
    wanted = net.pull_back(net.forward(X), upstream)
    same_bits(gradients, wanted.gradients)
    assert_same_bits(np.asarray(dX), wanted.input_gradient)
    assert jax.tree.structure(gradients) == jax.tree.structure(params)


@pytest.mark.parametrize("hidden", ["tanh", "gelu"])
@pytest.mark.parametrize("output", ["identity", "logistic"])
def test_the_gradient_is_jaxs_to_within_the_bound(dtype: str, hidden: str, output: str) -> None:
    """Each of the two may be off by the bound; dE/dX is dE/dW of a layer that makes X of 1."""
    net = net_of(dtype, hidden, output)
    params, X, Y = dpj.params_of(net), sample((M, 4), dtype), sample((M, 3), dtype, 1)
    found, wanted = (
        jax.value_and_grad(half_mse(f, Y), argnums=(0, 1))(params, jnp.asarray(X))
        for f in (dpj.mlp(net), lambda params, X: in_jnp(net, params, X))
    )
    assert np.isclose(found[0], wanted[0], rtol=1e-5)
    wide = net.to("numpy", "float64")
    layers = [Layer(X.astype("f8").T, None, IDENTITY), *wide.layers]
    seen = Batch(Y.astype("f8"), None, M, 3), dp.LOSSES["half_mse"]
    u = float(np.finfo(dtype).eps) / 2
    bounds = gradient_bounds(layers, np.eye(M), *seen, u)
    pairs = [(found[1][1].T, wanted[1][1].T, bounds[0].W)]
    for got, right, bound in zip(found[1][0], wanted[1][0], bounds[1:]):
        pairs += list(zip(got, right, bound))
    for got, right, bound in pairs:
        assert np.max(np.abs(np.asarray(got, "f8") - np.asarray(right, "f8")) / (2 * bound)) < 1


def test_training_with_an_update_by_hand() -> None:
    """As `net.train_step` with half_mse, to the rounding of JAX's E and update."""
    net = net_of("float32")
    X, Y = sample((M, 4), "float32"), np.tanh(sample((M, 3), "float32", 1))
    step_of = jax.value_and_grad(half_mse(dpj.mlp([4, 16, 8, 3], "tanh"), Y))

    @jax.jit
    def step(params: Any) -> tuple[Any, Any]:
        E, gradients = step_of(params, X)
        return E, jax.tree.map(lambda w, g: w - 0.1 * g, params, gradients)

    params = dpj.params_of(net)
    for _ in range(20):
        E, params = step(params)
        assert np.isclose(E, net.train_step(X, Y, "half_mse", 0.1), rtol=1e-4)
    other = net_of("float32", seed=5)
    dpj.set_params(other, params)
    assert np.allclose(other.parameters, net.parameters, atol=1e-5)
    same_bits(dpj.params_of(other), other._parameters)


def test_in_a_scan_and_checkpointed() -> None:
    """A training of ten steps in one compiled call, each gradient from a checkpoint."""
    net = net_of("float32")
    X, Y = jnp.asarray(sample((M, 4), "float32")), np.tanh(sample((M, 3), "float32", 1))
    step_of = jax.value_and_grad(half_mse(jax.checkpoint(dpj.mlp(net)), Y))

    def step(params: Any, _: Any) -> Any:
        E, gradients = step_of(params, X)
        return jax.tree.map(lambda w, g: w - 0.1 * g, params, gradients), E

    train = jax.jit(lambda params: jax.lax.scan(step, params, length=10))
    wanted = [net.train_step(X, Y, "half_mse", 0.1) for _ in range(10)]
    assert np.allclose(train(dpj.params_of(net_of("float32")))[1], wanted, rtol=1e-4)


def test_parameters_are_copied() -> None:
    net = net_of("float32")
    params = dpj.params_of(net)
    before = np.array(params[0][0])
    net.parameters[...] = 0
    assert_same_bits(np.asarray(params[0][0]), before)


# --------------------------------------------------------------------------------------- vmap


def test_vmap_over_samples() -> None:
    net = net_of("float32", output="softmax")
    f, params = dpj.mlp(net), dpj.params_of(net)
    X, u = sample((M, 4), "float32"), sample((M, 3), "float32", 1)
    for shaped in (X, X.reshape(5, 20, 4), X.reshape(5, 4, 5, 4)):
        for mapped in (f, jax.vmap(f, (None, 0)), jax.jit(jax.vmap(f, (None, 0)))):
            outputs = np.asarray(mapped(params, jnp.asarray(shaped)))
            assert_same_bits(outputs.reshape(M, 3), net.predict(X))
    gradients = jax.vmap(jax.grad(lambda p, x, u: f(p, x) @ u), (None, 0, 0))(params, X, u)
    for i in (0, M - 1):
        one = net.pull_back(net.forward(X[i : i + 1]), u[i : i + 1])
        same_bits([(W[i], b[i]) for W, b in gradients], one.gradients)


def test_a_sample_is_one_row_of_a_sweep() -> None:
    """vmap over samples with one net's parameters is one sweep, of all of them."""
    net = net_of("float32")
    f, params, rows = dpj.mlp(net), dpj.params_of(net), []
    run = dpj.Host.outputs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            dpj.Host, "outputs", lambda self, *a: rows.append(len(a[-1])) or run(self, *a)
        )
        f = dpj.mlp(net)
        jax.vmap(f, (None, 0))(params, jnp.ones((M, 4))).block_until_ready()
    assert rows == [M]


def test_only_what_is_asked_for_is_computed() -> None:
    net, calls = net_of("float32"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("outputs", "pull_back", "input_gradient"):
            run = getattr(dpj.Host, name)
            patch.setattr(
                dpj.Host, name, lambda *a, run=run, name=name: calls.append(name) or run(*a)
            )
        f, params, X = dpj.mlp(net), dpj.params_of(net), jnp.ones((5, 4))
        for argument, wanted in ((0, ["pull_back"]), (1, ["pull_back", "input_gradient"])):
            calls.clear()
            E = jax.grad(lambda params, X: jnp.sum(f(params, X)), argnums=argument)
            jax.block_until_ready(jax.jit(E)(params, X))
            assert calls == wanted


def test_vmap_over_parameters() -> None:
    nets = [net_of("float32", seed=seed) for seed in range(3)]
    f = dpj.mlp(nets[0])
    params = jax.tree.map(lambda *x: jnp.stack(x), *map(dpj.params_of, nets))
    X, u = sample((3, M, 4), "float32"), sample((M, 3), "float32", 1)
    shared = jax.vmap(f, (0, None))(params, X[0])
    each = jax.vmap(f)(params, X)
    crossed = jax.jit(jax.vmap(jax.vmap(f, (None, 0)), (0, None)))(params, X)
    for e, net in enumerate(nets):
        assert_same_bits(np.asarray(shared[e]), net.predict(X[0]))
        assert_same_bits(np.asarray(each[e]), net.predict(X[e]))
        assert_same_bits(np.asarray(crossed[e, 2]), net.predict(X[2]))
    gradients = jax.vmap(lambda p, x: jax.vjp(f, p, x)[1](u))(params, X)
    for e, net in enumerate(nets):
        one = net.pull_back(net.forward(X[e]), u)
        same_bits(jax.tree.map(lambda x: x[e], gradients[0]), one.gradients)  # noqa: B023
        assert_same_bits(np.asarray(gradients[1][e]), one.input_gradient)


def test_jacrev_is_the_jacobian() -> None:
    net = net_of("float32")
    f, params, X = dpj.mlp(net), dpj.params_of(net), sample((2, 4), "float32")
    jacobian = jax.jacrev(f)(params, X)
    wanted = jax.jacrev(lambda params, X: in_jnp(net, params, X))(params, X)
    for x, y in zip(jax.tree.leaves(jacobian), jax.tree.leaves(wanted)):
        assert np.allclose(x, y, atol=1e-5)


# ------------------------------------------------------------------------------------ refused


def test_second_derivatives_are_refused() -> None:
    net = net_of("float32")
    f, params, X = dpj.mlp(net), dpj.params_of(net), jnp.asarray(sample((5, 4), "float32"))
    E = half_mse(f, np.zeros((5, 3), "f4"))

    def norm(X: Any) -> Any:
        return jnp.sum(jax.grad(E, argnums=1)(params, X) ** 2)

    for second in (jax.grad(norm), jax.hessian(E, argnums=1)):
        with pytest.raises(NotImplementedError, match="derivatives of first order"):
            second(X) if second.__name__ == "norm" else second(params, X)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda X: f(params, X), (X,), (X,))


def test_what_cannot_be_taken_is_named() -> None:
    net = net_of("float32")
    f, params, X = dpj.mlp(net), dpj.params_of(net), jnp.ones((5, 4))
    (W, b), *others = params
    for error, said, bad in (
        (ValueError, r"X must have shape \(..., 4\), not empty, got \(5, 3\)", (params, X[:, :3])),
        (ValueError, r"X must have shape \(..., 4\), not empty, got \(0, 4\)", (params, X[:0])),
        (TypeError, "X must be float32 or float64, got int32", (params, X.astype("i4"))),
        (ValueError, "params has 2 layers, but the net has 3", (params[1:], X)),
        (
            ValueError,
            r"params\[0\].W must have shape \(16, 4\), got \(4, 16\)",
            ([(W.T, b), *others], X),
        ),
        (ValueError, r"params\[0\] must be \(W, b\), got tuple", ([(W,), *others], X)),
        (ValueError, r"params\[0\].b must have shape \(16,\), got None", ([(W, None), *others], X)),
        (
            TypeError,
            r"params\[0\].b must be float32, got float16",
            ([(W, b.astype("f2")), *others], X),
        ),
    ):
        for call in (f, jax.jit(f)):
            with pytest.raises(error, match=said):
                call(*bad)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="params has 2 layers"):
        dpj.set_params(net, params[1:])
    assert_same_bits(net.parameters, before)
    with pytest.raises(TypeError, match="vmap"):
        dpj.mlp(net_of("float32", ensemble=2))
    with pytest.raises(TypeError, match="not both"):
        dpj.mlp(net, "tanh")
    with pytest.raises(ValueError, match="net is on 'cuda-host'"):
        dpj.mlp(net.to("cuda-host"))


# -------------------------------------------------------------------------------- no deadlock

LARGE = """
import jax, jax.numpy as jnp, numpy as np, deltaprop.jax as dpj
from concurrent.futures import ThreadPoolExecutor

f = dpj.mlp([256, 64, 256], "tanh")
params = [(jnp.ones((64, 256)) / 256, jnp.zeros(64)), (jnp.ones((256, 64)) / 64, jnp.zeros(256))]
X = jnp.asarray(np.random.default_rng(0).random((30_000, 256), dtype=np.float32))

@jax.jit
def step(params, X):
    def E(params, X):
        for _ in range(2):
            X = f(params, jnp.sin(X @ jnp.eye(256)))
        return jnp.mean(X ** 2)
    gradients, dX = jax.grad(E, argnums=(0, 1))(params, X)
    return jax.tree.map(lambda w, g: w - g, params, gradients), X + dX

for _ in range(3):
    params, X = step(params, X)  # nobody waits: calls pile up
jax.block_until_ready((params, X))
with ThreadPoolExecutor(4) as many:
    list(many.map(lambda _: jax.block_until_ready(step(params, X)), range(4)))
print("done")
"""


def test_large_arrays_do_not_deadlock() -> None:
    """30 MB a callback, calls before the last has ended, and from several threads."""
    run = subprocess.run(
        [sys.executable, "-c", LARGE], timeout=300, capture_output=True, text=True, check=False
    )
    assert run.stdout == "done\n", run.stderr
