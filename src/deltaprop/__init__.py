"""deltaprop: backpropagation kernels for CPU and GPU whose gradients agree to the last bit."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from deltaprop import math, ops, plot
from deltaprop.activations import ACTIVATIONS, Activation
from deltaprop.backends import BackendInfo, backends, use_backend
from deltaprop.check import crosscheck, digest, gradcheck
from deltaprop.definition import activation
from deltaprop.diagnosis import check_backprop
from deltaprop.diagnosis.verdicts import BackpropCheck, Verdict
from deltaprop.digests import check_digests
from deltaprop.ensemble import Ensemble
from deltaprop.equations import Gradient, Layer, Trace
from deltaprop.errors import BackendUnavailableError, GraphError, ModelFileError
from deltaprop.files import load
from deltaprop.graph import Graph
from deltaprop.graphs.unit_arrays import GraphBack, GraphTrace, UnitParameters
from deltaprop.losses import LOSSES, Loss
from deltaprop.mlp import MLP, Back
from deltaprop.parameters import Parameters
from deltaprop.training import History

if TYPE_CHECKING:
    from deltaprop.explain import Explanation

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "MLP",
    "Activation",
    "Back",
    "BackendInfo",
    "BackendUnavailableError",
    "BackpropCheck",
    "Ensemble",
    "Explanation",
    "Gradient",
    "Graph",
    "GraphBack",
    "GraphError",
    "GraphTrace",
    "History",
    "Layer",
    "Loss",
    "ModelFileError",
    "Parameters",
    "Trace",
    "UnitParameters",
    "Verdict",
    "activation",
    "backends",
    "check_backprop",
    "check_digests",
    "crosscheck",
    "digest",
    "gradcheck",
    "load",
    "math",
    "ops",
    "plot",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    """What few programs name is imported when it is named."""
    if name == "Explanation":
        from deltaprop.explain import Explanation

        return Explanation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


try:
    __version__ = version("deltaprop")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "unknown"
