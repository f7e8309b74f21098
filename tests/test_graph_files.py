"""Files of graphs: what is saved comes back bit for bit, and nothing else is believed."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.check import to_numpy
from graphs import two_paths

METADATA = {
    "format": "deltaprop.Graph/1",
    "names": '["x1", "x2", "h", "y1", "y2"]',
    "inputs": "2",
    "outputs": '["y1", "y2"]',
    "activations": '["logistic", "tanh", "identity"]',
    "dtype": "float64",
}
TENSORS = {
    "source": np.array([0, 1, 2, 2, 0], np.int32),
    "target": np.array([2, 2, 3, 4, 4], np.int32),
    "weights": np.array([0.5, -1.5, 0.75, -2.0, 0.125]),
    "activation": np.array([0, 1, 2], np.int32),
    "biased": np.array([True, False, True]),
    "biases": np.array([0.5, -0.25]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "graph.safetensors"


def container(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A safetensors file by hand: length of the header, header, numbers."""
    header: dict = {"__metadata__": metadata}
    data = b""
    for name, x in tensors.items():
        kind = "BOOL" if x.dtype == bool else x.dtype.kind.upper() + str(8 * x.itemsize)
        offsets = [len(data), len(data) + x.nbytes]
        header[name] = {"dtype": kind, "shape": x.shape, "data_offsets": offsets}
        data += x.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refused(path: Path, content: bytes, *words: str) -> None:
    path.write_bytes(content)
    for load in (dp.Graph.load, dp.load):
        with pytest.raises(dp.ModelFileError) as caught:
            load(path, "numpy")
        for word in (str(path), *words):
            assert word in str(caught.value)


def assert_same_graph(got: dp.Graph, wanted: dp.Graph) -> None:
    assert got.topology.is_like(wanted.topology)
    assert_same_bits(to_numpy(got.parameters), to_numpy(wanted.parameters))


# ---------------------------------------------------------------------------- round trips


def test_a_round_trip_keeps_every_bit(backend: str, dtype: str, path: Path) -> None:
    g = two_paths(dtype, backend)
    g.save(path)
    again = dp.Graph.load(path, backend)
    assert repr(again) == repr(g)
    assert_same_graph(again, g)
    X = sample((5, 2), dtype)
    assert_same_bits(again.predict(X), g.predict(X))


def test_what_training_made_of_the_weights_stays(backend: str, dtype: str, path: Path) -> None:
    """A NaN is a number that came about, and not one that is still to be drawn."""
    g = two_paths(dtype, backend)
    tiny = np.finfo(dtype).smallest_subnormal
    special = [np.nan, np.inf, -np.inf, -0.0, tiny, np.nan, np.inf]
    g.parameters[...] = g.kernels.arrays.asarray(np.array(special, dtype))
    wanted = {key: g[key] for key in (*g._parameters.edges, *g._parameters.biased)}
    g.save(path)
    grown = g.to()
    grown.unit("k")
    grown.edge("x1", "k")
    grown.edge("k", "y1", 0.25)
    grown.remove_edge("k", "y1")
    grown.edge("k", "y1", 0.5)
    for other in (dp.Graph.load(path, backend), dp.load(path, backend), g.to(), grown):
        for key, value in wanted.items():
            assert_same_bits(np.float64(other[key]), np.float64(value), str(key))
    assert np.isfinite(grown["x1", "k"])


def test_names_and_the_order_of_outputs(path: Path) -> None:
    names = ["Ω", "x 1", '"', "\\", "\n", "1", 1, 0, -7, 10**12, "日本", "\ud800"]
    g = dp.Graph(["in", 2], [names[-1], names[0], 1], dtype="float64", backend="numpy")
    for name in names:
        g.unit(name, bias=None if name == "1" else 0.5)
        g.edge("in", name)
        g.edge(2, name)
    with pytest.warns(UserWarning, match="no output is reached"):
        g.save(path)
    with pytest.warns(UserWarning, match="no output is reached"):
        again = dp.load(path, "numpy")
    assert_same_graph(again, g)
    assert again["in", 1] == g["in", 1] != g["in", "1"] == again["in", "1"]
    assert_same_bits(again.predict(np.ones((1, 2))), g.predict(np.ones((1, 2))))


def test_a_graph_without_biases(path: Path) -> None:
    g = dp.Graph(["x"], ["y"], backend="numpy")
    g.unit("y", bias=None)
    g.edge("x", "y")
    g.save(path)
    assert_same_graph(dp.load(path, "numpy"), g)


def test_an_activation_of_ones_own(path: Path) -> None:
    dp.activation("bent", "(sqrt(z*z + 1) - 1) / 2 + z")
    g = two_paths(backend="numpy")
    g.unit("k", "bent")
    g.edge("x1", "k")
    g.edge("k", "y1")
    g.save(path)
    assert_same_graph(dp.load(path, "numpy"), g)
    content = path.read_bytes()
    own = dp.ACTIVATIONS.pop("bent")
    refused(path, content, "'bent'", "deltaprop.activation('bent', ...) first")
    path.unlink()
    with pytest.raises(ValueError, match="activation 'bent' is not in deltaprop's table"):
        g.save(path)
    assert own in g.topology.activations and not path.exists()


def test_the_container_by_hand_is_what_save_writes(path: Path) -> None:
    path.write_bytes(container(TENSORS, METADATA))
    assert_same_graph(dp.load(path, "numpy"), two_paths())


def test_either_kind_of_file(path: Path) -> None:
    net = dp.MLP([2, 3, 1], backend="numpy", seed=2)
    net.save(path)
    got = dp.load(path, "numpy")
    assert isinstance(got, dp.MLP)
    assert_same_bits(got.parameters, net.parameters)
    with pytest.raises(dp.ModelFileError, match=r"MLP\.load reads it, and so does"):
        dp.Graph.load(path)
    two_paths().save(path)
    assert isinstance(dp.load(path), dp.Graph)
    with pytest.raises(dp.ModelFileError, match=r"Graph\.load reads it, and so does"):
        dp.MLP.load(path)


def test_a_graph_that_does_not_compute_is_not_saved(path: Path) -> None:
    g = dp.Graph(["x"], ["y"])
    with pytest.raises(dp.GraphError, match="no unit for output 'y'"):
        g.save(path)
    assert not list(path.parent.iterdir())


# -------------------------------------------------------------------------- damaged files


def test_cut_short_anywhere(path: Path) -> None:
    whole = container(TENSORS, METADATA)
    for length in range(0, len(whole), 13):
        refused(path, whole[:length], "not a whole safetensors file")


def test_a_damaged_header_gives_a_graph_of_the_same_shape_or_an_error(path: Path) -> None:
    whole = container(TENSORS, METADATA)
    size = struct.unpack("<Q", whole[:8])[0]
    for i in range(0, 8 + size, 2):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x11]) + whole[i + 1 :])
        try:
            g = dp.load(path, "numpy")
        except dp.ModelFileError:
            continue
        assert g.parameters.shape == (7,), f"byte {i}"


def with_tensor(name: str, values: list, dtype: type = np.int32) -> bytes:
    return container(TENSORS | {name: np.array(values, dtype)}, METADATA)


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_missing_or_of_another_kind(path: Path, name: str) -> None:
    x = TENSORS[name]
    refused(path, container({k: v for k, v in TENSORS.items() if k != name}, METADATA), name)
    for bad in (x[None], x[:-1], np.tile(x, 2), x[0], x.astype("f2"), x.astype("i8"), x[:0]):
        refused(path, container(TENSORS | {name: bad}, METADATA))
    refused(path, container(TENSORS | {"more": x}, METADATA), "'more'")


def test_edges_that_cannot_be(path: Path) -> None:
    for content, words in (
        (with_tensor("source", [0, 1, 2, 2, 5]), "tensor source must be from 0 to 4"),
        (with_tensor("source", [0, -1, 2, 2, 0]), "tensor source must be from 0 to 4"),
        (with_tensor("target", [2, 2, 3, 4, 2**31 - 1]), "tensor target must be from 0 to 4"),
        (with_tensor("activation", [0, 1, 3]), "tensor activation must be from 0 to 2"),
        (with_tensor("source", [0, 0, 2, 2, 0]), "an edge is there twice: 'x1' -> 'h'"),
        (with_tensor("source", [0, 1, 2, 2, 4]), "the graph has a cycle: y2 -> y2"),
        (with_tensor("target", [2, 1, 3, 4, 4]), "an edge leads into an input: 'x2' -> 'x2'"),
        (with_tensor("target", [2, 2, 4, 4, 4]), "an edge is there twice: 'h' -> 'y2'"),
        (with_tensor("biases", [1.0], np.float64), "2 units have a bias, got 1 of them"),
        (with_tensor("biased", [1, 1, 1], bool), "3 units have a bias, got 2 of them"),
    ):
        refused(path, content, words)


NESTED = "[" * 100_000
HUGE = "1" + "0" * 400
DESCRIPTIONS = [
    *(("names", text) for text in ("", "null", "5", "[]", '"abcde"', NESTED, "{}")),
    *(("names", text) for text in ('["x1", "x2", "h", "y1"]', '["x1", "x1", "h", "y1", "y2"]')),
    ("names", '["x1", "x2", "h", "y1", 2.5]'),
    ("names", '["x1", "x2", "h", "y1", null]'),
    ("names", '["x1", "x2", "h", "y1", true]'),
    ("names", '["x1", "x2", "h", "y1", ["y2"]]'),
    ("names", '["x1", "x2", "h", "y1", ""]'),
    ("names", f'["x1", "x2", "h", "y1", {"1" * 5000}]'),
    *(("inputs", text) for text in ("", "0", "1", "3", "5", "6", "-2", "2.0", "true", "null")),
    *(("inputs", text) for text in ('"2"', "[2]", HUGE, "1e308", "NaN", NESTED)),
    *(("outputs", text) for text in ("", "[]", '["y1", "y1"]', '["y3"]', '["x1"]', '"y1"', "{}")),
    *(("outputs", text) for text in ("[1]", "[null]", "3", '[["y1"], "y2"]', NESTED)),
    *(("activations", text) for text in ("", "[]", '["logistic", "tanh"]', "5", '{"0": "tanh"}')),
    *(("activations", text) for text in ('"tanh"', '["tanh", null, "tanh"]', NESTED)),
    ("activations", '["logistic", "softmax", "identity"]'),
    ("activations", '["logistic", "tanh", "__import__(\'os\')"]'),
    *(("dtype", text) for text in ("", "float16", "float32", "object", "int32")),
    *(("format", text) for text in ("", "deltaprop.Graph/2", "deltaprop.MLP/1")),
]


@pytest.mark.parametrize(("key", "text"), DESCRIPTIONS, ids=lambda x: x[-24:])
def test_descriptions_that_do_not_hold(path: Path, key: str, text: str) -> None:
    refused(path, container(TENSORS, METADATA | {key: text}))


@pytest.mark.parametrize("key", METADATA)
def test_descriptions_that_lack_something(path: Path, key: str) -> None:
    refused(path, container(TENSORS, {k: v for k, v in METADATA.items() if k != key}), key)


def test_a_size_is_not_believed(path: Path) -> None:
    path.write_bytes(b"")
    tracemalloc.start()
    try:
        refused(path, container(TENSORS, METADATA | {"inputs": "1000000000"}))
        refused(path, container(TENSORS, METADATA | {"outputs": "[999999999999]"}))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
