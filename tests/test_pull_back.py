"""pull_back: the gradient of any E of the outputs, from dE/da^L alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from graphs import two_paths
from tasks import UNITWISE, dtype_in_turn, task
from test_gradients import COMPLEX
from values import unit_roundoff

SIZES = (4, 3, 5, 2)


def on_their_own(loss: str, a: np.ndarray, Y: np.ndarray, dtype: str) -> np.ndarray:
    """dE/da of a squared error as the specification rounds it: (a - y) c."""
    scale = dp.LOSSES[loss].delta_scale(*Y.shape)
    return (a - Y) * np.dtype(dtype).type(scale)


@pytest.mark.parametrize("loss", ["half_sse", "half_mse", "mse"])
@pytest.mark.parametrize("name", UNITWISE)
def test_from_the_slope_of_a_loss_come_the_bits_of_backward(backend, name, loss):
    dtype = dtype_in_turn(UNITWISE.index(name), len(loss))
    net, (X, Y, _) = task(SIZES, name, loss, 70, dtype=dtype)
    net = net.to(backend)
    trace = net.forward(X)
    wanted = net.backward(trace, Y, loss, input_gradient=True)
    got = net.pull_back(trace, on_their_own(loss, trace.a[-1], Y, dtype))
    assert_same_bits(got.gradients.flat, wanted.gradients.flat)
    assert_same_bits(got.gradients.flat, net.value_and_grad(X, Y, loss)[1].flat)
    assert_same_bits(got.input_gradient, wanted.input_gradient)
    assert got.delta[0] is None
    for ours, theirs in zip(got.delta[1:], wanted.delta[1:], strict=True):
        assert_same_bits(ours, theirs)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_where_the_slope_has_cancelled_in_a_loss_it_is_the_same_to_rounding(backend, loss, dtype):
    """a - y there; here dE/da = -y / a, or (a - y) / (a (1 - a)), times the slope of a."""
    net, (X, Y, _) = task((4, 6, 3), "tanh", loss, 70, dtype=dtype)
    net = net.to(backend)
    trace = net.forward(X)
    a = trace.a[-1].astype(np.float64)
    dE = -Y / a if loss == "cross_entropy" else (a - Y) / (a * (1 - a))
    wanted = net.backward(trace, Y, loss, input_gradient=True)
    got = net.pull_back(trace, (dE / len(X)).astype(dtype))
    for ours, theirs in (
        (got.gradients.flat, wanted.gradients.flat),
        (got.input_gradient, wanted.input_gradient),
    ):
        near = 200 * unit_roundoff(dtype) * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=near)


@pytest.mark.parametrize("output", [*UNITWISE, "softmax"])
def test_it_is_the_complex_step(backend, output):
    """Of E = sum u a^L, by every parameter and every input: with no difference and no loss."""
    net, (X, _, _) = task(SIZES, "tanh", "half_mse", 7, output=output)
    net = net.to(backend)
    u = sample((7, SIZES[-1]), "float64", 9)
    back = net.pull_back(net.forward(X), u)
    flat = np.array(net.to("reference").parameters)
    got = np.concatenate([back.gradients.flat, back.input_gradient.reshape(-1)])
    given, wanted = np.concatenate([flat, X.reshape(-1)]), np.empty(got.size)
    for i in range(given.size):
        moved = given.astype(complex)
        moved[i] += 1e-200j
        a = moved[flat.size :].reshape(X.shape)
        for (W, b), g in zip(dp.Parameters(moved[: flat.size], net.shapes), net.activations):
            a = COMPLEX[g.name](a @ W.T + b)
        wanted[i] = (u * a).sum().imag / 1e-200
    near = 200 * unit_roundoff("float64") * max(1, np.abs(wanted).max())
    np.testing.assert_allclose(got, wanted, rtol=0, atol=near)


@pytest.mark.parametrize("output", ["gelu", "softmax"])
@pytest.mark.parametrize("bias", [True, False])
def test_every_exact_backend_returns_the_bits_of_the_reference(exact, output, bias, dtype):
    net, (X, _, _) = task((5, 300, 3), "elu", "half_mse", 70, output=output, bias=bias, dtype=dtype)
    u = sample((70, 3), dtype, 9)
    wanted = net.pull_back(net.forward(X), u)
    there = net.to(exact)
    got = there.pull_back(there.forward(X), u)
    assert_same_bits(got.gradients.flat, wanted.gradients.flat)
    assert_same_bits(got.input_gradient, wanted.input_gradient)


# -------------------------------------------------------------------------------- graphs


def softmaxes() -> dp.Graph:
    """Outputs of two levels, in another order than that of evaluation, share a softmax."""
    g = dp.Graph(["x1", "x2"], ["a", "b"], dtype="float64")
    g.unit("h", "silu", bias=0.5)
    for name in ("b", "a"):
        g.unit(name, "softmax", bias=None if name == "a" else 0.25)
    for i, edge in enumerate(["x1 h", "x2 b", "h a", "x1 a"]):
        g.edge(*edge.split(), 0.75 - i / 2)
    return g


def leads_on() -> dp.Graph:
    """An output that another one is made of, and of another activation."""
    g = two_paths()
    g.edge("y1", "y2", 1.5)
    return g


def difference(f: Any, x: np.ndarray, i: int, h: float = 2.0**-13) -> float:
    """df/dx_i to h^4."""
    found = []
    for step in (-2 * h, -h, h, 2 * h):
        moved = np.array(x)
        moved.reshape(-1)[i] += step
        found.append(f(moved))
    return float((found[0] - 8 * found[1] + 8 * found[2] - found[3]) / (12 * h))


@pytest.mark.parametrize("make", [two_paths, leads_on, softmaxes])
def test_of_a_graph_it_is_the_central_difference(backend, make):
    g, X, u = make().to(backend), sample((5, 2), "float64", 1), sample((5, 2), "float64", 2)
    back = g.pull_back(g.forward(X), u)
    other = g.to("reference")

    def of_parameters(flat: np.ndarray) -> float:
        other.parameters[...] = flat
        return float((other.predict(X) * u).sum())

    start = np.array(other.parameters)
    for i, got in enumerate(back.gradients.flat):
        assert abs(difference(of_parameters, start, i) - got) < 1e-10
    other.parameters[...] = start
    for i, got in enumerate(back.input_gradient.reshape(-1)):
        assert abs(difference(lambda x: (other.predict(x) * u).sum(), X, i) - got) < 1e-10


@pytest.mark.parametrize("make", [two_paths, leads_on])
def test_of_a_graph_from_the_slope_of_a_loss_come_the_bits_of_backward(backend, make):
    g, X, Y = make().to(backend), sample((70, 2), "float64", 1), sample((70, 2), "float64", 2)
    trace = g.forward(X)
    wanted = g.backward(trace, Y, "half_mse")
    outputs = np.stack([trace.a[name] for name in ("y1", "y2")], axis=1)
    got = g.pull_back(trace, on_their_own("half_mse", outputs, Y, "float64"))
    assert_same_bits(got.gradients.flat, wanted.gradients.flat)
    assert_same_bits(got.input_gradient, wanted.input_gradient)
    for name in got.delta:
        assert_same_bits(got.delta[name], wanted.delta[name])
        assert_same_bits(got.slope[name], wanted.slope[name])


@pytest.mark.parametrize("output", ["tanh", "softmax"])
def test_a_layered_net_and_its_graph(exact, output, dtype):
    net, (X, _, _) = task((3, 5, 4), "gelu", "half_mse", 70, output=output, dtype=dtype)
    net, u = net.to(exact), sample((70, 4), dtype, 9)
    g = net.to_graph()
    wanted, got = net.pull_back(net.forward(X), u), g.pull_back(g.forward(X), u)
    assert_same_bits(got.input_gradient, wanted.input_gradient)
    of_layers = [x.reshape(-1) for k in (0, 1) for x in (layer[k] for layer in wanted.gradients)]
    assert_same_bits(got.gradients.flat, np.concatenate(of_layers))


# -------------------------------------------------------------------------------- errors


def test_what_is_given_wrong_is_named():
    net, X = dp.MLP([3, 4, 2], backend="numpy"), sample((5, 3), "float32")
    u, g = sample((5, 2), "float32"), net.to_graph()
    for n in (net, g):
        trace = n.forward(X)
        for wrong, error, message in (
            (u[:4], ValueError, r"upstream must have shape \(5, 2\), got \(4, 2\)"),
            (u.T, ValueError, r"upstream must have shape \(5, 2\), got \(2, 5\)"),
            (u.astype(np.float64), TypeError, "upstream has dtype float64"),
            (u.tolist(), TypeError, "upstream must be an array of NumPy.*, got list"),
        ):
            with pytest.raises(error, match=message):
                n.pull_back(trace, wrong)
        with pytest.raises(TypeError, match="trace must be what forward returned"):
            n.pull_back(X, u)
