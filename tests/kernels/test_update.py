"""update: each state, then w, takes its new value by the rules of an optimizer, in place."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.backends import load
from deltaprop.optimizers import DESCENT, OPTIMIZERS, SGD, Adam, Momentum, power, rules_of
from kernels import textbook
from kernels.helpers import (
    FAMILIES,
    SIZES,
    as_specified,
    assert_as_reference,
    assert_within,
    fractions,
    hostile,
    rounded,
    run,
    unit_roundoff,
)

EVERY = [kind(weight_decay=decay) for kind in OPTIMIZERS.values() for decay in (0.0, 0.25)]
EVERY += [Momentum(nesterov=True, weight_decay=decay) for decay in (0.0, 0.25)]
every_optimizer = pytest.mark.parametrize("optimizer", EVERY, ids=str)


def arguments(optimizer, size, dtype, step=3):
    """Of an update; a state that is a mean of squares is not negative."""
    w, g, s, t = (sample(size, dtype, seed) for seed in (1, 2, 3, 4))
    states = (s * s,) if "RMSProp" in str(optimizer) else (s, t * t)
    count = len(optimizer.rules) - 1
    return w, g, states[:count], optimizer.rules, optimizer.constants(0.1, step)


@every_optimizer
def test_every_optimizer(exact, dtype, optimizer):
    for size in (1, 5, 1001):
        assert_as_reference(exact, "update", *arguments(optimizer, size, dtype), what=str(size))


@pytest.mark.parametrize("optimizer", [SGD(), Adam()], ids=str)
def test_every_size(exact, dtype, optimizer):
    for size in SIZES:
        assert_as_reference(exact, "update", *arguments(optimizer, size, dtype), what=str(size))


@every_optimizer
@pytest.mark.parametrize("family", FAMILIES)
def test_special_numbers(exact, dtype, optimizer, family):
    w, g, s, t = (hostile(family, 200, dtype, seed) for seed in range(4))
    states = (s, t)[: len(optimizer.rules) - 1]
    for eta in (0.0, 1e-3, 1e30):
        args = w, g, states, optimizer.rules, optimizer.constants(eta, 1)
        assert_as_reference(exact, "update", *args, what=f"eta {eta}")


@pytest.mark.parametrize("optimizer", [SGD(), Adam()], ids=str)
def test_arrays_that_begin_anywhere(exact, dtype, optimizer):
    """Each array inside a larger one, where 16 bytes do not begin, and nothing beside it moves."""
    *arrays, states, rules, constants = arguments(optimizer, 37, dtype)
    flat, k = [*arrays, *states], load(exact)
    wanted = run("reference", "update", *arrays, states, rules, constants)
    wanted = dict(zip([0, *range(2, len(flat))], np.atleast_2d(wanted)))
    for shift in (0, 1, 2, 3):
        buffers = [np.full(50, 7, dtype) for _ in flat]
        for i, (buffer, x) in enumerate(zip(buffers, flat)):
            buffer[i + shift : i + shift + 37] = x
        there = [k.arrays.asarray(buffer) for buffer in buffers]
        w, g, *s = (x[i + shift : i + shift + 37] for i, x in enumerate(there))
        k.update(w, g, s, rules, constants)
        for i, x in enumerate(there):
            expected = np.full(50, 7, dtype)
            expected[i + shift : i + shift + 37] = wanted.get(i, flat[i])
            assert_same_bits(k.arrays.to_numpy(x), expected, f"array {i}, shift {shift}")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_share_the_parameters(threads, dtype, count):
    threads(count)
    for size in (1, 15, 16, 17, 1000):
        assert_as_reference("numba", "update", *arguments(Adam(), size, dtype), what=str(size))


# ------------------------------------------------------------------------ what is specified


@as_specified
def test_one_rounding(specified, dtype):
    """w - eta g in exact arithmetic, rounded once; eta itself is rounded to the dtype first.

    w is nearly eta g: a product rounded on its own would leave nothing but its error.
    """
    g = sample(200, dtype)
    eta = np.dtype(dtype).type(0.1)
    w = eta * g
    exact = [Fraction(float(x)) - Fraction(float(eta)) * Fraction(float(y)) for x, y in zip(w, g)]
    wanted = np.array([rounded(x, dtype) for x in exact])
    assert np.count_nonzero(wanted) > 100
    assert_same_bits(run(specified, "update", w, g, (), DESCENT, (0.1,)), wanted)


def fma(x, y, z):
    """Each element of x y + z, rounded once."""
    x, y, z = np.broadcast_arrays(x, y, z)
    exact = fractions(x) * fractions(y) + fractions(z)
    return np.array([rounded(e, z.dtype) for e in exact])


@as_specified
def test_the_roundings(specified, dtype):
    """Of every optimizer, as the specification has them."""
    real, (w, g, m) = np.dtype(dtype).type, (sample(40, dtype, seed) for seed in (1, 2, 3))
    v = m * m
    eta, mu, a, b, eps, decay = map(real, (0.1, 0.9, 1 - 0.9, 1 - 0.999, 1e-8, 0.25))
    bias = [1 - 0.9 * 0.9 * 0.9, 1 - 0.999 * 0.999 * 0.999]
    eta_3, c = real(0.1 / bias[0]), real(1 / bias[1])

    def adam(g, w):
        m_new, v_new = fma(a, g - m, m), fma(b, fma(g, g, -v), v)
        return fma(-eta_3, m_new / (np.sqrt(c * v_new) + eps), w), m_new, v_new

    momentum, alpha = fma(mu, m, g), real(1 - 0.99)
    rms = fma(alpha, fma(g, g, -v), v)
    decayed = fma(decay, w, g)
    for optimizer, states, wanted in (
        (SGD(weight_decay=0.25), (), (fma(-eta, decayed, w),)),
        (Momentum(), (m,), (fma(-eta, momentum, w), momentum)),
        (Momentum(nesterov=True), (m,), (fma(-eta, fma(mu, momentum, g), w), momentum)),
        (OPTIMIZERS["RMSProp"](), (v,), (fma(-eta, g / (np.sqrt(rms) + eps), w), rms)),
        (Adam(), (m, v), adam(g, w)),
        (Adam(weight_decay=0.25), (m, v), adam(decayed, w)),
        (OPTIMIZERS["AdamW"](weight_decay=0.25), (m, v), adam(g, fma(-real(0.1 * 0.25), w, w))),
    ):
        args = w, g, states, optimizer.rules, optimizer.constants(0.1, 3)
        got = run(specified, "update", *args)
        assert_same_bits(np.atleast_2d(got), np.array(wanted), str(optimizer))


def test_a_rule_sees_the_states_before_it(backend, dtype):
    rules, _ = rules_of(
        "c", s=lambda g, s: s + g, t=lambda s, t: s + t, w=lambda w, t, c: c * w + t
    )
    w, g, s, t = (np.full(9, x, dtype) for x in (1, 10, 100, 1000))
    got = run(backend, "update", w, g, (s, t), rules, (3.0,))
    assert [x[4] for x in got] == [3 + 1110, 110, 1110]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 1000, 123_456])
def test_powers(n):
    """By squaring, the highest bit first: as exact as the multiplications are many."""
    x = 0.999

    def squared(n):
        half = squared(n // 2) ** 2 if n > 1 else 1.0
        return half * x if n % 2 else half

    assert power(x, n) == squared(n)
    exact = Fraction(x) ** n if n < 2000 else None
    assert exact is None or abs(Fraction(power(x, n)) / exact - 1) < 2 * n * Fraction(2) ** -53


# ---------------------------------------------------------------------------- the equations


def test_the_equation(backend, dtype):
    """Within two roundings of w - eta g."""
    w, g = sample(300, dtype, 1), sample(300, dtype, 2)
    eta = Fraction(float(np.dtype(dtype).type(0.3)))
    bound = 2 * unit_roundoff(dtype) * (np.abs(fractions(w)) + eta * np.abs(fractions(g)))
    got = run(backend, "update", w, g, (), DESCENT, (0.3,))
    assert_within(got, fractions(w) - eta * fractions(g), bound)


STEPS = 50


@every_optimizer
def test_many_steps(backend, dtype, optimizer):
    """As a textbook has them, with many digits; gradients that change sign, and one that is 0."""
    k, w = load(backend), sample(6, dtype, 1)
    gradients = [sample(6, dtype, 100 + step) for step in range(STEPS)]
    gradients[7] = np.zeros(6, dtype)
    there = k.arrays.asarray(w.copy())
    states = [k.arrays.asarray(np.zeros(6, dtype)) for _ in optimizer.rules[:-1]]
    for step, g in enumerate(gradients, start=1):
        k.update(
            there, k.arrays.asarray(g), states, optimizer.rules, optimizer.constants(0.05, step)
        )
    wanted = textbook.trained(optimizer, 0.05, w, gradients)
    bound = 4 * STEPS * unit_roundoff(dtype) * (1 + np.abs(wanted))
    assert_within(k.arrays.to_numpy(there), wanted, bound, str(optimizer))
