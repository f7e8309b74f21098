"""Members taken out of ensembles and put together, pickles and files."""

from __future__ import annotations

import copy
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.check import to_numpy
from ensembles import N, P, alone, assert_as_alone, assert_same, batch, ensemble


def test_a_member_is_a_net_of_its_own(backend: str, dtype: str) -> None:
    net, (X, Y, _) = ensemble(backend, dtype), batch(dtype)
    before = to_numpy(net.parameters).copy()
    one = net.member(1)
    assert type(one) is dp.MLP
    assert one.ensemble is None
    assert repr(one) == repr(alone(backend, dtype)[1])
    one.train_step(X, Y)
    assert_same_bits(to_numpy(net.parameters), before)
    net.parameters[0] = one.parameters
    assert_same(net.predict(X)[0], one.predict(X), backend)
    assert_same_bits(to_numpy(net.parameters)[1:], before[1:])


def test_an_ensemble_of_nets(backend: str, dtype: str) -> None:
    nets, (X, Y, _) = alone(backend, dtype), batch(dtype)
    net = dp.Ensemble.of(nets)
    assert repr(net) == repr(ensemble(backend, dtype))
    assert_as_alone(net, nets, X, Y, None, None)
    net.train_step(X, Y)
    assert_same_bits(to_numpy(nets[2].parameters), sample((N, P), dtype, 7)[2])
    assert dp.Ensemble.of([nets[0]]).ensemble == 1


COPIES: dict[str, Callable] = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "to": lambda net: net.to(),
    "of": lambda net: dp.Ensemble.of([net.member(e) for e in range(N)]),
}


@pytest.mark.parametrize("way", COPIES)
def test_copies_have_the_bits_and_are_apart(backend: str, dtype: str, way: str) -> None:
    net, (X, Y, _) = ensemble(backend, dtype), batch(dtype, 9)
    before = to_numpy(net.parameters).copy()
    other = COPIES[way](net)
    assert type(other) is dp.Ensemble
    assert repr(other) == repr(net)
    assert_same_bits(to_numpy(other.parameters), before)
    losses = net.loss(X, Y)
    other.parameters[...] = 0
    assert not np.any(other.predict(X))
    other.train_step(X, Y)
    assert_same_bits(to_numpy(net.parameters), before)
    assert_same(net.loss(X, Y), losses, backend)


def test_to_another_dtype_and_backend(backend: str) -> None:
    there = ensemble("reference").to(backend, "float64")
    assert (there.backend, there.dtype, there.ensemble) == (backend, np.float64, N)
    assert_same_bits(to_numpy(there.parameters), sample((N, P), "float32", 7).astype("float64"))
    assert there.loss(*batch("float64")[:2]).dtype == np.float64


def test_a_pickle_holds_every_number_once() -> None:
    net = dp.MLP([30, 30, 30], ensemble=10, backend="numpy")
    assert len(pickle.dumps(net)) < 1.1 * net.parameters.nbytes


def test_gradients_survive_a_pickle() -> None:
    gradients = ensemble("numpy").value_and_grad(*batch("float32")[:2])[1]
    again = pickle.loads(pickle.dumps(gradients))
    assert dp.digest(again) == dp.digest(gradients)
    again.flat[...] = 1
    assert np.all(again[1].W == 1)


def test_a_file(backend: str, dtype: str, tmp_path: Path) -> None:
    net, path = ensemble(backend, dtype, output="softmax"), tmp_path / "net.safetensors"
    net.save(path)
    for read in (dp.load, dp.MLP.load, dp.Ensemble.load):
        again = read(path, backend)
        assert type(again) is dp.Ensemble
        assert repr(again) == repr(net)
        assert_same_bits(to_numpy(again.parameters), to_numpy(net.parameters))
    X = batch(dtype)[0]
    assert_same(again.predict(X), net.predict(X), backend)
    net.member(1).save(path)
    assert type(dp.load(path, backend)) is dp.MLP
    with pytest.raises(dp.ModelFileError, match=r"wanted 'deltaprop.Ensemble/1'; MLP.load reads"):
        dp.Ensemble.load(path)


@pytest.mark.parametrize("text", ["4", "1", "0", "-3", "null", "true", "3.0", "1000000000", "[3]"])
def test_a_file_of_another_number_of_members(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.safetensors"
    ensemble("numpy").save(path)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    assert header["__metadata__"]["ensemble"] == str(N)
    header["__metadata__"]["ensemble"] = text
    changed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + size :])
    with pytest.raises(dp.ModelFileError):
        dp.load(path, "numpy")
