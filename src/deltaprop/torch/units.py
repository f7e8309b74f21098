"""The modules of PyTorch that deltaprop's activations are, and one for those it has none of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from deltaprop.activations import activation_named
from deltaprop.torch.calls import activate
from deltaprop.torch.tensors import backend_for, check_tensors, cpu_backend

THRESHOLD = 20.0
"""Beyond which PyTorch's softplus is z by default: in float32 to the last bit."""

MODULES: dict[str, Callable[[], nn.Module]] = {
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "elu": lambda: nn.ELU(1.0),
    "softplus": lambda: nn.Softplus(1.0, 2 * THRESHOLD),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "mish": nn.Mish,
    "hard_sigmoid": nn.Hardsigmoid,
    "softmax": lambda: nn.Softmax(dim=-1),
}
"""What makes the module of an activation; "identity" has none, and others are `Activation`."""

Name = str | None
NAMES: dict[type, Callable[[Any], Name]] = {
    nn.Identity: lambda module: "identity",
    nn.Sigmoid: lambda module: "logistic",
    nn.Tanh: lambda module: "tanh",
    nn.ReLU: lambda module: "relu",
    nn.LeakyReLU: lambda module: "leaky_relu" if module.negative_slope == 0.01 else None,
    nn.ELU: lambda module: "elu" if module.alpha == 1 else None,
    nn.Softplus: lambda module: (
        "softplus" if module.beta == 1 and module.threshold >= THRESHOLD else None
    ),
    nn.SiLU: lambda module: "silu",
    nn.GELU: lambda module: "gelu" if module.approximate == "none" else "gelu_tanh",
    nn.Mish: lambda module: "mish",
    nn.Hardsigmoid: lambda module: "hard_sigmoid",
    nn.Softmax: lambda module: "softmax" if module.dim == -1 else None,
}
"""The activation that a module is; None for one of other constants."""


class Activation(nn.Module):  # type: ignore[misc]
    """An activation of deltaprop as a module, element by element, on tensors of any shape.

    For those that PyTorch has no module of: "squareplus", "sine", and those of your own, defined
    with `deltaprop.activation`.

    Parameters
    ----------
    name
        Its name.
    backend
        Of tensors on the CPU, as of `MLP`.
    """

    def __init__(self, name: str, backend: str | None = None) -> None:
        super().__init__()
        if activation_named(name).rowwise:
            raise ValueError(f"{name!r} is not unit-wise: use nn.Softmax(dim=-1)")
        self.name, self.backend = activation_named(name).name, cpu_backend(backend)

    def forward(self, z: Tensor) -> Tensor:
        """g(z)."""
        check_tensors([z], lambda i: "z")
        if z.numel() == 0:
            return z.clone()
        return activate(self.name, backend_for(z.device, self.backend), z)

    def extra_repr(self) -> str:
        return repr(self.name)


NAMES[Activation] = lambda module: module.name
