"""The emulated fma against exact rational arithmetic, and against the CPU's own.

Random numbers cannot see a wrong emulation: the cases below are constructed to land on the
midpoint of two floats, or so near that a second rounding decides wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numba
import numpy as np
import pytest

from conftest import assert_same_bits, sample
from deltaprop.backends.loops.jit import fma_rn
from deltaprop.fma import fma
from values import frozen, random_bits, special

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


class Format:
    """Digits and exponents of a dtype, and random numbers of it."""

    def __init__(self, dtype: str, seed: int) -> None:
        f = np.finfo(dtype)
        self.dtype, self.p = np.dtype(dtype), f.nmant + 1
        self.top, self.bottom = f.maxexp, f.minexp - f.nmant
        self.random = np.random.default_rng(seed)

    def integers(self, bits: int, count: int) -> np.ndarray:
        """Odd integers of exactly that many bits."""
        low = self.random.integers(2 ** (bits - 1), 2**bits, count)
        return (low | 1).astype(np.int64)

    def scaled(self, x: np.ndarray, power: int | np.ndarray) -> np.ndarray:
        return np.ldexp(x.astype(self.dtype), power)

    def signs(self, count: int) -> np.ndarray:
        return self.random.choice([-1, 1], count)


def products_on_a_midpoint(f: Format, count: int) -> Triple:
    """x y has p + 1 digits and ends in 1; z, far below, says where the tie goes, or is 0."""
    x = f.integers((f.p + 1) // 2, count) * f.signs(count)
    y = f.integers(f.p + 1 - (f.p + 1) // 2, count)
    power = f.random.integers(-30, 30, count)
    far = -f.p - f.random.integers(2, 60, count)
    z = f.scaled(f.random.integers(-1, 2, count), power + far)
    return f.scaled(x, power), f.scaled(y, 0), z


def sums_near_a_midpoint(f: Format, count: int) -> Triple:
    """x y is half the last digit of z and a little more or less."""
    z = f.integers(f.p, count) * f.signs(count)
    shift = f.random.integers(1, f.p // 2, count)
    e = np.ldexp(1.0, -shift - f.p // 2) * f.signs(count)
    x = (1 + e).astype(f.dtype)
    y = np.ldexp((1 - e * f.random.integers(0, 2, count)).astype(f.dtype), -1)
    return x, y * f.signs(count).astype(f.dtype), z.astype(f.dtype)


def subnormal_results(f: Format, count: int) -> Triple:
    """z is subnormal, x y a midpoint of subnormals, or 2^-2p of its size below one."""
    eps = np.finfo(f.dtype).eps
    tie = f.random.random(count) < 0.5
    x = np.where(tie, f.integers(f.p // 2, count), 1 + eps) * f.signs(count)
    y = np.where(tie, f.integers(f.p // 2, count), 1 - eps)
    half = f.bottom // 2
    z = f.random.integers(0, 2 ** (f.p - 2), count) * f.signs(count)
    return f.scaled(x, half), f.scaled(y, f.bottom - 1 - half), f.scaled(z, f.bottom)


def subnormal_operands(f: Format, count: int) -> Triple:
    """x is subnormal, y large, z of the product's size."""
    x = f.scaled(f.integers(f.p // 2, count) * f.signs(count), f.bottom)
    y = f.scaled(f.integers(f.p, count), f.top - f.p)
    z = f.scaled(f.integers(f.p, count) * f.signs(count), f.bottom + f.top - f.p // 2)
    return x, y, z


def cancellations(f: Format, count: int) -> Triple:
    """z is minus the rounded product, or a neighbour of it."""
    x = f.scaled(f.integers(f.p, count) * f.signs(count), -f.p)
    y = f.scaled(f.integers(f.p, count), f.random.integers(-20, 20, count))
    z = -(x * y)
    step = f.random.integers(-2, 3, count).astype(f.dtype)
    return x, y, z + step * np.abs(np.spacing(z))


def cancellations_far_down(f: Format, count: int) -> Triple:
    """As above, where what is left of the product is subnormal, or nearly."""
    x, y, _ = cancellations(f, count)
    power = f.bottom + f.random.integers(f.p, 3 * f.p, count)
    half = power // 2
    x, y = f.scaled(x, half), f.scaled(y, power - half - f.p)
    return x, y, -(x * y)


def overflow_border(f: Format, count: int) -> Triple:
    """x y is 2^top, give or take its last digits; z takes off half a last digit, or more."""
    half = f.top // 2
    e = f.random.integers(-2, 3, count)
    x = f.scaled(2 ** (f.p - 1) + e, half - f.p + 1)
    y = f.scaled(2 ** (f.p - 1) - f.random.integers(-2, 3, count), f.top - half - f.p + 1)
    z = f.scaled(f.random.integers(-6, 7, count), f.top - f.p - 2)
    signs = f.signs(count).astype(f.dtype)
    return x * signs, y, z * signs


CASES: dict[str, Callable[[Format, int], Triple]] = {
    make.__name__: make
    for make in (
        products_on_a_midpoint,
        sums_near_a_midpoint,
        subnormal_results,
        subnormal_operands,
        cancellations,
        cancellations_far_down,
        overflow_border,
    )
}


def nearest(value: Fraction, dtype: str) -> float:
    """A rational rounded to nearest, ties to even, as IEEE 754 says."""
    f = np.finfo(dtype)
    size = abs(value)
    power = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** power:
        power -= 1
    unit = Fraction(2) ** (max(power, f.minexp) - f.nmant)
    rounded = round(value / unit) * unit
    sign = 1.0 if value > 0 else -1.0
    overflow = abs(rounded) >= Fraction(2) ** int(f.maxexp)
    return sign * (math.inf if overflow else float(abs(rounded)))


def exact(x: float, y: float, z: float, dtype: str) -> float:
    """x y + z for finite numbers: rounded if it is not 0, else IEEE 754's zero."""
    total = Fraction(x) * Fraction(y) + Fraction(z)
    return nearest(total, dtype) if total else x * y + z if 0 in (x, y) else 0.0


@pytest.mark.parametrize("name", CASES)
def test_constructed_cases_are_rounded_once(name, dtype):
    x, y, z = CASES[name](Format(dtype, seed=1), 3000)
    wanted = [exact(*map(float, xyz), dtype) for xyz in zip(x, y, z)]
    assert_same_bits(fma(x, y, z), np.array(wanted, dtype))


@pytest.mark.parametrize("name", CASES)
def test_the_constructed_cases_see_two_roundings(name, dtype):
    x, y, z = CASES[name](Format(dtype, seed=2), 3000)
    with np.errstate(all="ignore"):
        wrong = np.mean(x * y + z != fma(x, y, z))
    assert wrong > 0.05


@pytest.mark.parametrize("name", ["products_on_a_midpoint", "sums_near_a_midpoint"])
def test_the_midpoints_see_a_sum_rounded_in_float64_first(name):
    x, y, z = CASES[name](Format("float32", seed=3), 3000)
    twice = (x.astype(np.float64) * y + z).astype(np.float32)
    assert np.mean(twice != fma(x, y, z)) > 0.05


@numba.njit(error_model="numpy")
def on_this_cpu(x, y, z, out):
    for i in range(x.size):
        out[i] = fma_rn(x[i], y[i], z[i])


def hardware(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    on_this_cpu(x, y, z, out)
    return out


def test_a_million_constructed_cases_as_on_this_cpu(dtype):
    f = Format(dtype, seed=4)
    count = {"float32": 150_000, "float64": 50_000}[dtype]
    for name, make in CASES.items():
        x, y, z = make(f, count)
        assert_same_bits(fma(x, y, z), hardware(x, y, z), name)


def test_random_bits_as_on_this_cpu(dtype):
    x, y, z = (random_bits(dtype, 100_000, seed) for seed in (5, 6, 7))
    assert_same_bits(fma(x, y, z), hardware(x, y, z))


def test_all_triples_of_special_values_as_on_this_cpu(dtype):
    v = special(dtype)
    x, y, z = (np.ascontiguousarray(t).reshape(-1) for t in np.meshgrid(v, v, v))
    assert_same_bits(fma(x, y, z), hardware(x, y, z))


ZEROS_AND_INFINITIES = [
    (0.0, -1.0, 0.0, 0.0),
    (0.0, -1.0, -0.0, -0.0),
    (-1e-30, 1e-30, 0.0, -0.0),
    (1.0, 1.0, -1.0, 0.0),
    (1e30, 1e30, -math.inf, -math.inf),
    (math.inf, 0.0, 1.0, math.nan),
    (math.inf, 1.0, -math.inf, math.nan),
    (math.inf, -2.0, 1.0, -math.inf),
    (1.0, math.nan, 1.0, math.nan),
    (1.0, 1.0, math.nan, math.nan),
]


@pytest.mark.parametrize(("x", "y", "z", "wanted"), ZEROS_AND_INFINITIES)
def test_zeros_infinities_and_nan(x, y, z, wanted, dtype):
    tiny = np.finfo(dtype).tiny
    small, large = tiny * 2.0**10, np.finfo(dtype).max / 2
    given = [math.copysign(small, v) if abs(v) == 1e-30 else large if v == 1e30 else v
             for v in (x, y, z)]  # fmt: skip
    got = fma(*(frozen(v, dtype) for v in given))
    assert_same_bits(got, np.array(wanted, dtype))


def test_shapes_broadcast(dtype):
    x, y, z = sample((3, 1, 4), dtype), sample((5, 1), dtype, 1), sample((), dtype, 2)
    got = fma(x, y, z)
    assert got.shape == (3, 5, 4) and got.dtype == dtype
    assert_same_bits(got[2, 4, 1], fma(x[2, 0, 1], y[4, 0], z))


def test_a_number_in_and_a_number_out(dtype):
    got = fma(*(np.dtype(dtype).type(v) for v in (3, 5, 7)))
    assert_same_bits(got, np.array(22, dtype))


@pytest.mark.parametrize("other", ["float16", "float64", "int32"])
def test_dtypes_do_not_mix(other):
    with pytest.raises(TypeError, match="float32"):
        fma(np.ones(2, "float32"), np.ones(2, other), np.ones(2, "float32"))
