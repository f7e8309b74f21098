"""Models that are no chain of layers, or are damaged: an error that names the node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from evaluated import random_net
from test_onnx_import import CONSTANTS, SECOND, model, read

import deltaprop as dp
from deltaprop.formula import formula
from deltaprop.scalar import Rule

FIRST = "z = Gemm <transB = 1> (X, W1, b1)"
REFUSED = {
    "z = Conv (X, W1) a = Relu (z)": r"node 'z' \(Conv\) is neither a layer nor a part of an",
    FIRST + "t = Tanh (z)  a = Add (t, z)": r"node 'a' \(Add\) ends no .*: Add.* of Tanh",
    FIRST + "a = LeakyRelu <alpha = 0.25> (z)": r"'a' \(LeakyRelu\) ends .*LeakyRelu\(alpha=0.25\)",
    FIRST + "a = PRelu (z, b1)": r"node 'a' \(PRelu\) is neither",
    FIRST + "a = Softmax (z)": r"node 'a' \(Softmax\) is for the outputs",
    FIRST + "a = Softmax <axis = 0> (z)": r"'a' \(Softmax\) ends no .*Softmax\(axis=0\)",
    FIRST + "a = Mul (z, b1)": r"node 'a' \(Mul\) takes numbers of shape \(5,\), wanted a single",
    FIRST + "a = Add (z, b1)": r"node 'a' \(Add\) takes numbers of shape \(5,\), wanted a single",
    "W = Transpose <perm = [0, 9]> (W1)  a = MatMul (X, W)": r"\(Transpose\) has perm=\[0, 9\] for",
    FIRST + "a = Cast <to = 11> (z)": r"node 'a' \(Cast\) casts to DOUBLE: wanted FLOAT",
    FIRST + "a = Cast <to = 99> (z)": r"node 'a' \(Cast\) casts to 99: wanted FLOAT",
    FIRST + "a = Reshape (z, flat)": r"'a' \(Reshape\) gives rows of 5 the shape \[-1, 1\]",
    FIRST + "s = Shape (z)  a = Reshape (z, s)": r"'a' \(Reshape\) is no layer: wanted rows, and",
    FIRST + "a = Transpose (z)": r"node 'a' \(Transpose\) transposes what is no constant",
    FIRST + "a = Flatten <axis = 0> (z)": r"node 'a' \(Flatten\) flattens samples too",
    FIRST + "a, mask = Dropout (z, ratio, yes)": r"node 'a' \(Dropout\) is in training mode",
    FIRST + "k, mask = Dropout (z) a = Mul (k, mask)": r"'mask' is no value that a chain",
    FIRST + "t = Relu (z)  u = Gemm <transB = 1> (t, square, b1) a = Add (u, t)": (
        r"node 'a' \(Add\) joins two branches: wanted a chain of layers"
    ),
    "r = Relu (X) z = Gemm <transB = 1> (r, W1, b1) a = Relu (z)": (
        r"node 'r' \(Relu\) comes before the first layer"
    ),
    "a = Gemm <transA = 1> (X, W1T, b1)": r"node 'a' \(Gemm\) has transA=1: samples have to be",
    "a = Gemm <transB = 1> (W1, X)": r"node 'a' \(Gemm\) is no layer: wanted inputs times",
    "a = MatMul (X, b1)": r"node 'a' \(MatMul\) has weights of shape \(5,\), wanted a matrix",
    "a = Gemm <transB = 1> (X, W1, column)": r"has a bias of shape \(5, 1\), wanted \(5,\)",
    "a = Gemm <transB = 1> (X, W1, b2)": r"has a bias of shape \(3,\), wanted \(5,\)",
    "t = MatMul (X, W1T)  u = Sum (X)  a = Gemm (X, W1T, u)": r"'u' \(Sum\) is neither",
    "a = Gemm <transB = 1> (X, W1, X)": r"node 'a' \(Gemm\) is no layer: wanted a constant bias",
    "a = Gemm <transB = 1> (X, W2, b2)": r"node 'a' \(Gemm\) takes 5 numbers, but gets 4",
    FIRST + "a = Gemm <transB = 1> (z, W1, b1)": r"node 'a' \(Gemm\) takes 4 numbers, but gets 5",
    "a = Gemm <transB = 1> (X, double, b1)": r"takes float64, but the model's input is float32",
    "a = Gemm <transB = 1> (X, none)": r"has weights of shape \(0, 4\), wanted a matrix",
    "a = Identity (W1)": r"node 'Y' \(Gemm\) is no layer",
    "a = Add (half, one)": r"node 'a' \(Add\) takes constants only",
    's = Constant <value_string = "os.system"> () a = Relu (X)': r"has a value_string, wanted",
    FIRST + "a = Relu (missing)": "not a valid ONNX model",
    FIRST + "a = Relu (z, z)": "not a valid ONNX model",
}
MORE = {
    "flat": np.array([-1, 1]),
    "yes": np.array(True),
    "square": np.eye(5, dtype="float32"),
    "column": np.ones((5, 1), "float32"),
    "double": CONSTANTS["W1"].astype(float),
    "none": np.ones((0, 4), "float32"),
}


@pytest.mark.parametrize("nodes", REFUSED)
def test_what_is_no_chain(nodes: str) -> None:
    with pytest.raises(dp.ModelFileError, match=REFUSED[nodes]):
        read(model(nodes + SECOND, **CONSTANTS, **MORE))


def changed(change: str) -> onnx.ModelProto:
    """A model that can be read, but for one thing."""
    given = model(FIRST + "a = Relu (z)" + SECOND, **CONSTANTS)
    graph, tensor = given.graph, given.graph.input[0].type.tensor_type
    exec(change, {"given": given, "graph": graph, "tensor": tensor, "h": onnx.helper})
    return given


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("graph.output.append(h.make_tensor_value_info('z', 1, ['m', 5]))",
         "wanted one output, got 'Y', 'z'"),
        ("graph.input.append(h.make_tensor_value_info('V', 1, ['m']))", "one input, got 'X', 'V'"),
        ("tensor.elem_type = 10", "input 'X' is FLOAT16, wanted FLOAT or DOUBLE"),
        ("tensor.elem_type = 99", "input 'X' is 99, wanted FLOAT or DOUBLE"),
        ("tensor.elem_type = 11", "takes float32, but the model's input is float64"),
        ("tensor.shape.dim.add().dim_value = 7", r"has shape \['m', 4, 7\], wanted \(m, n_in\)"),
        ("tensor.shape.dim[1].dim_value = 7", "takes 4 numbers, but gets 7"),
        ("given.opset_import[0].version = 6", "uses opset 6, wanted 7 to"),
        ("given.opset_import[0].version = 999", "uses opset 999, wanted 7 to"),
        ("del given.opset_import[:]", "not a valid ONNX model"),
        ("given.opset_import.append(h.make_opsetid('own', 1)); graph.node[1].domain = 'own'",
         r"node 'a' \(own.Relu\) is none of ONNX's own operators"),
        ("graph.output[0].name = 'W1'", "output 'W1' does not depend on the input"),
        ("graph.initializer[0].dims[0] = 6", "constant 'W1' cannot be read|not a valid"),
        ("graph.initializer[0].data_location = 1", "the model: .*W1"),
        ("h.set_model_props(given, {'deltaprop.activations': '[['})", "is no JSON"),
        ("del graph.node[:]", "not a valid ONNX model|'Y' is no value that a chain"),
    ],
)  # fmt: skip
def test_what_does_not_fit(change: str, said: str) -> None:
    assert read(changed("")).sizes == (4, 5, 3)
    with pytest.raises(dp.ModelFileError, match=said):
        read(changed(change))


def test_no_layer_at_all() -> None:
    with pytest.raises(dp.ModelFileError, match="has no layer"):
        read(model("Y = Identity (X)"))


def test_an_activation_that_is_not_defined_here() -> None:
    dp.activation("bent", "(sqrt(z*z + 1) - 1) / 2 + z")
    exported = random_net(4, 5, 3, activation="bent").to_onnx()
    del dp.ACTIVATIONS["bent"]
    said = r"node 'a1' \(Add\) ends no activation .*The model calls it 'bent': define it with"
    with pytest.raises(dp.ModelFileError, match=said):
        read(exported)
    dp.activation("bent", "(sqrt(z*z + 1) + 1) / 2 + z")
    with pytest.raises(dp.ModelFileError, match=said):
        read(exported)


def test_the_order_of_operands() -> None:
    dp.ACTIVATIONS["down"] = dp.Activation("down", lambda z: 0.5 - z, lambda z: -1)
    net = read(model(FIRST + "a = Sub (half, z)" + SECOND, **CONSTANTS))
    assert net.activations[0].name == "down"
    with pytest.raises(dp.ModelFileError, match=r"\(Sub\) ends no activation"):
        read(model(FIRST + "a = Sub (z, half)" + SECOND, **CONSTANTS))


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"model must be an onnx.ModelProto or a path, got list"):
        read([])
    with pytest.raises(FileNotFoundError, match="no model file"):
        read(tmp_path / "net.onnx")


def test_files_cut_short_or_changed(tmp_path: Path) -> None:
    """A byte of a weight or of a name may be another one; whatever else is, is refused."""
    path, net = tmp_path / "net.onnx", random_net(4, 5, 3, activation="relu")
    net.to_onnx(path)
    whole, refused = path.read_bytes(), 0
    for i in range(0, len(whole), 7):
        path.write_bytes(whole[:i])
        with pytest.raises(dp.ModelFileError):
            read(path)
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x11]) + whole[i + 1 :])
        try:
            assert read(path).parameters.shape == net.parameters.shape
        except dp.ModelFileError:
            refused += 1
    assert refused > 20


def test_a_long_chain_of_operators_is_read_without_recursion() -> None:
    nodes = [f"t{i + 1} = Tanh (t{i})  " for i in range(5000)]
    with pytest.raises(dp.ModelFileError, match="ends no activation"):
        read(model("t0 = MatMul (X, W1T)" + "".join(nodes) + "Y = Tanh (t5000)", **CONSTANTS))


def test_every_operator_of_a_rule_is_taken_for_a_part_of_an_activation(dtype: str) -> None:
    """Whoever has not defined the activation is told its name, not that of an operator."""
    text = "exp(z) + expm1(z) + log(z*z + 1) + log1p(z*z) + logistic(z) + tanh(z) + softplus(z)"
    text += "- normal_cdf(z) / sqrt(z*z + 1) + sin(z) * cos(z) + maximum(z, 1) + fma(-z, abs(z), 1)"
    text += "+ select(z < 1, 1, 2) + select(z <= 2, 1, 2) + select(z >= 3, 1, 2)"
    rules: dict[str, Rule] = {
        "all": formula(text),
        "others": lambda z: dp.math.copysign(dp.math.rint(z), z),
        "one": lambda z: 1.0,
    }
    for name, rule in rules.items():
        dp.ACTIVATIONS[name] = dp.Activation(name, rule, lambda z: 0)
        exported = random_net(4, 3, activation=[], output=name, dtype=dtype).to_onnx()
        del dp.ACTIVATIONS[name]
        with pytest.raises(dp.ModelFileError, match=f"The model calls it '{name}'"):
            read(exported)
