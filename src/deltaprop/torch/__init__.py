"""Nets in PyTorch: an `nn.Sequential` whose forward and backward sweep are deltaprop's kernels.

    net = deltaprop.torch.MLP(nn.Linear(784, 256), nn.Tanh(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(net.parameters())

The modules are PyTorch's own, so parameters, `state_dict` and optimizers are as ever, and the
numbers are within rounding of theirs: on the exact backends of deltaprop, bit for bit the same on
every machine. `as_module` and `net_of` lead from a `deltaprop.MLP` and back.
"""

from deltaprop.torch.modules import MLP, as_module, net_of
from deltaprop.torch.units import Activation

__all__ = ["MLP", "Activation", "as_module", "net_of"]
