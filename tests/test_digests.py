"""The digests of fixed nets: their inputs, the committed table, and every backend beside it."""

import hashlib
import json
import re

import numpy as np
import pytest

from conftest import EXACT
from deltaprop import digests
from deltaprop.activations import ACTIVATIONS
from deltaprop.check import digest
from deltaprop.digests import (
    FIXED,
    FIXED_GRAPHS,
    FIXED_NETS,
    build,
    check_digests,
    committed_digests,
    lattice,
)
from deltaprop.losses import LOSSES
from deltaprop.scalar import DTYPES

as_specified = pytest.mark.parametrize("specified", ["reference", *EXACT])
HOW = 'python -c "from deltaprop import digests; print(digests.table())"'


def test_the_table_is_committed():
    """One digest for each net and dtype, and none else."""
    table = committed_digests()
    names = [fixed.name for fixed in FIXED]
    assert len(set(names)) == len(names)
    found = {dtype: sorted(table.get(dtype, {})) for dtype in DTYPES}
    assert found == {dtype: sorted(names) for dtype in DTYPES}, f"write digests.json anew: {HOW}"
    values = [value for of_dtype in table.values() for value in of_dtype.values()]
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in values)
    assert len(set(values)) == len(values) == len(names) * len(table)


@as_specified
def test_every_exact_backend_gives_them(specified):
    assert check_digests(specified) == [], f"if the specification has changed, run {HOW}"


def test_a_wrong_digest_is_named(monkeypatch):
    """And so is one that the table does not have."""
    few = FIXED_NETS[:2]
    right = digests.gradient_digests("reference", few)
    monkeypatch.setattr(digests, "gradient_digests", lambda backend: right)
    table = json.loads(json.dumps(right))
    table["float32"][few[0].name] = "0" * 64
    del table["float64"][few[1].name]
    monkeypatch.setattr(digests, "committed_digests", lambda: table)
    assert check_digests("reference") == [f"float32 {few[0].name}", f"float64 {few[1].name}"]
    monkeypatch.setattr(digests, "committed_digests", dict)
    assert len(check_digests("reference")) == 4


def test_the_nets_use_every_rule():
    hidden = [
        g
        for f in FIXED_NETS
        for g in ((f.activation,) if isinstance(f.activation, str) else f.activation)
    ]
    assert {*hidden, *(f.output for f in FIXED_NETS)} == set(ACTIVATIONS)
    assert {f.loss for f in FIXED_NETS} == set(LOSSES)


def test_the_graphs_have_what_layers_have_not():
    """Outputs that lead on, edges past a level, sums of more than one leaf in both directions."""
    graphs = [fixed.net("float32").topology for fixed in FIXED_GRAPHS]
    leads_on, wide, fans_out = graphs
    assert np.isin(leads_on.outputs, leads_on.source).sum() == 2
    assert len({leads_on.activations[i - leads_on.inputs] for i in leads_on.outputs}) == 3
    assert np.bincount(wide.target).max() > 256
    assert np.bincount(fans_out.source).max() > 256
    assert {g.name for g in fans_out.activations} > {"softmax"}
    for graph in graphs:
        assert np.any(np.diff([graph.levels[graph.source], graph.levels[graph.target]], axis=0) > 1)
        assert 0 < graph.biased.sum() < len(graph.biased)


# ---------------------------------------------------------------------------------- inputs


def integers(count, seed):
    """2^15 (1 + x) of a lattice in Python's integers: the high 16 of 64 bits of a product."""
    start = 1000003 * (seed + 1)
    return [(i * 0x9E3779B97F4A7C15 % 2**64) >> 48 for i in range(start, start + count)]


@pytest.mark.parametrize("seed", [0, 1, 23, 103])
def test_lattice(seed):
    x = lattice((40, 25), seed)
    assert x.dtype == np.float64
    assert ((x.reshape(-1) + 1) * 2**15).tolist() == integers(1000, seed)
    assert len(np.unique(x)) > 900


def is_short(x, bits):
    """Whether every number is k / 2^bits for an integer k, and below 4."""
    scaled = x.astype(np.float64) * 2.0**bits
    return bool(np.all(scaled == np.rint(scaled)) and np.all(np.abs(x) < 4))


@pytest.mark.parametrize("fixed", FIXED, ids=lambda fixed: fixed.name)
def test_inputs_are_the_same_in_both_dtypes(fixed):
    """They are numbers of at most 24 bits, so float32 holds them."""
    narrow, wide = (build(fixed, dtype, "reference") for dtype in DTYPES)
    for x, y in zip((narrow[0].parameters, *narrow[1]), (wide[0].parameters, *wide[1])):
        if isinstance(x, np.ndarray):
            assert np.array_equal(x, y)
            assert is_short(x, 22) or x.dtype.kind == "i"


def test_parameters_are_the_lattice():
    """Scaled by a power of two; Glorot's numbers, which need a generator, are all replaced."""
    fixed = FIXED_NETS[2]
    net, (X, *_) = build(fixed, "float64", "reference")
    W, b, _ = net.layers[0]
    assert np.array_equal(X, lattice((7, 3), 101))
    assert np.array_equal(W, lattice((5, 3), 0))
    assert np.array_equal(b, lattice(5, 1) / 4)


def test_digest_is_of_little_endian_bytes():
    """The known SHA-256 of eight bytes, in whatever order this machine has them."""
    x = np.array([1.0])
    assert digest(x) == digest(x.astype(">f8"))
    assert digest(x) == hashlib.sha256(bytes(6) + b"\xf0\x3f").hexdigest()
