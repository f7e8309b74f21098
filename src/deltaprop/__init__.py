"""deltaprop: backpropagation kernels for CPU and GPU whose gradients agree to the last bit."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deltaprop.activations import ACTIVATIONS, Activation
from deltaprop.backends import BackendInfo, backends, use_backend
from deltaprop.errors import (
    BackendUnavailableError,
    CheckpointError,
    DeviceMemoryError,
    GraphError,
    KernelError,
    ModelFileError,
)
from deltaprop.losses import LOSSES, Loss
from deltaprop.mlp import MLP, Back
from deltaprop.optimizers import SGD, Adam, AdamW, Momentum, Optimizer, RMSProp

if TYPE_CHECKING:
    from deltaprop import math, ops, plot, schedules
    from deltaprop.ahead import Warmup, warmup
    from deltaprop.backends.team import get_num_threads, set_num_threads
    from deltaprop.check import crosscheck, digest, gradcheck
    from deltaprop.definition import activation
    from deltaprop.diagnosis import check_backprop
    from deltaprop.diagnosis.verdicts import BackpropCheck, Verdict
    from deltaprop.digests import check_digests
    from deltaprop.ensemble import Ensemble
    from deltaprop.equations import Gradient, Layer, Trace
    from deltaprop.explain import Explanation
    from deltaprop.files import load
    from deltaprop.graph import Graph
    from deltaprop.graphs.unit_arrays import GraphBack, GraphTrace, UnitParameters
    from deltaprop.parameters import Parameters
    from deltaprop.training import History

    __version__: str

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "MLP",
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "Back",
    "BackendInfo",
    "BackendUnavailableError",
    "BackpropCheck",
    "CheckpointError",
    "DeviceMemoryError",
    "Ensemble",
    "Explanation",
    "Gradient",
    "Graph",
    "GraphBack",
    "GraphError",
    "GraphTrace",
    "History",
    "KernelError",
    "Layer",
    "Loss",
    "ModelFileError",
    "Momentum",
    "Optimizer",
    "Parameters",
    "RMSProp",
    "Trace",
    "UnitParameters",
    "Verdict",
    "Warmup",
    "activation",
    "backends",
    "check_backprop",
    "check_digests",
    "crosscheck",
    "digest",
    "get_num_threads",
    "gradcheck",
    "load",
    "math",
    "ops",
    "plot",
    "schedules",
    "set_num_threads",
    "use_backend",
    "warmup",
]

_MODULES = ("math", "ops", "plot", "schedules")
_LATE = {
    "ahead": ("Warmup", "warmup"),
    "backends.team": ("get_num_threads", "set_num_threads"),
    "check": ("crosscheck", "digest", "gradcheck"),
    "definition": ("activation",),
    "diagnosis": ("check_backprop",),
    "diagnosis.verdicts": ("BackpropCheck", "Verdict"),
    "digests": ("check_digests",),
    "ensemble": ("Ensemble",),
    "equations": ("Gradient", "Layer", "Trace"),
    "explain": ("Explanation",),
    "files": ("load",),
    "graph": ("Graph",),
    "graphs.unit_arrays": ("GraphBack", "GraphTrace", "UnitParameters"),
    "parameters": ("Parameters",),
    "training": ("History",),
}
"""Where that lies which is imported when it is named: `import deltaprop` takes what a net does."""
_WHERE = {name: module for module, names in _LATE.items() for name in names}


if not TYPE_CHECKING:  # a type checker would take any name to be there

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            found: Any = import_module(f"deltaprop.{name}")
        elif name in _WHERE:
            found = getattr(import_module(f"deltaprop.{_WHERE[name]}"), name)
        elif name == "__version__":
            from deltaprop.version import version

            found = version()
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
