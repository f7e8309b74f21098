"""Gradient clipping: the norm, the scaled gradient and the step it makes, by another road."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import EXACT, assert_same_bits, sample
from deltaprop.backends import load
from deltaprop.check import to_numpy
from deltaprop.clipping import clip
from ensembles import N
from graphs import two_paths
from kernels.helpers import hostile

M = 20
X, Y = sample((M, 2), "float32", 1), sample((M, 2), "float32", 2)
NETS: dict[str, Any] = {
    "layers": lambda backend, dtype: dp.MLP([2, 40, 2], "tanh", dtype=dtype, backend=backend),
    "graph": lambda backend, dtype: two_paths(dtype, backend),
    "members": lambda backend, dtype: dp.MLP([2, 5, 2], dtype=dtype, backend=backend, ensemble=N),
}
every_net = pytest.mark.parametrize("kind", NETS)


def numbers(net: Any) -> np.ndarray:
    return np.array(to_numpy(net.parameters))


# ---------------------------------------------------------------------------------- by hand


def rounded(x: Fraction, dtype: str) -> Fraction:
    """Of no more than twice the digits: float64 first would round twice, so once to odd."""
    if dtype == "float64":
        return Fraction(x.numerator / x.denominator)
    near = x.numerator / x.denominator
    if Fraction(near) != x and not np.float64(near).view(np.int64) & 1:
        near = np.nextafter(near, np.inf if Fraction(near) < x else -np.inf)
    return Fraction(float(np.float32(near)))


def plain_sum(terms: list[Fraction], dtype: str) -> Fraction:
    """Leaves of 64, one by one, then neighbours level by level; in exact arithmetic, rounded."""
    nodes = []
    for start in range(0, len(terms), 64):
        s = Fraction(0)
        for x in terms[start : start + 64]:
            s = rounded(s + x, dtype)
        nodes.append(s)
    while len(nodes) > 1:
        pairs = [rounded(x + y, dtype) for x, y in zip(nodes[0::2], nodes[1::2], strict=False)]
        nodes = pairs + nodes[2 * len(pairs) :]
    return nodes[0]


def square_by_hand(g: np.ndarray) -> Fraction:
    """The squares in rows of 64, column by column; then those sums and the squares left over."""
    dtype = g.dtype.name
    squares = [rounded(Fraction(float(x)) ** 2, dtype) for x in g]
    whole = len(squares) // 64 * 64
    columns = [squares[j:whole:64] for j in range(64)] if whole else []
    return plain_sum([plain_sum(x, dtype) for x in columns] + squares[whole:], dtype)


def clipped(g: np.ndarray, limit: float, k: Any) -> np.ndarray:
    there = k.arrays.asarray(g.copy())
    clip(k, there, limit)
    return np.array(k.arrays.to_numpy(there))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300, 4225])
def test_the_rule(exact, dtype, count):
    """One rounded norm in float64, one quotient, one rounded product."""
    g, k = sample(count, dtype, seed=count), load(exact)
    norm = sqrt(float(square_by_hand(g)))
    for limit in (0.3 * norm, np.nextafter(norm, 0), norm, 2 * norm):
        factor = np.dtype(dtype).type(limit / norm)
        wanted = g * factor if limit < norm else g
        assert_same_bits(clipped(g, limit, k), wanted, f"{limit} of {norm}")


@pytest.mark.parametrize("factor", [1, 2.0**40, 2.0**80, 2.0**100, 2.0**120])
def test_squares_that_overflow(backend, factor):
    """A norm that float32 has, of squares that it has not; or that it has not either."""
    g = (sample(500, "float32") * np.float32(factor)).astype("float32")
    norm = np.linalg.norm(g.astype(np.float64))
    got = clipped(g, 0.01, load(backend))
    assert np.allclose(got, g.astype(np.float64) * (0.01 / norm), rtol=1e-5, atol=1e-30)
    assert_same_bits(clipped(g, float(min(2 * norm, 3e38)), load(backend)), g)


def test_squares_that_overflow_float64(exact):
    g = sample(500, "float64") * 2.0**900
    got = clipped(g, 2.0, load(exact))
    assert np.allclose(got, g * (2.0 / (np.linalg.norm(g / 2.0**900) * 2.0**900)), rtol=1e-12)


@pytest.mark.parametrize("family", ["everything", "rare", "subnormal", "zeros", "overflow"])
def test_special_numbers(exact, dtype, family):
    g = hostile(family, 700, dtype, seed=3)
    wanted = clipped(g, 0.5, load("reference"))
    assert_same_bits(clipped(g, 0.5, load(exact)), wanted)
    if not np.isfinite(g).all():
        assert_same_bits(wanted, g)
    elif family == "overflow":
        assert np.isclose(float(np.sqrt((wanted.astype(np.float64) ** 2).sum())), 0.5, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_without_a_norm_stays(backend, bad):
    g = sample(100, "float32").copy()
    g[70] = bad
    assert_same_bits(clipped(g, 0.5, load(backend)), g)


def test_zeros_stay(backend):
    g = np.zeros(70, "float32")
    assert_same_bits(clipped(g, 1e-30, load(backend)), g)


# -------------------------------------------------------------------------------- in training

OPTIMIZERS = [(dp.SGD, 0.0), (dp.SGD, 0.5), (dp.RMSProp, 0.5), (dp.AdamW, 0.5)]


@every_net
@pytest.mark.parametrize(("optimizer", "decay"), OPTIMIZERS, ids=str)
def test_a_step_is_that_of_the_clipped_gradient(backend, kind, optimizer, decay):
    """Of each member alone; weight decay comes after it, and is not clipped."""
    net, hand = (NETS[kind](backend, "float32") for _ in range(2))
    options, k = {"learning_rate": 0.1, "weight_decay": decay}, hand.kernels
    plain = optimizer(**options)
    states = [k.arrays.asarray(0 * numbers(net)) for _ in plain.rules[:-1]]
    largest = float(np.linalg.norm(hand.value_and_grad(X, Y)[1].flat, axis=-1).max())
    for step, limit in enumerate((2 * largest, largest / 5, largest / 50), start=1):
        net.train_step(X, Y, optimizer=optimizer(**options, clip_norm=limit))
        g = k.arrays.asarray(np.array(hand.value_and_grad(X, Y)[1].flat))
        clip(k, g, limit)
        constants = plain.constants(0.1, step)
        flat = [x.reshape(-1) for x in (hand.parameters, g, *states)]
        k.update(flat[0], flat[1], flat[2:], plain.rules, constants)
        assert_same_bits(numbers(net), numbers(hand), f"step {step}")


@pytest.mark.parametrize("name", EXACT)
@every_net
def test_every_exact_backend_has_the_same_bits(name, dtype, kind):
    optimizer = dp.Momentum(0.5, clip_norm=0.05)
    nets = [NETS[kind](backend, dtype) for backend in ("reference", name)]
    histories = [
        net.fit(X.astype(dtype), Y.astype(dtype), epochs=2, batch_size=6, optimizer=optimizer)
        for net in nets
    ]
    assert_same_bits(np.array(histories[1].loss), np.array(histories[0].loss))
    assert_same_bits(numbers(nets[1]), numbers(nets[0]))
    unclipped = NETS[kind](name, dtype)
    unclipped.fit(
        X.astype(dtype), Y.astype(dtype), epochs=2, batch_size=6, optimizer=dp.Momentum(0.5)
    )
    assert np.any(numbers(unclipped) != numbers(nets[1])), "not a test: nothing is clipped"


def test_members_are_clipped_alone(exact):
    """Each as the net alone, with a rate and a schedule of its own too."""
    for rates in (0.3, [0.3, 0.1, 0.2]):
        nets = NETS["members"](exact, "float32")
        nets.parameters[1] *= np.float32(20)
        ones = [nets.member(e) for e in range(N)]
        nets.fit(X, Y, epochs=2, optimizer=dp.SGD(rates, clip_norm=0.2))
        for e, one in enumerate(ones):
            rate = rates if isinstance(rates, float) else rates[e]
            one.fit(X, Y, epochs=2, optimizer=dp.SGD(rate, clip_norm=0.2))
            assert_same_bits(numbers(nets)[e], numbers(one), f"member {e}")


def test_the_parts_of_a_batch_are_clipped_together(exact):
    x, y = sample((200, 2), "float32", 4), sample((200, 2), "float32", 5)
    whole, parts = (NETS["layers"](exact, "float32") for _ in range(2))
    for net, part in ((whole, None), (parts, 64)):
        net.train_step(x, y, optimizer=dp.Adam(0.1, clip_norm=0.01), micro_batch=part)
    assert_same_bits(numbers(whole), numbers(parts))


# ------------------------------------------------------------------------------ what is refused

BAD: list[tuple[type[Exception], str, Any]] = [
    (ValueError, "clip_norm must be positive, got 0", lambda: dp.SGD(clip_norm=0)),
    (ValueError, "clip_norm must be finite .* got -1", lambda: dp.Adam(clip_norm=-1)),
    (ValueError, "clip_norm must be finite .* got nan", lambda: dp.AdamW(clip_norm=np.nan)),
    (ValueError, "clip_norm must be finite .* got inf", lambda: dp.Momentum(clip_norm=np.inf)),
    (TypeError, "clip_norm must be a number, got str", lambda: dp.RMSProp(clip_norm="1")),
    (TypeError, "clip_norm must be a number, got list", lambda: dp.SGD(clip_norm=[1.0])),
]


@pytest.mark.parametrize(("error", "words", "make"), BAD, ids=[words for _, words, _ in BAD])
def test_bad_norms(error, words, make):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(("norm", "words"), [(1e39, "finite"), (1e-50, "positive")])
def test_a_norm_that_the_dtype_cannot_hold(norm, words):
    net = NETS["layers"]("numba", "float32")
    before = numbers(net)
    with pytest.raises(ValueError, match=f"clip_norm must be {words} in float32"):
        net.train_step(X, Y, optimizer=dp.SGD(clip_norm=norm))
    assert_same_bits(numbers(net), before)


def test_the_norm_is_named():
    with pytest.raises(TypeError, match="positional"):
        dp.SGD(0.1, 0.0, 1.0)
    assert dp.Momentum(0.1, 0.8, clip_norm=1).momentum == 0.8
    assert dp.Adam(clip_norm=2) == dp.Adam(clip_norm=2.0) != dp.Adam()
