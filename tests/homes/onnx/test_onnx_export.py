"""Nets as ONNX models: valid, and computed by onnx's own evaluator to within the bound."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from evaluated import assert_computes, bound, evaluated, random_net
from onnx import numpy_helper

import deltaprop as dp
from conftest import sample
from deltaprop import scalar
from deltaprop.formula import formula
from deltaprop.onnx import export

HIDDEN = [name for name in dp.ACTIVATIONS if name != "softmax"]
# What ONNX Runtime computes in float32 only.
FLOAT32_ONLY = {"Atanh", "Elu", "Erf", "Gelu", "HardSigmoid", "LeakyRelu", "Mish", "Softplus"}


def unit(activation: str | dp.Activation, dtype: str) -> dp.MLP:
    """a = g(x)."""
    net = dp.MLP([1, 1], output=activation, dtype=dtype, backend="reference")
    net.parameters[...] = 1, 0
    return net


def grid(dtype: str) -> np.ndarray:
    z = np.concatenate([np.linspace(-40, 40, 1601), [-0.0, 1e-30, -1e-6, 1e-3, -1e4, 1e4]])
    return z.astype(dtype)[:, None]


@pytest.mark.parametrize("name", HIDDEN)
def test_an_activation(name: str, dtype: str) -> None:
    net = unit(name, dtype)
    assert_computes(net.to_onnx(), net, grid(dtype))


@pytest.mark.parametrize("name", HIDDEN)
def test_a_net(name: str, dtype: str) -> None:
    output = name if name != "relu" else "softmax"
    net = random_net(5, 7, 6, 3, activation=name, output=output, dtype=dtype, bias=name != "sine")
    for m in (1, 65):
        assert_computes(net.to_onnx(), net, sample((m, 5), dtype))


def test_what_the_model_says(dtype: str, tmp_path: Path) -> None:
    net = random_net(4, 5, 3, activation="tanh", output="softmax", dtype=dtype)
    model = net.to_onnx(tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == model.SerializeToString()
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    assert (model.producer_name, model.producer_version) == ("deltaprop", dp.__version__)
    assert (model.opset_import[0].version, model.ir_version) == (20, 9)
    graph = model.graph
    assert [node.op_type for node in graph.node] == ["Gemm", "Tanh", "Gemm", "Softmax"]
    assert [node.output[0] for node in graph.node] == ["z1", "a1", "z2", "outputs"]
    for (value,), n in ((graph.input, 4), (graph.output, 3)):
        tensor = value.type.tensor_type
        assert tensor.elem_type == {"float32": 1, "float64": 11}[dtype]
        assert [d.dim_param or d.dim_value for d in tensor.shape.dim] == ["m", n]
    assert (graph.input[0].name, graph.output[0].name) == ("X", "outputs")
    for x, (name, wanted) in zip(graph.initializer, net._parameters.named(), strict=True):
        got = numpy_helper.to_array(x)
        assert (x.name, got.dtype, got.tobytes()) == (name, wanted.dtype, wanted.tobytes())


def test_float64_does_without_operators_that_runtimes_have_in_float32_only() -> None:
    def used(name: str, dtype: str) -> set[str]:
        return {node.op_type for node in unit(name, dtype).to_onnx().graph.node}

    names = [*HIDDEN, "all"]
    rule = formula("expm1(z) + log1p(z*z) + softplus(z) + normal_cdf(z)")
    dp.ACTIVATIONS["all"] = dp.Activation("all", rule, lambda z: 0)
    assert FLOAT32_ONLY - {"Atanh"} <= set.union(*(used(name, "float32") for name in names))
    for name in names:
        assert not used(name, "float64") & FLOAT32_ONLY


FORMULAS = {
    "bent": "(sqrt(z*z + 1) - 1) / 2 + z",
    "gauss": "exp(-z*z)",
    "mixed": "select(z < 1, minimum(sin(z), 0.5), maximum(cos(z), -z)) - abs(z) * 0.25",
    "logs": "log1p(z*z) * tanh(z) + log(2 + abs(z)) / (1 + logistic(z))",
    "steep": "expm1(-abs(z)) + normal_cdf(z) + softplus(-z)",
    "fused": "fma(z, 0.5, 1) + select(z >= 3, 1, 2) + select(z > -3, 2, 1)",
}


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_of_ones_own(name: str, dtype: str) -> None:
    net = unit(dp.Activation(name, formula(FORMULAS[name]), lambda z: 0), dtype)
    assert_computes(net.to_onnx(), net, grid(dtype))


@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_small_arguments_keep_their_digits(name: str, dtype: str) -> None:
    f = getattr(dp.math, name)
    net = unit(dp.Activation(name, lambda z: f(z), lambda z: 1), dtype)
    ends = [np.inf, -1, 0, 1]
    z = np.concatenate([np.geomspace(1e-30, 80, 300), -np.geomspace(1e-30, 0.999, 300), ends])
    X = z.astype(dtype)[:, None]
    got, wanted = evaluated(net.to_onnx(), X), net.predict(X)
    finite = np.isfinite(wanted)
    assert got[~finite].tolist() == wanted[~finite].tolist()
    error = np.abs(got[finite] - wanted[finite])
    assert np.all(error <= 8 * np.finfo(dtype).eps * np.abs(wanted[finite]))


def test_a_name_of_ours_for_another_rule() -> None:
    net = unit(dp.Activation("relu", lambda z: z * z, lambda z: 2 * z), "float32")
    assert_computes(net.to_onnx(), net, grid("float32"))


def test_signs_and_numbers(dtype: str) -> None:
    rules = {
        "sign": lambda z: dp.math.copysign(2, z) + dp.math.copysign(4, -z),  # at 0, too
        "nearest": lambda z: dp.math.rint(z * 0.5) - scalar.pow2(dp.math.rint(z * 0.125)),
        "one": lambda z: 1.0,
    }
    X = np.array([[0.0], [-3.0], [5.0], [-1e-40], [7.0]], dtype)
    for name, rule in rules.items():
        net = unit(dp.Activation(name, rule, lambda z: 0), dtype)
        assert evaluated(net.to_onnx(), X).tolist() == net.predict(X).tolist()


def test_what_cannot_be_exported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def binary(z: scalar.Real) -> scalar.Number:
        return scalar.exponent(z * z + 1)

    path = tmp_path / "net.onnx"
    with pytest.raises(ValueError, match="activation 'binary' uses exponent, for which ONNX has"):
        unit(dp.Activation("binary", binary, lambda z: 0), "float32").to_onnx(path)
    with pytest.raises(TypeError, match=r"to_onnx takes one net, got an ensemble of 2.*member"):
        dp.MLP([2, 1], ensemble=2, backend="reference").to_onnx(path)
    net = dp.MLP([2, 1], backend="reference")
    monkeypatch.setattr(export, "LARGEST_FILE", 11)
    with pytest.raises(ValueError, match="an ONNX model has up to 2 GiB, got 12 bytes of weights"):
        net.to_onnx(path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(export, "LARGEST_FILE", 12)
    net.to_onnx(path)


def test_onnx_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("deltaprop.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (random_net(2, 1).to_onnx, lambda: dp.MLP.from_onnx("net.onnx")):
        with pytest.raises(ImportError, match=r"onnx is missing: pip install 'deltaprop\[onnx\]'"):
            call()


def test_the_bound_sees_another_net() -> None:
    net = random_net(5, 7, 3, activation="tanh")
    X = sample((65, 5), "float32")
    other = net.to_onnx()
    W = numpy_helper.to_array(other.graph.initializer[0]).copy()
    W[0, 0] += 1e-3
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(W, "0.W"))
    assert np.any(np.abs(evaluated(other, X) - net.predict(X)) > bound(net, X))
