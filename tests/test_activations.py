"""Activations: value and slope against their formulas, at the ends and kinks, on every backend.

Everything is parametrised from the table: a new activation needs its formula here and no test.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from mpmath import mp, mpf

import deltaprop as dp
from conftest import assert_same_bits
from deltaprop.activations import ALPHA, LEAK
from values import apply, frozen, random_bits, special, unit_roundoff

Formula = Callable[[mpf], mpf]


def far_logistic(u: mpf) -> mpf:
    return 1 / (1 + mp.exp(-u))


def distribution(z: mpf) -> mpf:
    return mp.ncdf(min(max(z, -1000), 1000))


def gelu_tanh(z: mpf) -> mpf:
    return z * far_logistic(2 * mp.sqrt(2 / mp.pi) * (z + mpf(0.044715) * z**3))


def mish(z: mpf) -> mpf:
    return z * mp.tanh(max(z, 0) + mp.log1p(mp.exp(-abs(z))))


def squareplus(z: mpf) -> mpf:
    root = mp.sqrt(z * z + 4)
    return 2 / (root - z) if z < 0 else (z + root) / 2


FORMULAS: dict[str, Formula] = {
    "identity": lambda z: z,
    "logistic": far_logistic,
    "tanh": mp.tanh,
    "relu": lambda z: max(z, mpf(0)),
    "leaky_relu": lambda z: z if z > 0 else LEAK * z,
    "elu": lambda z: z if z > 0 else ALPHA * mp.expm1(z),
    "softplus": lambda z: mp.log1p(mp.exp(z)),
    "silu": lambda z: z * far_logistic(z),
    "gelu": lambda z: z * distribution(z),
    "gelu_tanh": gelu_tanh,
    "mish": mish,
    "squareplus": squareplus,
    "hard_sigmoid": lambda z: min(max(z / 6 + mpf(1) / 2, mpf(0)), mpf(1)),
    "sine": mp.sin,
    "softmax": lambda z: z,  # of one unit; the row is the kernel's
}
# Where the slope jumps, and the slope to the left, which is that at the kink too.
KINKS = {
    "relu": {0: 0.0},
    "leaky_relu": {0: LEAK},
    "hard_sigmoid": {-3: 0.0, 3: 1 / 6},
}
ALGEBRAIC = ("squareplus",)
"""The slope is within 1/z^2 of its limit; the others are there before z is 1000."""
PERIODIC = {"sine": 2.0**20}
"""They have no limits, and are accurate up to here."""
K = 8
"""Roundings that a value may be off by, of itself or of z; bounds.py allows slopes as much.

The slopes do not move any more where |z| is above 100.
"""

activations = pytest.mark.parametrize("name", dp.ACTIVATIONS)


def value(name: str, z: np.ndarray, backend: str = "reference") -> np.ndarray:
    return apply(backend, dp.ACTIVATIONS[name].value, z)


def slope(name: str, z: np.ndarray, backend: str = "reference") -> np.ndarray:
    """g'(z), taken from a or z as the activation says."""
    g = dp.ACTIVATIONS[name]
    return apply(backend, g.slope, value(name, z, backend) if g.slope_of == "a" else z)


def exact_slope(name: str, z: float) -> mpf:
    """g'(z) from a difference quotient so fine that only 40 digits of it are right."""
    if z in KINKS.get(name, {}):
        return mpf(KINKS[name][z])
    if abs(z) > 1000 and name not in PERIODIC:
        return limit(name, z)[1]
    with mp.workprec(500):
        h = mp.ldexp(1, -150) * (abs(mpf(z)) if 0 in KINKS.get(name, {}) else 1)
        f, z = FORMULAS[name], mpf(z)
        return (f(z + h) - f(z - h)) / (2 * h)


def limit(name: str, z: float) -> tuple[mpf, mpf]:
    """What g and g' tend to on the side of z."""
    if name in PERIODIC:
        return mpf("nan"), mpf("nan")
    far = mp.mpf(10) ** 400 * int(np.sign(z))
    value, nearer = FORMULAS[name](far), FORMULAS[name](far / 2)
    slope = (value - nearer) / (far / 2)
    return (mpf("inf") * mp.sign(value) if abs(value) > 1000 else value), slope


def inputs(dtype: str, name: str = "") -> np.ndarray:
    x = np.concatenate([special(dtype), np.linspace(-40, 40, 161), np.linspace(-3, 3, 100)])
    end = PERIODIC.get(name, np.finfo(dtype).max)
    return frozen(np.unique(x[np.abs(x) <= end]), dtype)


@activations
def test_value_is_the_formula(name, dtype, backend):
    z, u = inputs(dtype, name), unit_roundoff(dtype)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    for z_i, got in zip(map(float, z), map(float, value(name, z, backend))):
        exact = FORMULAS[name](mpf(z_i))
        moved = abs(z_i * exact_slope(name, z_i))
        # A factor may have underflowed, to within 2 subnormals, before it meets z.
        underflow = 2 * tiny * (1 + min(abs(z_i), 1000))
        assert abs(got - exact) <= K * u * (abs(exact) + moved) + underflow, z_i


@activations
def test_slope_is_the_derivative(name, dtype, backend):
    z, u = inputs(dtype, name), unit_roundoff(dtype)
    for z_i, got in zip(map(float, z), map(float, slope(name, z, backend))):
        assert abs(got - exact_slope(name, z_i)) <= K * u * (1 + min(abs(z_i), 100)), z_i


@activations
def test_slope_is_the_central_difference(name):
    h, u = 2.0**-16, unit_roundoff("float64")
    z = frozen(np.linspace(-4, 4, 200), "float64")
    difference = (value(name, z + h) - value(name, z - h)) / (2 * h)
    # Half the third derivative is below 1 for all of them; and two values' rounding over 2 h.
    bound = h**2 + K * u * (1 + np.abs(z)) / h
    assert np.all(np.abs(difference - slope(name, z)) <= bound)


def assert_equal(got: np.ndarray, wanted: np.ndarray) -> None:
    """As numbers: -0 is 0, and NaN is NaN."""
    assert np.array_equal(got, wanted, equal_nan=True), (got, wanted)


@activations
@pytest.mark.parametrize("end", [-math.inf, math.inf])
def test_at_infinity_is_the_limit(name, dtype, backend, end):
    z = frozen([end], dtype)
    wanted_value, wanted_slope = (float(x) for x in limit(name, end))
    assert_equal(value(name, z, backend), np.array([wanted_value], dtype))
    assert_equal(slope(name, z, backend), np.array([wanted_slope], dtype))


@activations
def test_far_out_is_the_limit_too(name, dtype, exact):
    z = frozen([1e30, np.finfo(dtype).max], dtype)
    for side in (z, -z):
        wanted = np.array(float(limit(name, side[0])[1]), dtype)
        near = (1 / side.astype(np.float64)) ** 2 * (1 + 1e-6) if name in ALGEBRAIC else 0
        if name not in PERIODIC:
            assert np.all(np.abs(slope(name, side, exact) - wanted) <= near)
        assert not np.isnan(value(name, side, exact)).any()


@activations
def test_nan_is_kept(name, dtype, backend):
    z = frozen([math.nan], dtype)
    assert np.isnan(value(name, z, backend)).all()
    # A slope that takes only two values may be either; what it multiplies is NaN already.
    if not np.isnan(slope(name, z, backend)).all():
        assert slope(name, z, backend) in slope(name, frozen([-1, math.inf], dtype), backend)


@activations
def test_the_sign_of_zero(name, dtype, backend):
    """+-0 times a slope that is not 0; ReLU gives +0, as specified."""
    got = value(name, frozen([-0.0, 0.0], dtype), backend)
    if FORMULAS[name](mpf(0)) == 0:
        assert_same_bits(got, np.array([0.0 if name == "relu" else -0.0, 0.0], dtype))


@activations
def test_the_slope_at_zero(name, dtype, backend):
    """One number for both zeros; at a kink, that of the left side."""
    left, right = slope(name, frozen([-0.0, 0.0], dtype), backend)
    assert left == right
    if 0 in KINKS.get(name, {}):
        assert left == np.array(KINKS[name][0], dtype)


@activations
def test_kinks_are_where_the_sides_differ(name, dtype):
    """Everywhere else the second derivative is below 3/2."""
    z = np.linspace(-40, 40, 641)
    kinks = np.array([z_i in KINKS.get(name, {}) for z_i in z])
    h = 2.0**-10
    left, there, right = (slope(name, frozen(z + step, dtype)) for step in (-h, 0, h))
    jumps = np.maximum(abs(there - left), abs(right - there)) > 1.5 * h
    assert np.array_equal(jumps, kinks)
    assert_same_bits(there[kinks], np.array(list(KINKS.get(name, {}).values()), dtype))


@activations
def test_slope_of_names_what_the_slope_is_taken_from(name):
    g = dp.ACTIVATIONS[name]
    other = {"a": value(name, frozen([-1.5], "float64")), "z": frozen([-1.5], "float64")}
    right = float(exact_slope(name, -1.5))
    assert apply("reference", g.slope, other[g.slope_of]) == pytest.approx(right, rel=1e-12)


def test_slope_of_is_read_from_the_parameter():
    of_z = dp.Activation("of_z", lambda z: z, lambda z: 1)
    of_a = dp.Activation("of_a", lambda z: z, lambda a: 1)
    assert (of_z.slope_of, of_a.slope_of) == ("z", "a")


@activations
def test_the_same_bits_everywhere(name, dtype, exact):
    z = np.concatenate([special(dtype), inputs(dtype), random_bits(dtype, 10_000)])
    assert_same_bits(value(name, z, exact), value(name, z), "value")
    assert_same_bits(slope(name, z, exact), slope(name, z), "slope")
