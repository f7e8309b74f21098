"""Which form of a sweep a call takes: what PyTorch is about to do with it decides."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deltaprop.chain import SMALL
from deltaprop.torch import transforms
from deltaprop.torch.sweeps import Given, Layers, OneCall, chain_of, outputs, whole_of
from deltaprop.torch.tensors import on_arrays


def run(names: str, backend: str, X: Tensor, parameters: Given) -> Tensor:
    """a^L (m, n) of X (m, n_in), differentiable; `names` are those of the activations, in lines."""
    if torch.compiler.is_compiling() or not _are_plain([X, *parameters]):
        return _by_operator(names, backend, X, parameters)
    chain, differentiated = chain_of(names, backend), torch.is_grad_enabled()
    whole = whole_of(names, backend, X, parameters)
    if whole and not (differentiated and (X.requires_grad or chain.ends_rowwise)):
        return OneCall.apply(whole, X, *parameters)
    if differentiated:
        return Layers.apply(chain, X, *parameters)
    return on_arrays(outputs, chain, X, parameters)[0]


def _by_operator(names: str, backend: str, X: Tensor, parameters: Given) -> Tensor:
    given = [x for x in parameters if x is not None]
    biased = [b is not None for b in parameters[1::2]]
    large = sum(x.numel() for x in given) > SMALL or names.endswith("softmax")
    keep = torch.is_grad_enabled() and (X.requires_grad or large)
    if _is_transformed():
        return transforms.Forward.apply(X, (biased, names, backend), keep, *given)[0]
    return torch.ops.deltaprop.forward(X, given, biased, names, backend, keep)[0]


def activate(name: str, backend: str, z: Tensor) -> Tensor:
    """g(z), differentiable."""
    if _is_transformed():
        return transforms.Activate.apply(z, name, backend)
    return torch.ops.deltaprop.activate(z, name, backend)


def _are_plain(tensors: Sequence[Tensor | None]) -> bool:
    """Whether each has a memory of its own, and nothing is transformed."""
    kinds = set(map(type, tensors))
    return kinds <= {Tensor, torch.nn.Parameter, type(None)} and not _is_transformed()


def _is_transformed() -> bool:
    """Whether this is within a function that torch.func was given; its compiler sees to itself."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
