"""Nets from ONNX models: our own to the last bit, and chains as other exporters write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from evaluated import assert_computes, random_net
from onnx import numpy_helper, parser

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.check import digest

HIDDEN = [name for name in dp.ACTIVATIONS if name != "softmax"]
W1, b1 = sample((5, 4), "float32", 1), sample(5, "float32", 2)
W2, b2 = sample((3, 5), "float32", 3), sample(3, "float32", 4)


def model(nodes: str, opset: int = 17, /, **constants: np.ndarray) -> onnx.ModelProto:
    """A model from X (m, 4) to Y (m, 3)."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[m, 4] X) => (float[m, 3] Y)'
    parsed = parser.parse_model(text + "{" + nodes + "}")
    for name, x in constants.items():
        parsed.graph.initializer.append(numpy_helper.from_array(np.array(x), name))
    return parsed


def read(given: onnx.ModelProto | Path) -> dp.MLP:
    return dp.MLP.from_onnx(given, backend="reference")


def assert_same_net(got: dp.MLP, wanted: dp.MLP) -> None:
    assert (got.sizes, got.activations) == (wanted.sizes, wanted.activations)
    assert (got.bias, got.dtype) == (wanted.bias, wanted.dtype)
    assert digest(got.parameters) == digest(wanted.parameters)


# -------------------------------------------------------------------------------- our own


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_exported_comes_back(name: str, dtype: str, tmp_path: Path) -> None:
    for bias in (True, False):
        for output in (name, "softmax"):
            net = random_net(4, 5, 3, activation=name, output=output, dtype=dtype, bias=bias)
            assert_same_net(read(net.to_onnx(tmp_path / "net.onnx")), net)
            assert_same_net(read(tmp_path / "net.onnx"), net)


def test_bits_that_are_no_numbers_come_back() -> None:
    net = random_net(4, 3)
    net.parameters[:4] = np.nan, np.inf, -0.0, 1e-45
    net.parameters[:1].view(np.uint32)[...] = 0x7FC12345
    assert_same_net(read(net.to_onnx()), net)


def test_activations_of_ones_own_come_back_by_name(dtype: str) -> None:
    dp.activation("bent", "(sqrt(z*z + 1) - 1) / 2 + z")
    dp.activation("twice", "z + z")
    dp.activation("same", "z + z")
    dp.activation("more", "z + 1")  # no bias of a layer that has none
    dp.activation("one", lambda z: 1.0)
    for bias in (True, False):
        names = ["bent", "same", "twice", "more"]
        net = random_net(2, 3, 4, 3, 4, 2, activation=names, output="one", dtype=dtype, bias=bias)
        assert_same_net(read(net.to_onnx()), net)
        exported = net.to_onnx()
        del exported.metadata_props[:]
        assert [g.name for g in read(exported).activations[1:3]] == ["twice", "twice"]


def test_the_backend_and_the_class() -> None:
    class Own(dp.MLP):
        pass

    exported = random_net(4, 3).to_onnx()
    net = Own.from_onnx(exported, "numpy")
    assert type(net) is Own
    assert net.backend == "numpy"
    with pytest.raises(ValueError, match="unknown backend"):
        dp.MLP.from_onnx(exported, "nowhere")
    with pytest.raises(TypeError, match=r"MLP.from_onnx reads it, Ensemble.of\(\[...\]\) makes"):
        dp.Ensemble.from_onnx(exported)
    net.train_step(sample((6, 4), "float32"), sample((6, 3), "float32"))
    assert_same_net(read(exported), random_net(4, 3))  # the net has numbers of its own


# ------------------------------------------------------------------------- other exporters

SECOND = "Y = Gemm <transB = 1> (a, W2, b2)"
CHAINS = {
    "weights not transposed": ("z = Gemm (X, W1T, b1)  a = Tanh (z)" + SECOND, "tanh"),
    "factors": (
        "z = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (X, W1, b1)  a = Relu (z)" + SECOND,
        "relu",
    ),
    "MatMul and Add": (
        "t = MatMul (X, W1T)  z = Add (t, b1)  a = Sigmoid (z)" + SECOND,
        "logistic",
    ),
    "Add the other way round": (
        "t = MatMul (X, W1T)  z = Add (b1, t)  a = Softplus (z)" + SECOND,
        "softplus",
    ),
    "a bias of two axes": ("t = MatMul (X, W1T)  z = Add (t, row)  a = Elu (z)" + SECOND, "elu"),
    "a bias that is one number": ("z = Gemm (X, W1T, one)  a = Sin (z)" + SECOND, "sine"),
    "no bias": ("z = MatMul (X, W1T)  a = Tanh (z)" + SECOND, "tanh"),
    "a transposed constant": (
        "W = Transpose <perm = [1, 0]> (W1)  z = MatMul (X, W)  a = Tanh (z)" + SECOND,
        "tanh",
    ),
    "transposed without saying how": ("W = Transpose (W1)  a = MatMul (X, W)" + SECOND, "identity"),
    "constants as nodes": (
        "c = Constant <value = float[3, 5] {" + ", ".join(str(x) for x in W2.reshape(-1)) + "}> ()"
        "V = Identity (c)  d = Constant <value_floats = [1.0, 2.0, 3.0]> ()"
        "z = Gemm <transB = 1> (X, W1, b1)  a = LeakyRelu (z)  Y = Gemm <transB = 1> (a, V, d)",
        "leaky_relu",
    ),
    "what does nothing": (
        "x = Flatten (X)  z = Gemm <transB = 1> (x, W1, b1)  t = Identity (z)  r = Tanh (t)"
        "a = Dropout (r, ratio)" + SECOND,
        "tanh",
    ),
    "the identity": ("a = Gemm <transB = 1> (X, W1, b1)" + SECOND, "identity"),
    "silu": ("z = Gemm (X, W1T, b1)  s = Sigmoid (z)  a = Mul (s, z)" + SECOND, "silu"),
    "mish": (
        "z = Gemm (X, W1T, b1)  s = Softplus (z)  t = Tanh (s)  a = Mul (z, t)" + SECOND,
        "mish",
    ),
    "gelu": (
        "z = Gemm (X, W1T, b1)  d = Div (z, root)  e = Erf (d)  f = Add (e, one)"
        "p = Mul (z, f)  a = Mul (p, half)" + SECOND,
        "gelu",
    ),
    "gelu, the half first": (
        "z = Gemm (X, W1T, b1)  d = Div (z, root)  e = Erf (d)  f = Add (e, one)"
        "p = Mul (half, f)  a = Mul (z, p)" + SECOND,
        "gelu",
    ),
    "gelu_tanh by a power": (
        "z = Gemm (X, W1T, b1)  c = Pow (z, three)  d = Mul (cubic, c)  e = Add (z, d)"
        "f = Mul (scale, e)  t = Tanh (f)  u = Add (t, one)  p = Mul (half, u)  a = Mul (z, p)"
        + SECOND,
        "gelu_tanh",
    ),
    "softplus with a threshold": (
        "z = Gemm (X, W1T, b1)  s = Softplus (z)  c = Greater (z, twenty)  a = Where (c, z, s)"
        + SECOND,
        "softplus",
    ),
    "casts and reshapes that do nothing": (
        "x = Cast <to = 1> (X)  z = Gemm (x, W1T, b1)  a = Tanh (z)  r = Reshape (a, rows)"
        "t = Gemm <transB = 1> (r, W2, b2)  Y = Reshape (t, outputs)",
        "tanh",
    ),
    "gelu_tanh": (
        "z = Gemm (X, W1T, b1)  s = Mul (z, z)  c = Mul (z, s)  d = Mul (cubic, c)  e = Add (z, d)"
        "f = Mul (scale, e)  t = Tanh (f)  u = Add (one, t)  p = Mul (z, u)  a = Mul (half, p)"
        + SECOND,
        "gelu_tanh",
    ),
    "hard_sigmoid": (
        "z = Gemm (X, W1T, b1)  a = HardSigmoid <alpha = 0.16666667> (z)" + SECOND,
        "hard_sigmoid",
    ),
    "an end that nothing takes": (
        "z = Gemm (X, W1T, b1)  a = Tanh (z)  other = MatMul (a, W2T)" + SECOND,
        "tanh",
    ),
}
CONSTANTS = {
    "W1": W1,
    "W1T": W1.T,
    "b1": b1,
    "row": b1[None],
    "W2": W2,
    "W2T": W2.T,
    "b2": b2,
    "one": np.ones(1, "float32"),
    "half": np.array(0.5, "float32"),
    "root": np.array(np.sqrt(2), "float32"),
    "three": np.array(3, "float32"),
    "twenty": np.array(20, "float32"),
    "rows": np.array([0, 5]),
    "outputs": np.array([-1, 3]),
    "cubic": np.array(0.044715, "float32"),
    "scale": np.array(np.sqrt(2 / np.pi), "float32"),
    "ratio": np.array(0.25, "float32"),
}


@pytest.mark.parametrize("what", CHAINS)
def test_chains_of_other_exporters(what: str) -> None:
    nodes, activation = CHAINS[what]
    given = model(nodes, **CONSTANTS)
    net = read(given)
    assert [g.name for g in net.activations] == [activation, "identity"]
    assert net.sizes == (4, 5, 3)
    assert_computes(given, net, sample((65, 4), "float32"))


@pytest.mark.parametrize("opset", [7, 11, 12, 13, 20])
@pytest.mark.parametrize("axis", ["", "<axis = 1>", "<axis = -1>"])
def test_softmax_of_all_opsets(opset: int, axis: str) -> None:
    nodes = f"t = MatMul (X, W)  z = Add (t, b)  Y = Softmax {axis} (z)"
    net = read(model(nodes, opset, W=W2[:, :4].T, b=b2))
    assert [g.name for g in net.activations] == ["softmax"]
    assert_same_bits(net.layers[0].W, W2[:, :4])


def test_a_threshold_of_20_makes_no_softplus_of_doubles() -> None:
    nodes = "{z = MatMul (X, W)  s = Softplus (z)  c = Greater (z, t)  Y = Where (c, z, s)}"
    head = '<ir_version: 8, opset_import: ["" : 17]> g (double[m, 1] X) => (double[m, 1] Y)'
    text = f"{head} <double[1, 1] W = {{1.0}}, double t = {{20.0}}> {nodes}"
    assert read(parser.parse_model(text.replace("double", "float"))).outputs == 1
    with pytest.raises(dp.ModelFileError, match=r"'Y' \(Where\) ends no activation"):
        read(parser.parse_model(text))


def test_weights_as_lists_of_numbers_and_as_inputs() -> None:
    given = model("Y = Gemm <transB = 1> (X, W, b)", W=W2[:, :4], b=b2)
    W = given.graph.initializer[0]
    W.ClearField("raw_data")
    W.float_data.extend(W2[:, :4].reshape(-1).tolist())
    given.graph.input.append(onnx.helper.make_tensor_value_info("W", 1, [3, 4]))
    assert_same_bits(read(given).layers[0].W, W2[:, :4])


def test_weights_in_a_file_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, path = random_net(4, 5, 3), tmp_path / "net.onnx"
    onnx.save_model(
        net.to_onnx(), path, save_as_external_data=True, location="weights", size_threshold=0
    )
    assert (tmp_path / "weights").is_file()
    assert_same_net(read(path), net)
    without = onnx.load(path, load_external_data=False)
    with pytest.raises(dp.ModelFileError, match=r"the model: .*0\.W"):
        read(without)
    monkeypatch.chdir(tmp_path)  # nothing says that the file here is the one that is meant
    with pytest.raises(dp.ModelFileError, match=r"the model: constant '0\.W' lies in another file"):
        read(without)
    (tmp_path / "weights").unlink()
    with pytest.raises(dp.ModelFileError, match=r"net\.onnx: its external data cannot be read"):
        read(path)
