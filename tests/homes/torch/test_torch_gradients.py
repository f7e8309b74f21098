"""Outputs and gradients in PyTorch: its own, differences, and those of deltaprop's nets."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import deltaprop as dp
import deltaprop.torch as dt
from conftest import INFO, assert_same_bits, sample
from deltaprop.bounds import gradient_bounds
from deltaprop.equations import Batch
from deltaprop.torch.units import MODULES
from tasks import UNITWISE, dtype_in_turn
from values import unit_roundoff

CPU = [name for name in ("reference", "numba", "numpy", "cuda-host") if INFO[name].available]
SIZES, M = [3, 6, 5, 2], 70
CPU_OF = {"float32": torch.float32, "float64": torch.float64}


def task(hidden="tanh", output="identity", dtype="float64", backend="numba", m=M, sizes=SIZES):
    """A net, the same as a module of its own numbers, X, and targets."""
    net = dp.MLP(sizes, hidden, output, dtype=dtype, backend=backend, seed=3)
    for _, b, _ in net.layers:
        b[...] = sample(b.shape, dtype, 4) / 2
    module = dt.as_module(net)
    X, Y = sample((m, sizes[0]), dtype, 1), sample((m, sizes[-1]), dtype, 2)
    return net, module, torch.from_numpy(X.copy()), torch.from_numpy(Y.copy())


def gradients(module, X, Y):
    """dE/dw of half_sse, as one array, by autograd."""
    E = 0.5 * (module(X) - Y).square().sum()
    return np.concatenate(
        [g.numpy().reshape(-1) for g in torch.autograd.grad(E, list(module.parameters()))]
    )


@pytest.mark.parametrize("name", [*UNITWISE, "softmax"])
def test_gradients_are_those_of_the_plain_sequential(name):
    """PyTorch's own modules with the same numbers: each side within the bound of its rounding."""
    dtype = dtype_in_turn(UNITWISE.index(name) if name in UNITWISE else 0)
    hidden = "tanh" if name == "softmax" else name
    net, module, X, Y = task(hidden, name, dtype)
    plain = nn.Sequential(*copy.deepcopy(list(module)))
    assert type(plain) is nn.Sequential
    loss, u = dp.LOSSES["half_sse"], unit_roundoff(dtype)
    layers = [
        layer._replace(W=layer.W.astype(np.float64), b=layer.b.astype(np.float64))
        for layer in net.layers
    ]
    ours, theirs = gradients(module, X, Y), gradients(plain, X, Y)
    if name == "softmax":
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=400 * u * np.abs(theirs).max())
        return
    batch = Batch(Y.double().numpy(), None, M, SIZES[-1])
    bounds = gradient_bounds(layers, X.double().numpy(), batch, loss, u)
    bound = np.concatenate([x.reshape(-1) for layer in bounds for x in layer])
    assert np.all(np.abs(ours.astype(np.float64) - theirs) <= 2 * bound)


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("of_X", [False, True])
def test_the_bits_are_those_of_the_net(backend, of_X):
    """Of value_and_grad, where autograd finds its dE/da; of pull_back for any dE/da."""
    for dtype in CPU_OF:
        for output in ("gelu", "identity"):
            net, module, X, Y = task("elu", output, dtype, backend)
            X.requires_grad_(of_X)
            assert_same_bits(module(X).detach().numpy(), net.predict(X.detach().numpy()))
            # (a - y) / m is rounded as (1 / 2m) * 2 (a - y) is.
            E = (module(X) - Y).square().sum() * (0.5 / M)
            E.backward()
            _, wanted = net.value_and_grad(X.detach().numpy(), Y.numpy(), "half_mse")
            got = [p.grad.numpy().reshape(-1) for p in module.parameters()]
            assert_same_bits(np.concatenate(got), wanted.flat)
            u = torch.from_numpy(sample((M, SIZES[-1]), dtype, 9).copy())
            module.zero_grad()
            X.grad = None
            module(X).backward(u)
            back = net.pull_back(net.forward(X.detach().numpy()), u.numpy())
            got = [p.grad.numpy().reshape(-1) for p in module.parameters()]
            assert_same_bits(np.concatenate(got), back.gradients.flat)
            if of_X:
                assert_same_bits(X.grad.numpy(), back.input_gradient)


@pytest.mark.parametrize("output", ["softplus", "softmax", "sine"])
def test_gradcheck(output):
    """Central differences, of the inputs and of every parameter."""
    _, module, X, _ = task("mish", output, m=5)
    X.requires_grad_()
    names, values = zip(*module.named_parameters())

    def f(X, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters)), (X,))

    assert torch.autograd.gradcheck(f, (X, *values))
    assert torch.autograd.gradcheck(lambda X: module(X), (X,))
    assert torch.autograd.gradcheck(lambda *values: f(X.detach(), *values), values)


@pytest.mark.parametrize("name", [*UNITWISE])
def test_an_activation_by_itself(name):
    z = torch.linspace(-3.1, 3.2, 12, dtype=torch.float64).reshape(3, 2, 2).requires_grad_()
    ours = dt.Activation(name)
    assert torch.autograd.gradcheck(ours, (z,))
    if name in MODULES:
        torch.testing.assert_close(ours(z), MODULES[name]()(z), rtol=1e-14, atol=1e-14)


def test_a_net_too_large_for_one_call():
    """Layer by layer, with the bits of the net."""
    net, module, X, Y = task("relu", dtype="float32", sizes=[260, 270, 3], m=65)
    (module(X) - Y).square().sum().mul(0.5 / 65).backward()
    _, wanted = net.value_and_grad(X.numpy(), Y.numpy(), "half_mse")
    got = np.concatenate([p.grad.numpy().reshape(-1) for p in module.parameters()])
    assert_same_bits(got, wanted.flat)


@pytest.mark.parametrize("frozen", [(0, 1), (2, 3, 4, 5), (0, 3), (1, 3, 5)])
@pytest.mark.parametrize("of_X", [False, True])
def test_parameters_that_are_frozen(frozen, of_X):
    _, module, X, Y = task("gelu")
    X.requires_grad_(of_X)
    wanted = torch.autograd.grad(
        (module(X) - Y).square().sum(), [*module.parameters(), *([X] if of_X else [])]
    )
    parameters = list(module.parameters())
    for i in frozen:
        parameters[i].requires_grad_(False)
    (module(X) - Y).square().sum().backward()
    for i, (p, g) in enumerate(zip(parameters, wanted)):
        assert (p.grad is None) if i in frozen else torch.equal(p.grad, g)
    assert not of_X or torch.equal(X.grad, wanted[-1])


def test_layers_with_and_without_a_bias():
    torch.manual_seed(1)
    layers = nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2)
    net, plain = dt.MLP(*layers).double(), nn.Sequential(*copy.deepcopy(layers)).double()
    X, Y = task()[2:]
    np.testing.assert_allclose(gradients(net, X, Y), gradients(plain, X, Y), rtol=1e-12)


def test_tensors_of_any_layout_and_shape():
    _, module, X, _ = task()
    wanted = module(X)
    across = X.t().contiguous().t()
    assert not across.is_contiguous()
    assert torch.equal(module(across), wanted)
    assert torch.equal(module(X.reshape(7, 2, 5, 3)), wanted.reshape(7, 2, 5, 2))
    assert torch.equal(module(X[3]), wanted[3])
    wide = torch.zeros(M, 6, dtype=X.dtype)
    wide[:, ::2] = X
    leaf = wide.requires_grad_()
    module(leaf[:, ::2]).sum().backward()
    assert leaf.grad[:, ::2].abs().sum() > 0
    assert not leaf.grad[:, 1::2].any()
    upstream = torch.ones(2, M, dtype=X.dtype).t()
    gs = [
        torch.autograd.grad(module(X), module[0].weight, u)[0]
        for u in (upstream, None or torch.ones(M, 2, dtype=X.dtype))
    ]
    assert torch.equal(*gs)


def test_a_batch_of_no_samples():
    _, module, X, _ = task()
    module(X[:0]).sum().backward()
    assert module(X[:0]).shape == (0, 2)
    assert all(not p.grad.any() for p in module.parameters())


def test_what_is_changed_in_place_is_noticed():
    """The output, and the weights of layers whose own numbers the way back takes."""
    _, module, X, _ = task("tanh", "tanh")
    X.requires_grad_()
    out = module(X)
    out.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
    out = module(X)
    with torch.no_grad():
        module[0].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
