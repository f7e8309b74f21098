"""Model files: what is saved comes back bit for bit, and nothing else is believed."""

from __future__ import annotations

import json
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.check import to_numpy

SIZES = [3, 4, 2]
METADATA = {
    "format": "deltaprop.MLP/1",
    "sizes": "[3, 4, 2]",
    "activations": '["logistic", "identity"]',
    "bias": "true",
    "dtype": "float32",
}
TENSORS = dict(dp.MLP(SIZES, backend="numpy")._parameters.named())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.safetensors"


def container(tensors: dict, metadata: dict, data: bytes = b"") -> bytes:
    """A safetensors file by hand: length of the header, header, numbers."""
    header: dict = {"__metadata__": metadata} if metadata else {}
    for name, x in tensors.items():
        if isinstance(x, np.ndarray):
            kind = {"f": "F", "i": "I"}[x.dtype.kind] + str(8 * x.itemsize)
            offsets = [len(data), len(data) + x.nbytes]
            header[name] = {"dtype": kind, "shape": x.shape, "data_offsets": offsets}
            data += x.tobytes()
        else:
            header[name] = x
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refused(path: Path, content: bytes, *words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(dp.ModelFileError) as caught:
        dp.MLP.load(path, backend="numpy")
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_a_round_trip_keeps_every_bit(backend: str, dtype: str, path: Path) -> None:
    net = dp.MLP([3, 5, 4, 2], ["gelu", "tanh"], "softmax", dtype=dtype, backend=backend, seed=3)
    special = [np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).smallest_subnormal]
    net.parameters[:5] = net.kernels.arrays.asarray(np.array(special, dtype))
    net.save(path)
    again = dp.MLP.load(path, backend)
    assert repr(again) == repr(net)
    assert again.activations == net.activations
    assert_same_bits(to_numpy(again.parameters), to_numpy(net.parameters))
    again.layers[2].W[...] = 0
    assert not np.any(to_numpy(again.parameters)[-10:-2]), "W does not view the buffer"


def test_a_file_may_be_loaded_elsewhere(backend: str, dtype: str, path: Path) -> None:
    net = dp.MLP(SIZES, bias=False, dtype=dtype, backend="reference")
    net.save(str(path))
    again = net.load(str(path), backend)
    assert (again.backend, again.dtype, again.bias) == (backend, net.dtype, False)
    assert_same_bits(to_numpy(again.parameters), net.parameters)
    X = sample((5, 3), dtype)
    if backend != "numpy":
        assert_same_bits(again.predict(X), net.predict(X))
    with dp.use_backend("numpy"):
        assert dp.MLP.load(path).backend == "numpy"


def test_the_container_by_hand_is_what_save_writes(path: Path) -> None:
    path.write_bytes(container(TENSORS, METADATA))
    net = dp.MLP.load(path, "numpy")
    assert_same_bits(net.parameters, dp.MLP(SIZES, backend="numpy").parameters)


@pytest.mark.parametrize("step", ["to_bytes", "os.fsync"])
def test_a_save_that_fails_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    net = dp.MLP(SIZES, backend="numpy")
    net.save(path)
    old = path.read_bytes()

    def disk_full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(f"deltaprop.files.{step}", disk_full)
    net.parameters[...] = 7
    with pytest.raises(OSError, match="no space left"):
        net.save(path)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_saving_where_no_file_can_be(tmp_path: Path) -> None:
    net = dp.MLP(SIZES, backend="numpy")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        net.save(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="missing"):
        net.save(tmp_path / "missing" / "net")
    assert list(tmp_path.rglob("*")) == [tmp_path / "folder"]


def test_an_activation_that_has_not_been_defined_cannot_be_saved(path: Path) -> None:
    cube = dp.Activation("cube", lambda z: z * z * z, lambda z: 3 * z * z)
    impostor = dp.Activation("tanh", cube.value, cube.slope)
    for own in (cube, impostor):
        net = dp.MLP(SIZES, own, backend="numpy")
        with pytest.raises(ValueError, match=f"activation '{own.name}' is not in"):
            net.save(path)
    assert not path.exists()


def test_an_activation_that_is_defined_is_saved_by_name(path: Path, backend: str) -> None:
    dp.activation("bent", "(sqrt(z*z + 1) - 1) / 2 + z")
    net = dp.MLP(SIZES, "bent", backend=backend, seed=3)
    net.save(path)
    again = dp.MLP.load(path, backend)
    assert again.activations == net.activations
    X = sample((5, 3), "float32")
    assert_same_bits(to_numpy(again.predict(X)), to_numpy(net.predict(X)))


def test_a_file_with_an_activation_that_is_not_defined_here_says_so(path: Path) -> None:
    dp.activation("bent", "(sqrt(z*z + 1) - 1) / 2 + z")
    dp.MLP(SIZES, "bent", backend="numpy").save(path)
    content = path.read_bytes()
    del dp.ACTIVATIONS["bent"]
    refused(path, content, "'bent'", "not defined here", "deltaprop.activation('bent', ...) first")
    dp.activation("bent", lambda z: (dp.math.sqrt(z * z + 1) - 1) / 2 + z)
    assert dp.MLP.load(path, "numpy").activations[0].name == "bent"


def test_no_file(tmp_path: Path) -> None:
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(missing)):
            dp.MLP.load(missing, "numpy")


def test_cut_short_anywhere(path: Path) -> None:
    whole = container(TENSORS, METADATA)
    for length in range(0, len(whole), 7):
        refused(path, whole[:length], "not a whole safetensors file")
    refused(path, whole[:-1], "not a whole safetensors file")
    refused(path, whole + b"\0", "not a whole safetensors file")


def test_a_damaged_header_gives_a_net_of_the_same_shape_or_an_error(path: Path) -> None:
    whole = container(TENSORS, METADATA)
    wanted = dp.MLP(SIZES, backend="numpy")
    size = struct.unpack("<Q", whole[:8])[0]
    for i in range(8 + size):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x11]) + whole[i + 1 :])
        try:
            net = dp.MLP.load(path, "numpy")
        except dp.ModelFileError:
            continue
        assert net.parameters.shape == wanted.parameters.shape, f"byte {i}"


def test_other_files(path: Path) -> None:
    random = np.random.default_rng(0)
    for content in (
        pickle.dumps({"sizes": SIZES}),
        random.bytes(1000),
        b"PK\x03\x04" + bytes(100),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40),
    ):
        refused(path, content, "not a whole safetensors file")
    refused(path, container({}, {}), "format None", "deltaprop.MLP/1")
    refused(path, container(TENSORS, METADATA | {"format": "deltaprop.Graph/1"}), "Graph", "MLP/1")


def test_tensors_that_do_not_fit(path: Path) -> None:
    W = TENSORS["0.W"]
    without = {name: x for name, x in TENSORS.items() if name != "0.b"}
    refused(path, container(without, METADATA), "['0.W', '1.W', '1.b']", "'0.b'")
    refused(path, container(TENSORS | {"2.W": W}, METADATA), "2.W")
    refused(path, container(TENSORS, METADATA | {"bias": "false"}), "0.b")
    for bad in (W.T, W.reshape(-1), W[None], W[:2], W.astype("f8"), W.astype("f2"), W.astype("i4")):
        content = container(TENSORS | {"0.W": bad}, METADATA)
        refused(path, content, "tensor 0.W", str(bad.shape), "(4, 3) F32")
    others = {name: x for name, x in TENSORS.items() if name != "0.W"}
    for kind, size in (("BF16", 2), ("F8_E4M3", 1), ("BOOL", 1)):
        bad = {"dtype": kind, "shape": [4, 3], "data_offsets": [0, 12 * size]}
        refused(path, container({"0.W": bad} | others, METADATA, bytes(12 * size)), "0.W", kind)


NESTED = "[" * 100_000
HUGE = "1" + "0" * 400
DESCRIPTIONS = [
    *(("sizes", text) for text in ("", "nope", "null", "5", "[]", "[3]", '"342"', '{"3": 4}')),
    *(("sizes", text) for text in ("[3, 0, 2]", "[3, -4, 2]", "[-3, -4, -2]", "[3, 4.0, 2]")),
    *(("sizes", text) for text in ("[3, true, 2]", "[[3], [4]]", '["3", "4"]', "[NaN, 2]")),
    *(("sizes", text) for text in ("[3, 4, 2, 2]", "[3, 5, 2]", NESTED, f"[{HUGE}, 1.5]")),
    *(("sizes", text) for text in ("[1e308, 1e308]", f"[{'1' * 5000}, 2]", f"[{HUGE}, 2]")),
    *(("activations", text) for text in ("", "null", "[]", '"tanh"', "[null, null]", NESTED)),
    *(("activations", text) for text in ('["tanh"]', '["tanh", "tanh", "tanh"]', '{"0": "tanh"}')),
    *(("activations", text) for text in ('["logitic", "identity"]', '[["tanh"], "identity"]')),
    ("activations", '["softmax", "identity"]'),
    ("activations", '["__import__(\'os\')", "identity"]'),
    *(("bias", text) for text in ("", "1", "null", '"true"', "[]", "{}")),
    *(("dtype", text) for text in ("", "float16", "float64", "object", "int32")),
]


@pytest.mark.parametrize(("key", "text"), DESCRIPTIONS, ids=lambda x: x[:20])
def test_descriptions_that_do_not_hold(path: Path, key: str, text: str) -> None:
    refused(path, container(TENSORS, METADATA | {key: text}))


@pytest.mark.parametrize("key", METADATA)
def test_descriptions_that_lack_something(path: Path, key: str) -> None:
    refused(path, container(TENSORS, {k: v for k, v in METADATA.items() if k != key}), key)


@pytest.mark.parametrize("sizes", ["[100000, 100000, 2]", "[3, 1000000000]", "[1, 30000000, 1]"])
def test_a_size_is_not_believed(path: Path, sizes: str) -> None:
    tracemalloc.start()
    try:
        refused(path, container(TENSORS, METADATA | {"sizes": sizes}), "size of the file")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
