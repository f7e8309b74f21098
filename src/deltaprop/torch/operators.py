"""The sweeps as operators of PyTorch, for its compiler and its export.

An operator costs ten times as much to call as an autograd function.

Parameters are W and b of each layer in turn, b of those that are `biased`; `names` are those of
the activations, in lines. What an operator returns lies apart from all else, so nothing is a view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from deltaprop.chain import Chain
from deltaprop.contract import Array
from deltaprop.torch.sweeps import chain_of, cut, flat_of, outputs, whole_of
from deltaprop.torch.tensors import array_of, on_arrays, on_stream, tensor_of

ONCE = "deltaprop.torch has first derivatives only: its backward sweep cannot be differentiated"


def _operator(name: str, schema: str) -> Callable[..., Any]:
    made: Callable[..., Any]
    made = torch.library.custom_op(f"deltaprop::{name}", mutates_args=(), schema=schema)
    return made


def _each(parameters: Sequence[Tensor], biased: Sequence[bool]) -> list[Tensor | None]:
    """W and b, or None for it, of each layer."""
    rest = iter(parameters)
    return [next(rest) if there else None for has_bias in biased for there in (True, has_bias)]


# ------------------------------------------------------------------------------- the sweeps


@_operator(
    "forward",
    "(Tensor X, Tensor[] parameters, bool[] biased, str names, str backend, bool keep) -> Tensor[]",
)
def forward(
    X: Tensor, parameters: list[Tensor], biased: list[bool], names: str, backend: str, keep: bool
) -> list[Tensor]:
    """[a^L], or with `keep` all of `Chain.trace`."""
    chain, given = chain_of(names, backend), _each(parameters, biased)
    if keep:
        return on_arrays(Chain.trace, chain, X, given)
    whole = whole_of(names, backend, X, given)
    if whole is None:
        return on_arrays(outputs, chain, X, given)
    with on_stream(X.device):
        return [tensor_of(whole.outputs(array_of(X), array_of(flat_of(parameters))))]


def _like_forward(
    X: Tensor, parameters: list[Tensor], biased: list[bool], names: str, backend: str, keep: bool
) -> list[Tensor]:
    W = _each(parameters, biased)[::2]
    *hidden, a = (X.new_empty((X.shape[0], x.shape[0])) for x in W)  # type: ignore[union-attr]
    if not keep:
        return [a]
    activations = chain_of(names, backend).activations
    layers = zip([*hidden, a], activations)
    return [a, *hidden, *(torch.empty_like(x) for x, g in layers if g.slope_of == "z")]


forward.register_fake(_like_forward)


@_operator(
    "backward",
    "(Tensor upstream, Tensor X, Tensor[] parameters, Tensor[] seen, bool[] biased, str names, "
    "str backend, bool[] wanted) -> Tensor[]",
)
def backward(
    upstream: Tensor,
    X: Tensor,
    parameters: list[Tensor],
    seen: list[Tensor],
    biased: list[bool],
    names: str,
    backend: str,
    wanted: list[bool],
) -> list[Tensor]:
    """The gradients of X and the parameters that are wanted; `seen` may be empty."""
    chain, given = chain_of(names, backend), _each(parameters, biased)
    of_X, *of_parameters = wanted
    whole = None if seen or of_X or chain.ends_rowwise else whole_of(names, backend, X, given)
    if whole is None:
        seen = seen or on_arrays(Chain.trace, chain, X, given)
        flags = iter(of_parameters)
        each = [of_X, *(x is not None and next(flags) for x in given)]
        found = on_arrays(Chain.pull_back, chain, upstream, X, given, seen, each)
        return [x for x in found if x is not None]
    with on_stream(X.device):
        flat = array_of(flat_of(parameters))
        gradient = whole.pull_back(array_of(upstream), array_of(X), flat)
        parts: list[Array] = cut(gradient, [x.shape for x in parameters])
        return [tensor_of(x.copy()) for x, is_wanted in zip(parts, of_parameters) if is_wanted]


def _like_backward(
    upstream: Tensor,
    X: Tensor,
    parameters: list[Tensor],
    seen: list[Tensor],
    biased: list[bool],
    names: str,
    backend: str,
    wanted: list[bool],
) -> list[Tensor]:
    return [x.new_empty(x.shape) for x, is_wanted in zip([X, *parameters], wanted) if is_wanted]


backward.register_fake(_like_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    X, parameters, ctx.biased, ctx.names, ctx.backend, keep = inputs
    ctx.count = len(parameters)
    ctx.save_for_backward(X, *parameters, *(output if keep else []))


def _pull_back(ctx: Any, upstream: list[Tensor]) -> tuple[Any, ...]:
    of_X, of_parameters, *_ = ctx.needs_input_grad
    wanted = [of_X, *of_parameters]
    X, *others = ctx.saved_tensors
    given = upstream[0], X, others[: ctx.count], others[ctx.count :]
    what = ctx.biased, ctx.names, ctx.backend, wanted
    found = iter(torch.ops.deltaprop.backward(*given, *what))
    dX, *gradients = (next(found) if is_wanted else None for is_wanted in wanted)
    return dX, gradients, None, None, None, None


forward.register_autograd(_pull_back, setup_context=_save)


# --------------------------------------------------------------------------- an activation


@_operator("activate", "(Tensor z, str name, str backend) -> Tensor")
def activate(z: Tensor, name: str, backend: str) -> Tensor:
    (a,) = on_arrays(_value, chain_of(name, backend), z)
    return a


def _value(chain: Chain, z: Array) -> list[Array]:
    (g,) = chain.activations
    return [chain.kernels.apply(g.value, z.reshape(-1)).reshape(z.shape)]


@_operator("slope", "(Tensor upstream, Tensor s, str name, str backend) -> Tensor")
def slope(upstream: Tensor, s: Tensor, name: str, backend: str) -> Tensor:
    (delta,) = on_arrays(_delta, chain_of(name, backend), upstream, s)
    return delta


def _delta(chain: Chain, upstream: Array, s: Array) -> list[Array]:
    (g,) = chain.activations
    row = 1, -1
    delta = chain.kernels.fused_delta(upstream.reshape(row), s.reshape(row), g, None)
    return [delta.reshape(s.shape)]


def _like_activate(z: Tensor, name: str, backend: str) -> Tensor:
    return z.new_empty(z.shape)


activate.register_fake(_like_activate)


def _like_slope(upstream: Tensor, s: Tensor, name: str, backend: str) -> Tensor:
    return s.new_empty(s.shape)


slope.register_fake(_like_slope)


def slope_argument(name: str, backend: str, z: Tensor, a: Tensor) -> Tensor:
    """What g' is taken from."""
    (g,) = chain_of(name, backend).activations
    return z if g.slope_of == "z" else a


def _save_slope(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, ctx.name, ctx.backend = inputs
    ctx.save_for_backward(slope_argument(ctx.name, ctx.backend, z, output))


def _times_slope(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
    return (
        torch.ops.deltaprop.slope(upstream, *ctx.saved_tensors, ctx.name, ctx.backend),
        None,
        None,
    )


activate.register_autograd(_times_slope, setup_context=_save_slope)


# ------------------------------------------------------------------- what holds for all four


def _refuse(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(ONCE)


for _once in (backward, slope):
    _once.register_autograd(_refuse)


def one_by_one(operator: Any) -> Callable[..., Any]:
    """How `torch.vmap` maps an operator: call by call."""

    def mapped(info: Any, in_dims: tuple[Any, ...], *given: Any) -> tuple[Any, Any]:
        def at(i: int, x: Any, dim: Any) -> Any:
            if isinstance(x, (list, tuple)) and isinstance(dim, (list, tuple)):
                return [at(i, *pair) for pair in zip(x, dim)]
            return x if dim is None else x.select(dim, i)

        calls = [
            operator(*(at(i, *pair) for pair in zip(given, in_dims)))
            for i in range(info.batch_size)
        ]
        if isinstance(calls[0], Tensor):
            return torch.stack(calls), 0
        return [torch.stack(x) for x in zip(*calls)], [0] * len(calls[0])

    return mapped


for _mapped in (forward, backward, activate, slope):
    _mapped.register_vmap(one_by_one(_mapped))
