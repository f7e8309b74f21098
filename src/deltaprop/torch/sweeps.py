"""The two sweeps as autograd functions, for where PyTorch runs eagerly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from deltaprop.activations import activation_named
from deltaprop.chain import Chain, Whole
from deltaprop.contract import Array
from deltaprop.torch.tensors import DTYPES, array_of, on_arrays, on_stream, tensor_of

Given = Sequence[Tensor | None]
"""W and b, or None for it, of each layer in turn."""


@lru_cache(64)
def chain_of(names: str, backend: str) -> Chain:
    """The chain of these activations, named in lines."""
    return Chain(tuple(map(activation_named, names.split("\n"))), backend)


def whole_of(names: str, backend: str, X: Tensor, parameters: Given) -> Whole | None:
    """Its whole sweeps for tensors of these shapes, if there are any."""
    sizes = X.shape[1], *(W.shape[0] for W in parameters[::2])  # type: ignore[union-attr]
    biases = {b is None for b in parameters[1::2]}
    return None if len(biases) > 1 else _whole(names, backend, sizes, False in biases, X.dtype)


@lru_cache(64)
def _whole(
    names: str, backend: str, sizes: tuple[int, ...], bias: bool, dtype: torch.dtype
) -> Whole | None:
    return chain_of(names, backend).whole(sizes, bias, DTYPES[dtype])


def outputs(chain: Chain, X: Array, parameters: Sequence[Array | None]) -> list[Array]:
    """[a^L]."""
    return [chain.outputs(X, parameters)]


class Reverse(torch.autograd.Function):  # type: ignore[misc]
    """One that has no forward mode."""

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> None:
        raise NotImplementedError("deltaprop.torch differentiates in reverse only: no jvp")


class Layers(Reverse):
    """Layer by layer; the way back needs what the way forward saw."""

    @staticmethod
    def forward(ctx: Any, chain: Chain, X: Tensor, *parameters: Tensor | None) -> Tensor:
        trace = on_arrays(Chain.trace, chain, X, parameters)
        ctx.chain, ctx.count = chain, len(parameters)
        ctx.save_for_backward(X, *parameters, *trace)
        return trace[0]

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        _, *wanted = ctx.needs_input_grad
        X, *others = ctx.saved_tensors
        given = upstream, X, others[: ctx.count], others[ctx.count :], wanted
        return None, *on_arrays(Chain.pull_back, ctx.chain, *given)


class OneCall(Reverse):
    """In one call each; the way back begins with X again."""

    @staticmethod
    def forward(ctx: Any, whole: Whole, X: Tensor, *parameters: Tensor | None) -> Tensor:
        flat = flat_of(parameters)
        ctx.whole, ctx.shapes = whole, [None if x is None else x.shape for x in parameters]
        ctx.save_for_backward(X, flat)
        with on_stream(X.device):
            return tensor_of(whole.outputs(array_of(X), array_of(flat)))

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        _, _, *wanted = ctx.needs_input_grad
        X, flat = ctx.saved_tensors
        with on_stream(X.device):
            gradient = ctx.whole.pull_back(array_of(upstream), array_of(X), array_of(flat))
            return (
                None,
                None,
                *(
                    tensor_of(x) if is_wanted else None
                    for x, is_wanted in zip(cut(gradient, ctx.shapes), wanted)
                ),
            )


def flat_of(parameters: Given) -> Tensor:
    """All of them in one new tensor."""
    with torch.no_grad():
        return torch.cat([x.reshape(-1) for x in parameters if x is not None])


def cut(flat: Array, shapes: Sequence[Sequence[int] | None]) -> list[Array | None]:
    """Views of these shapes, one after the other."""
    found: list[Array | None] = []
    start = 0
    for shape in shapes:
        if shape is None:
            found.append(None)
            continue
        size = prod(shape)
        found.append(flat[start : start + size].reshape(shape))
        start += size
    return found
