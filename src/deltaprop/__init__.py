"""deltaprop: backpropagation kernels for CPU and GPU whose gradients agree to the last bit."""

from importlib.metadata import PackageNotFoundError, version

from deltaprop import math, ops, plot
from deltaprop.activations import ACTIVATIONS, Activation
from deltaprop.backends import BackendInfo, backends, use_backend
from deltaprop.check import crosscheck, digest, gradcheck
from deltaprop.definition import activation
from deltaprop.diagnosis import check_backprop
from deltaprop.digests import check_digests
from deltaprop.equations import Gradient, Layer, Trace
from deltaprop.errors import BackendUnavailableError, GraphError, ModelFileError
from deltaprop.graph import Graph
from deltaprop.losses import LOSSES, Loss
from deltaprop.mlp import MLP, Back
from deltaprop.parameters import Parameters
from deltaprop.training import History
from deltaprop.verdicts import BackpropCheck, Verdict

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "MLP",
    "Activation",
    "Back",
    "BackendInfo",
    "BackendUnavailableError",
    "BackpropCheck",
    "Gradient",
    "Graph",
    "GraphError",
    "History",
    "Layer",
    "Loss",
    "ModelFileError",
    "Parameters",
    "Trace",
    "Verdict",
    "activation",
    "backends",
    "check_backprop",
    "check_digests",
    "crosscheck",
    "digest",
    "gradcheck",
    "math",
    "ops",
    "plot",
    "use_backend",
]

try:
    __version__ = version("deltaprop")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "unknown"
