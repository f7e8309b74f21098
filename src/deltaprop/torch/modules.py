"""The net as a module, and the ways from a net of deltaprop's and back."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deltaprop.devices.memory import NumpyArrays
from deltaprop.ensemble import Ensemble
from deltaprop.mlp import MLP as Net
from deltaprop.torch.calls import run
from deltaprop.torch.tensors import DTYPES, backend_for, check_tensors, cpu_backend, tensor_of
from deltaprop.torch.units import MODULES, NAMES, Activation

HALVES = (torch.float16, torch.bfloat16)


class MLP(nn.Sequential):  # type: ignore[misc]
    """An `nn.Sequential` of `nn.Linear` and activations, computed by deltaprop's kernels.

        net = MLP(nn.Linear(784, 256), nn.Tanh(), nn.Linear(256, 10))

    All else is PyTorch's: its parameters and `state_dict` are those of the `nn.Sequential` of these
    modules, and parametrizations of a layer's weight work. Only the children's own `forward` is
    not called; where one has a hook, which would not be either, `forward` raises RuntimeError.

    Parameters
    ----------
    modules
        Linear layers, each followed by at most one activation: a module of `torch.nn` with the
        constants that deltaprop's has, or an `Activation`; `nn.Softmax(dim=-1)` last. Or all of
        them in an OrderedDict, by name. Raises TypeError for a module that is neither, ValueError
        for constants or an order that deltaprop has not.
    backend
        Of tensors on the CPU: a name from `deltaprop.backends()` that computes there. Without
        one, `use_backend` or $DELTAPROP_BACKEND, then "cpu". On a CUDA GPU it is that GPU's.
    """

    def __init__(self, *modules: Any, backend: str | None = None) -> None:
        super().__init__(*modules)
        self.backend = cpu_backend(backend)
        _layers_of(self)

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        if isinstance(part, MLP):
            part.backend = self.backend
        return part

    def forward(self, input: Tensor) -> Tensor:
        """The outputs (..., n_out) of inputs (..., n_in), of the layers' dtype and device.

        Under autocast inputs of 16 bits are converted to it. Raises TypeError for another dtype,
        ValueError for another device or number of inputs.
        """
        layers, names = _layers_of(self)
        parameters = [x for layer in layers for x in (layer.weight, layer.bias)]
        W = parameters[0]
        if input.dtype in HALVES and torch.is_autocast_enabled(input.device.type):
            input = input.to(W.dtype)
        check_tensors([input, *parameters], _named)
        _check_sizes(input, parameters[::2])
        if input.numel() == 0:
            return super().forward(input)
        what = "\n".join(names), backend_for(W.device, self.backend)
        if input.ndim == 2:
            return run(*what, input, parameters)
        a = run(*what, input.reshape(-1, W.shape[1]), parameters)
        return a.reshape(*input.shape[:-1], a.shape[1])


def as_module(net: Net | nn.Sequential, backend: str | None = None) -> MLP:
    """The same net as a module.

    A net of deltaprop's shares its numbers with the module: each sees the other's steps, until
    one of them is moved, converted or copied. So do the modules of an `nn.Sequential`, which are
    taken as they are. Raises TypeError for anything else, and for an ensemble.
    """
    if isinstance(net, nn.Sequential):
        return MLP(OrderedDict(net._modules), backend=backend)
    if not isinstance(net, Net) or isinstance(net, Ensemble):
        raise TypeError(f"as_module takes one deltaprop.MLP or an nn.Sequential, got {net!r}")
    if backend is None and isinstance(net.kernels.arrays, NumpyArrays):
        backend = net.backend
    modules: list[nn.Module] = []
    with net.kernels.arrays.here:
        for W, b, g in net.layers:
            n, n_in = W.shape
            linear = nn.Linear(n_in, n, bias=b is not None, device="meta")
            linear.weight = nn.Parameter(tensor_of(W))
            if b is not None:
                linear.bias = nn.Parameter(tensor_of(b))
            modules.append(linear)
            if g.name != "identity":
                modules.append(MODULES.get(g.name, lambda g=g: Activation(g.name, backend))())
    return MLP(*modules, backend=backend)


def net_of(module: nn.Sequential, backend: str | None = None) -> Net:
    """A `deltaprop.MLP` with a copy of the module's numbers.

    It is on the module's backend, or that of its GPU, unless another is named. Raises as `MLP`
    does for what is no net of deltaprop's, and ValueError where only some layers have a bias.
    """
    layers, names = _layers_of(module)
    parameters = [x for layer in layers for x in (layer.weight, layer.bias)]
    check_tensors([layers[0].weight, *parameters], _named)
    W = layers[0].weight
    biases = {layer.bias is not None for layer in layers}
    if len(biases) > 1:
        raise ValueError("only some of the module's layers have a bias; in a net all have, or none")
    sizes = [W.shape[1], *(layer.weight.shape[0] for layer in layers)]
    _check_sizes(W, [layer.weight for layer in layers])
    if backend is None:
        backend = backend_for(W.device, getattr(module, "backend", cpu_backend(None)))
    net = Net(
        sizes, names[:-1], names[-1], bias=True in biases, dtype=DTYPES[W.dtype], backend=backend
    )
    flat = [x.detach().cpu().reshape(-1).numpy() for x in parameters if x is not None]
    net.parameters[...] = net.kernels.arrays.asarray(np.concatenate(flat))
    return net


def _layers_of(net: nn.Sequential) -> tuple[list[nn.Linear], list[str]]:
    """The linear layers, and the name of each one's activation."""
    layers: list[nn.Linear] = []
    names: list[str] = []
    for key, module in net._modules.items():
        _refuse_hooks(key, module)
        if isinstance(module, nn.Linear):
            layers.append(module)
            names.append("identity")
            continue
        name = _name_of(key, module)
        if not layers:
            raise ValueError(f"module {key!r}, {module}, is the first: begin with an nn.Linear")
        if name != "identity" and names[-1] != "identity":
            raise ValueError(
                f"module {key!r}, {module}, follows another activation: a layer has one"
            )
        if name != "identity":
            names[-1] = name
    if not layers:
        raise ValueError("there is no nn.Linear among the modules")
    if "softmax" in names[:-1]:
        raise ValueError("nn.Softmax is for the output; it stands before another layer")
    return layers, names


def _name_of(key: str, module: nn.Module) -> str:
    find = NAMES.get(type(module))
    if find is None:
        raise TypeError(
            f"module {key!r}, {module}, is neither an nn.Linear nor an activation of deltaprop's"
        )
    name = find(module)
    if name is None:
        raise ValueError(
            f"module {key!r}, {module}, has other constants than deltaprop's activation; define "
            "one with deltaprop.activation, and use deltaprop.torch.Activation"
        )
    return name


def _refuse_hooks(key: str, module: nn.Module) -> None:
    """Hooks of a module whose `forward` is not called would silently do nothing."""
    if (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    ):
        raise RuntimeError(
            f"module {key!r}, {module}, has a hook, but deltaprop does not call it: put hooks on "
            "the whole net or on parameters, or use a parametrization"
        )


def _named(i: int) -> str:
    """Of the input, and W and b of each layer in turn."""
    return f"layer {(i - 1) // 2}'s {('bias', 'weight')[i % 2]}" if i else "input"


def _check_sizes(input: Tensor, W: list[Tensor]) -> None:
    """Raises ValueError unless each layer takes what the one before it gives."""
    if input.ndim == 0 or input.shape[-1] != W[0].shape[1]:
        raise ValueError(f"input must have shape (..., {W[0].shape[1]}), got {tuple(input.shape)}")
    for l in range(1, len(W)):
        if W[l].shape[1] != W[l - 1].shape[0]:
            raise ValueError(
                f"layer {l} takes {W[l].shape[1]} inputs, but layer {l - 1} has "
                f"{W[l - 1].shape[0]} units"
            )
