"""The operators as `torch.func` wants them: autograd functions that can be mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deltaprop.torch.operators import ONCE, one_by_one, slope_argument
from deltaprop.torch.sweeps import Reverse

ops = torch.ops.deltaprop


class Forward(Reverse):
    """(X, (biased, names, backend), keep, *parameters) -> what `deltaprop::forward` returns."""

    @staticmethod
    def forward(X: Tensor, what: Any, keep: bool, *parameters: Tensor) -> tuple[Tensor, ...]:
        return tuple(ops.forward(X, list(parameters), *what, keep))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        X, ctx.what, keep, *parameters = inputs
        ctx.count = len(parameters)
        ctx.save_for_backward(X, *parameters, *(output if keep else ()))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Any, ...]:
        of_X, _, _, *of_parameters = ctx.needs_input_grad
        wanted = [of_X, *of_parameters]
        found = iter(Backward.apply(upstream, ctx.what, wanted, ctx.count, *ctx.saved_tensors))
        dX, *gradients = (next(found) if is_wanted else None for is_wanted in wanted)
        return dX, None, None, *gradients


class Backward(Reverse):
    """(upstream, (biased, names, backend), wanted, count, X, *parameters, *seen) -> gradients."""

    @staticmethod
    def forward(
        upstream: Tensor, what: Any, wanted: list[bool], count: int, X: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        parameters, seen = list(others[:count]), list(others[count:])
        return tuple(ops.backward(upstream, X, parameters, seen, *what, wanted))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise NotImplementedError(ONCE)


class Activate(Reverse):
    """(z, name, backend) -> g(z)."""

    @staticmethod
    def forward(z: Tensor, name: str, backend: str) -> Tensor:
        return ops.activate(z, name, backend)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, *ctx.what = inputs
        name, backend = ctx.what
        ctx.save_for_backward(slope_argument(name, backend, z, output))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        return Slope.apply(upstream, *ctx.saved_tensors, *ctx.what), None, None


class Slope(Reverse):
    """(upstream, s, name, backend) -> upstream * g'."""

    @staticmethod
    def forward(upstream: Tensor, s: Tensor, name: str, backend: str) -> Tensor:
        return ops.slope(upstream, s, name, backend)

    setup_context = Backward.setup_context
    backward = Backward.backward


def _mapped(function: Any) -> Callable[..., Any]:
    mapped = one_by_one(function.apply)

    def vmap(*given: Any) -> tuple[Any, Any]:
        found, dims = mapped(*given)
        return (found, dims) if isinstance(found, Tensor) else (tuple(found), tuple(dims))

    return vmap


for _function in (Forward, Backward, Activate, Slope):
    _function.vmap = staticmethod(_mapped(_function))
