"""deltaprop.torch where PyTorch compiles, exports, transforms, and differentiates twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap

import deltaprop.torch as dt
from conftest import sample

ops = torch.ops.deltaprop


def net(output: Any = None) -> dt.MLP:
    torch.manual_seed(0)
    modules = [nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4, bias=False), nn.SiLU(), nn.Linear(4, 2)]
    return dt.MLP(*modules, *([output] if output else []))


def inputs(*shape: int, dtype: str = "float32") -> torch.Tensor:
    return torch.from_numpy(sample(shape, dtype, 1).copy())


OUTPUTS = [None, nn.Softmax(-1), dt.Activation("sine")]


@pytest.fixture
def compiled():
    torch.compiler.reset()
    yield lambda f: torch.compile(f, fullgraph=True, backend="aot_eager")
    torch.compiler.reset()


def everything(f: Any, module: nn.Module, X: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, and gradients of all that has one."""
    wanted = [*module.parameters(), *([X] if X.requires_grad else [])]
    out = f(X)
    return [out, *torch.autograd.grad(out.square().sum(), wanted)]


@pytest.mark.parametrize(("output", "of_X"), [*zip(OUTPUTS, [True, False, False])])
def test_compiled_it_has_the_same_bits(compiled: Any, output: Any, of_X: bool) -> None:
    """In one graph, for batches of any size."""
    module = net(output)
    f = compiled(module)
    for m in (6, 9, 1):
        X = inputs(m, 3).requires_grad_(of_X)
        pairs = zip(everything(f, module, X), everything(module, module, X), strict=True)
        assert all(torch.equal(x, y) for x, y in pairs)
        with torch.no_grad():
            assert torch.equal(f(X), module(X))


def test_a_batch_of_another_size_compiles_nothing_more(compiled: Any) -> None:
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    f = torch.compile(net(), fullgraph=True, dynamic=True, backend=counter)
    for m in (6, 9, 30):
        f(inputs(m, 3))
    assert counter.frame_count == 1


def test_it_is_exported() -> None:
    module, X = net(), inputs(6, 3)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(module, (X,), dynamic_shapes={"input": {0: batch}})
    for m in (6, 11):
        assert torch.equal(program.module()(inputs(m, 3)), module(inputs(m, 3)))


def parameters(module: nn.Module) -> tuple[list[torch.Tensor], list[bool]]:
    layers = [layer for layer in module if isinstance(layer, nn.Linear)]
    given = [x for layer in layers for x in (layer.weight, layer.bias) if x is not None]
    return given, [layer.bias is not None for layer in layers]


@pytest.mark.parametrize("keep", [False, True])
def test_the_operators_are_what_they_say(keep: bool) -> None:
    """Schemas, shapes and derivatives, as PyTorch's own check finds them."""
    given, biased = parameters(net().double())
    X = inputs(6, 3, dtype="float64").requires_grad_(keep)
    what = biased, "tanh\nsilu\nsoftmax" if keep else "tanh\nsilu\nidentity", "numba"
    torch.library.opcheck(ops.forward.default, (X, given, *what, keep))
    X, given = X.detach(), [x.detach() for x in given]
    seen = list(ops.forward(X, given, *what, True)) if keep else []
    wanted = [keep, True, False, *[True] * (len(given) - 2)]
    upstream = torch.ones(6, 2, dtype=torch.float64)
    torch.library.opcheck(ops.backward.default, (upstream, X, given, seen, *what, wanted))
    found = ops.backward(upstream, X, given, seen, *what, wanted)
    assert len({x.untyped_storage().data_ptr() for x in found}) == sum(wanted)  # none is a view
    z = X.requires_grad_()
    for name in ("sine", "tanh"):
        torch.library.opcheck(ops.activate.default, (z, name, "numba"))
        torch.library.opcheck(ops.slope.default, (z.detach(), z.detach(), name, "numba"))


@pytest.mark.parametrize("output", OUTPUTS)
def test_torch_func(output: Any) -> None:
    """grad, gradients sample by sample, jacrev, and weights of many nets."""
    module, X = net(output), inputs(6, 3)
    named = {name: p.detach() for name, p in module.named_parameters()}

    def E(named: Any, X: torch.Tensor) -> torch.Tensor:
        return functional_call(module, named, (X,)).square().sum()

    of_batch = grad(E)(named, X)
    _, *wanted = everything(module, module, X)
    for got, g in zip(of_batch.values(), wanted, strict=True):
        assert torch.equal(got, g)
    of_each = vmap(grad(E), in_dims=(None, 0))(named, X)
    for name, g in of_batch.items():
        assert of_each[name].shape == (6, *g.shape)
        torch.testing.assert_close(of_each[name].sum(0), g, rtol=1e-5, atol=1e-5)
    for x in (X[0], X):
        jacobian = torch.autograd.functional.jacobian(module, x)
        torch.testing.assert_close(jacrev(module)(x), jacobian)
    many = {name: torch.stack([p, 2 * p]) for name, p in named.items()}
    both = vmap(lambda one: functional_call(module, one, (X,)))(many)
    assert torch.equal(both[0], module(X))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by PyTorch's own jvp
@pytest.mark.parametrize("output", [None, dt.Activation("sine")])
def test_a_second_derivative_is_refused(output: Any) -> None:
    module, X = net(output), inputs(4, 3).requires_grad_()
    (g,) = torch.autograd.grad(module(X).square().sum(), X, create_graph=True)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"twice|first derivatives only"):
        g.sum().backward()
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        grad(lambda x: grad(lambda y: module(y).square().sum())(x).sum())(X.detach())
    for transform in (hessian(module), lambda x: jvp(module, (x,), (x,))):
        with pytest.raises(NotImplementedError, match="no jvp"):
            transform(X.detach())
