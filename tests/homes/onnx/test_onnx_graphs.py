"""Graphs of units as ONNX models: onnx's own evaluator computes them to within the bound."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluated import evaluated, random_net

import deltaprop as dp
from conftest import sample
from deltaprop.bounds import forward_units, unit_outputs
from deltaprop.onnx import export

ACTIVATIONS = ["tanh", "relu", "silu", "identity", "squareplus"]


def random_graph(seed: int, dtype: str, softmax: bool = False) -> dp.Graph:
    """Edges that skip levels; units with and without a bias; outputs that lead on, unless softmax.

    Units are declared in an order that is not that of evaluation.
    """
    random = np.random.default_rng(seed)
    n_in, hidden, n_out = 3, 12, 4
    names = [f"u{i}" for i in range(n_in + hidden + n_out)]
    outputs = [str(name) for name in random.permutation(names[-n_out:])]
    if not softmax:
        outputs.append(names[n_in + 5])
    g = dp.Graph(names[:n_in], outputs, dtype=dtype, backend="reference", seed=seed)
    for j in random.permutation(np.arange(n_in, len(names))):
        last = j >= n_in + hidden
        activation = "softmax" if softmax and last else str(random.choice(ACTIVATIONS))
        g.unit(names[j], activation, None if random.random() < 0.3 else random.normal())
    for j in range(n_in, len(names)):
        for i in range(j):
            from_output = softmax and i >= n_in + hidden
            if not from_output and (random.random() < 0.3 or i in {j - n_out, j % n_in}):
                g.edge(names[i], names[j], random.normal())
    return g


def assert_computes(g: dp.Graph, X: np.ndarray) -> None:
    wiring = g.to("numpy", "float64")._finished.wiring
    u = np.finfo(g.dtype).eps / 2
    given = forward_units(wiring, g.parameters.astype(float), X.astype(float), u)
    bound = 2 * unit_outputs(wiring, *given, u)[1]
    got, wanted = evaluated(g.to_onnx(), X), g.predict(X)
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert np.all(np.abs(got.astype(float) - wanted) <= bound)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_graph(seed: int, softmax: bool, dtype: str) -> None:
    g = random_graph(seed, dtype, softmax)
    for m in (1, 33):
        assert_computes(g, sample((m, 3), dtype))


def test_a_layered_net_as_a_graph(dtype: str) -> None:
    net = random_net(4, 5, 3, activation="gelu", output="softmax", dtype=dtype)
    assert_computes(net.to_graph(), sample((33, 4), dtype))


def test_columns_have_names(tmp_path: Path) -> None:
    g = random_graph(1, "float32")
    model = g.to_onnx(tmp_path / "g.onnx")
    assert (tmp_path / "g.onnx").read_bytes() == model.SerializeToString()
    told = {x.key: json.loads(x.value) for x in model.metadata_props}
    blueprint = g.blueprint()
    assert told == {"deltaprop.inputs": ["u0", "u1", "u2"], "deltaprop.outputs": blueprint.outputs}
    with pytest.raises(dp.ModelFileError, match=r"\(Gather\) is neither a layer nor"):
        dp.MLP.from_onnx(model)


def test_a_graph_too_wide_for_dense_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 300
    edges = np.arange(n), np.arange(n, 2 * n)
    g = dp.Graph.from_arrays(*edges, inputs=n, outputs=range(n, 2 * n), dtype="float64")
    monkeypatch.setattr(export, "LARGEST_FILE", 8 * n * n - 1)
    with pytest.raises(ValueError, match=f"got {8 * n * n} bytes of weights and biases"):
        g.to_onnx()
