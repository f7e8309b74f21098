"""ONNX models computed by onnx's own evaluator, and how far that may lie from a net's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

import deltaprop as dp
from deltaprop.bounds import forward
from deltaprop.equations import Layer


def evaluated(model: onnx.ModelProto | Path, X: np.ndarray) -> np.ndarray:
    """What the model makes of X, after all checks that onnx has."""
    onnx.checker.check_model(model, full_check=True)
    with np.errstate(all="ignore"):
        (outputs,) = ReferenceEvaluator(model).run(None, {"X": X})
    return outputs


def bound(net: dp.MLP, X: np.ndarray) -> np.ndarray:
    """How far two computations of the outputs may differ, each of which may round in its way."""
    layers = [
        Layer(W.astype(float), None if b is None else b.astype(float), g) for W, b, g in net.layers
    ]
    da = forward(layers, X.astype(float), np.finfo(net.dtype).eps / 2)[1]
    return 2 * da[-1]


def assert_computes(model: onnx.ModelProto | Path, net: dp.MLP, X: np.ndarray) -> None:
    got, wanted = evaluated(model, X), net.predict(X)
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert np.all(np.abs(got.astype(float) - wanted) <= bound(net, X))


def random_net(*sizes: int, seed: int = 1, **options: Any) -> dp.MLP:
    """A net whose biases are drawn, too."""
    net = dp.MLP(sizes, seed=seed, backend="reference", **options)
    random = np.random.default_rng(seed)
    net.parameters[...] = random.normal(size=net.parameters.shape)
    return net
