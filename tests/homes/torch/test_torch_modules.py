"""deltaprop.torch.MLP as a module of PyTorch: state, copies, optimizers, what it refuses."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import deltaprop as dp
import deltaprop.torch as dt
from conftest import assert_same_bits, sample
from deltaprop.subnormals import SubnormalsFlushedError


def layers() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.GELU("tanh"), nn.Linear(4, 2)]


def batch(m: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    X, Y = sample((m, 3), "float32", 1), sample((m, 2), "float32", 2)
    return torch.from_numpy(X.copy()), torch.from_numpy(Y.copy())


def test_its_state_is_that_of_the_plain_sequential() -> None:
    net, plain = dt.MLP(*layers()), nn.Sequential(*layers())
    assert list(net.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        for p in plain.parameters():
            p.mul_(1.5)
    net.load_state_dict(plain.state_dict())
    torch.testing.assert_close(net(batch()[0]), plain(batch()[0]))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.5)
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(batch()[0]), plain(batch()[0]))


@pytest.mark.parametrize(
    "make", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.LBFGS]
)
def test_any_optimizer_goes_the_way_it_goes_with_the_plain_sequential(make: Any) -> None:
    """In float64 and for few steps: roundings stay roundings."""
    net, plain = dt.MLP(*layers()).double(), nn.Sequential(*layers()).double()
    X, Y = (x.double() for x in batch())
    losses = []
    for module in (net, plain):
        optimizer = make(module.parameters(), lr=0.01)

        def closure(module=module, optimizer=optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(module(X), Y)
            loss.backward()
            return loss

        losses.append([float(optimizer.step(closure).detach()) for _ in range(5)])
    np.testing.assert_allclose(*losses, rtol=1e-9)
    assert losses[0][-1] < losses[0][0]


def saved(net: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), saved]
)
def test_copies_are_alike_and_apart(copied: Any) -> None:
    net, (X, _) = dt.MLP(*layers(), backend="numpy"), batch()
    other, before = copied(net), net(X)
    assert type(other) is dt.MLP
    assert other.backend == "numpy"
    assert torch.equal(other(X), before)
    with torch.no_grad():
        other[0].weight.add_(1)
    assert not torch.equal(other(X), before)
    assert torch.equal(net(X), before)


# ----------------------------------------------------------------- from a net of ours and back


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*dp.ACTIVATIONS])
def test_from_a_net_and_back(name: str, dtype: str) -> None:
    hidden = "sine" if name == "softmax" else name
    net = dp.MLP([3, 5, 2], hidden, name, dtype=dtype, seed=2, backend="numba")
    module = dt.as_module(net)
    back = dt.net_of(module)
    assert back.activations == net.activations
    assert (back.sizes, back.bias, back.dtype, back.backend) == ((3, 5, 2), True, dtype, "numba")
    assert_same_bits(back.parameters, net.parameters)
    X = sample((4, 3), dtype, 1)
    assert_same_bits(module(torch.from_numpy(X.copy())).detach().numpy(), net.predict(X))


def test_a_module_shares_the_numbers_of_its_net() -> None:
    net, (X, Y) = dp.MLP([3, 5, 2], "tanh", seed=2, backend="cpu"), batch()
    module = dt.as_module(net)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    before = net.predict(X.numpy())
    nn.functional.mse_loss(module(X), Y).backward()
    optimizer.step()
    after = net.predict(X.numpy())
    assert np.any(after != before)
    assert_same_bits(module(X).detach().numpy(), after)
    net.train_step(X.numpy(), Y.numpy())
    assert_same_bits(module(X).detach().numpy(), net.predict(X.numpy()))
    apart = dt.net_of(module)
    apart.parameters[...] = 0
    assert module(X).abs().sum() > 0


def test_a_sequential_is_taken_as_it_is() -> None:
    plain = nn.Sequential(OrderedDict(first=nn.Linear(3, 4), act=nn.ReLU(), last=nn.Linear(4, 2)))
    net = dt.as_module(plain, backend="reference")
    assert [name for name, _ in net.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert net.first is plain.first
    assert net.backend == "reference"
    torch.testing.assert_close(net(batch()[0]), plain(batch()[0]))


def test_one_activation_may_stand_twice() -> None:
    act = nn.Sigmoid()
    modules = [nn.Linear(3, 3), act, nn.Linear(3, 2), act]
    torch.testing.assert_close(dt.MLP(*modules)(batch()[0]), nn.Sequential(*modules)(batch()[0]))


def test_parts_and_changes() -> None:
    net, (X, _) = dt.MLP(*layers(), backend="numpy"), batch()
    part = net[:3]
    assert (type(part), part.backend) == (dt.MLP, "numpy")
    torch.testing.assert_close(part(X), nn.Sequential(*list(net)[:3])(X))
    net[1] = nn.ReLU()
    torch.testing.assert_close(net(X), nn.Sequential(*net)(X))
    net.append(nn.Dropout())
    with pytest.raises(TypeError, match="'5', Dropout"):
        net(X)


def test_where_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def backends() -> set[str]:
        net = dp.MLP([2, 1], "sine", "sine")
        return {dt.MLP(*layers()).backend, dt.Activation("sine").backend, net.backend}

    assert backends() == {"numba"}
    with dp.use_backend("numpy"):
        assert backends() == {"numpy"}
    monkeypatch.setenv("DELTAPROP_BACKEND", "reference")
    assert backends() == {"reference"}
    module = dt.as_module(dp.MLP([2, 1], output="sine", backend="numpy"))
    assert {module.backend, module[1].backend} == {"numpy"}
    with pytest.raises(ValueError, match="'nunba'"):
        dt.MLP(*layers(), backend="nunba")
    with pytest.raises(ValueError, match="move them to a GPU"):
        dt.MLP(*layers(), backend="cuda")


# ------------------------------------------------------------------ parametrizations, hooks


def test_a_parametrization_of_a_weight() -> None:
    net = dt.MLP(*layers())
    parametrizations.weight_norm(net[0])
    plain, (X, _) = nn.Sequential(*copy.deepcopy(list(net))), batch()
    for module in (net, plain):
        module(X).square().sum().backward()
    for p, q in zip(net.parameters(), plain.parameters()):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize(
    "hook", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
def test_a_hook_that_would_not_be_called_is_refused(hook: str) -> None:
    net, (X, _) = dt.MLP(*layers()), batch()
    handle = getattr(net[2], hook)(lambda *_: None)
    with pytest.raises(RuntimeError, match=r"module '2', Linear.* has a hook"):
        net(X)
    handle.remove()
    seen = []
    getattr(net, hook)(lambda *_: seen.append(1))
    net(X.requires_grad_()).sum().backward()
    assert seen


def test_hooks_of_parameters_are_called() -> None:
    net, seen = dt.MLP(*layers()), []
    net[0].weight.register_hook(lambda g: seen.append(tuple(g.shape)))
    net(batch()[0]).sum().backward()
    assert seen == [(5, 3)]


# --------------------------------------------------------------------------------- errors


def linear(n_in: int = 3, n: int = 2) -> nn.Module:
    return nn.Linear(n_in, n)


@pytest.mark.parametrize(
    ("modules", "error", "message"),
    [
        ([], ValueError, "no nn.Linear"),
        ([nn.Tanh(), linear()], ValueError, "'0', Tanh.* begin with an nn.Linear"),
        ([linear(), nn.Tanh(), nn.ReLU()], ValueError, "'2', ReLU.* follows another activation"),
        ([linear(), nn.Dropout()], TypeError, "'1', Dropout.* is neither"),
        ([linear(), nn.Softmax(-1), linear(2)], ValueError, "before another layer"),
        ([linear(), nn.Softmax(dim=0)], ValueError, "'1', Softmax.* other constants"),
        ([linear(), nn.LeakyReLU(0.2)], ValueError, "'1', LeakyReLU.* deltaprop.activation"),
        ([linear(), nn.ELU(0.5)], ValueError, "other constants"),
        ([linear(), nn.Softplus(2)], ValueError, "other constants"),
        ([linear(), nn.Softplus(1, 5)], ValueError, "other constants"),
    ],
)
def test_what_is_no_net(modules: list[nn.Module], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        dt.MLP(*modules)
    with pytest.raises(error, match=message):
        dt.net_of(nn.Sequential(*modules))


def test_what_is_no_input() -> None:
    net, (X, _) = dt.MLP(*layers()), batch()
    for bad, error, message in (
        (X.double(), TypeError, "layer 0's weight is torch.float32, but input is torch.float64"),
        (X.half(), TypeError, "input is torch.float16: deltaprop computes in float32 and float64"),
        (X.bfloat16(), TypeError, "input is torch.bfloat16"),
        (X.long(), TypeError, "input is torch.int64"),
        (X.to("meta"), ValueError, "input is on meta"),
        (X[:, :2], ValueError, r"input must have shape \(..., 3\), got \(9, 2\)"),
        (torch.tensor(1.0), ValueError, r"got \(\)"),
    ):
        with pytest.raises(error, match=message):
            net(bad)
    net[2].double()
    with pytest.raises(TypeError, match=r"layer 1's weight is .*float64, but input"):
        net(X)
    with pytest.raises(TypeError, match=r"bfloat16"):
        dt.MLP(*layers()).bfloat16()(X)
    with pytest.raises(ValueError, match="layer 1 takes 7 inputs, but layer 0 has 5 units"):
        dt.MLP(nn.Linear(3, 5), nn.Linear(7, 1))(X)


def test_what_is_no_net_of_ours() -> None:
    with pytest.raises(TypeError, match="as_module takes one"):
        dt.as_module(dp.MLP([2, 1], ensemble=2))
    with pytest.raises(TypeError, match="as_module takes"):
        dt.as_module(dp.MLP([2, 1]).to_graph())
    with pytest.raises(ValueError, match="only some of the module's layers have a bias"):
        dt.net_of(nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1)))
    with pytest.raises(ValueError, match="softmax"):
        dt.Activation("softmax")
    with pytest.raises(ValueError, match="'sinn'"):
        dt.Activation("sinn")


# --------------------------------------------------------------------- beside PyTorch's own


def test_autocast_leaves_it_in_its_dtype() -> None:
    net, (X, _) = dt.MLP(*layers()), batch()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(X), net(X.float()))
        low = nn.Linear(3, 3)(X)
        assert low.dtype == torch.bfloat16
        assert net(low).dtype == torch.float32


def test_an_activation_of_ones_own() -> None:
    dp.activation("bent", "(sqrt(z*z + 1) - 1) / 2 + z")
    net = dt.MLP(nn.Linear(3, 4), dt.Activation("bent"), nn.Linear(4, 2))
    X, _ = batch()
    z = net[0](X)
    torch.testing.assert_close(net(X), net[2](((z * z + 1).sqrt() - 1) / 2 + z))
    assert dt.net_of(net).activations[0].name == "bent"


def test_threads_that_compute_at_once_have_the_same_bits() -> None:
    """Helpers of deltaprop's and of PyTorch's, several callers."""
    torch.manual_seed(0)
    net = dt.MLP(nn.Linear(64, 300), nn.Tanh(), nn.Linear(300, 10))
    X = torch.randn(512, 64)

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(net(X @ torch.eye(64)).square().sum(), net.parameters()))

    wanted, found = gradients(), []
    callers = [
        threading.Thread(target=lambda: found.extend(gradients() for _ in range(5)))
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 15
    assert all(torch.equal(x, y) for got in found for x, y in zip(got, wanted))


def test_pytorch_that_flushes_subnormals_is_noticed() -> None:
    net, (X, _) = dt.MLP(*layers()), batch()
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormals")
    try:
        with pytest.raises(SubnormalsFlushedError):
            net(X)
    finally:
        torch.set_flush_denormal(False)
    net(X)
