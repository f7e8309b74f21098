"""The sine and the cosine, written once, for float32 and float64.

Straight-line code in the dialect of `scalar`, as the other elementary functions are, and in their
table. The constants are our own: `docs/coefficients.sollya` derives them and prints the tables.

One kernel: x = m pi + r, with m the nearest integer for the sine and the nearest half-integer for
the cosine, so that either function is sin r but for its sign, and r is small where it vanishes.

Up to |x| = 2^20 in float32 and 2^40 in float64 both are within 2 units in the last place. Beyond
that x counts as 0: the results are the same everywhere and in [-1, 1], but not accurate. NaN and
infinities give NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

from deltaprop.scalar import Real, elementary, fma, horner, maximum, minimum, rint, select

PI = 3.1415926535897931
INVERSE_PI = 0.31830988618379067
COS_SLOPE = 0.40528473456935109
"""4 / pi^2: 1 less this times r^2 is the cosine of r to within 6 hundredths, and 0 where it is."""


@dataclass(frozen=True)
class Constants:
    """What depends on the format: pi is PI + pi_middle + pi_low, each rounded."""

    limit: float  # of the arguments for which the results are accurate
    pi_middle: float
    pi_low: float
    sin: tuple[float, ...]  # (sin(r) - r) / r^3 in r^2, for |r| up to pi/2 and a little more


FLOAT32 = Constants(
    limit=2.0**20,
    pi_middle=-8.74227766e-8,
    pi_low=-3.43024902e-15,
    sin=(
        -1.66666672e-1,
        8.33334588e-3,
        -1.98422073e-4,
        2.75746083e-6,
        -2.45207445e-8,
    ),
)
FLOAT64 = Constants(
    limit=2.0**40,
    pi_middle=1.2246467991473532e-16,
    pi_low=-2.9947698097183397e-33,
    sin=(
        -1.6666666666666666e-1,
        8.3333333333332118e-3,
        -1.9841269841215216e-4,
        2.7557319212113337e-6,
        -2.5052106957854108e-8,
        1.6058943783171285e-10,
        -7.6430928803195478e-13,
        2.7221969414676663e-15,
    ),
)
CONSTANTS = {"float32": FLOAT32, "float64": FLOAT64}


def _two_sum(x: Real, y: Real) -> tuple[Real, Real]:
    """x + y rounded, and its error (Knuth)."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


def _reduce(x: Real, m: Real) -> tuple[Real, Real]:
    """x - m pi as the sum of two numbers, r and its error, good to a few bits of the second.

    m times a word of pi is a product and its error, exactly. Where x is near m pi the leading
    differences are exact as well, so that what is left keeps all its bits.
    """
    c = CONSTANTS[x.dtype.name]
    high = m * PI
    middle = m * c.pi_middle
    r, error_1 = _two_sum(x, -high)
    r, error_2 = _two_sum(r, -fma(m, PI, -high))
    r, error_3 = _two_sum(r, -middle)
    rest = fma(m, c.pi_low, fma(m, c.pi_middle, -middle))
    return _two_sum(r, (error_1 + error_2 + error_3) - rest)


def _sin_reduced(r: Real, low: Real) -> Real:
    """sin(r + low) = r + (r z P(z) + low cos r), z = r^2, where low is half an ulp of r at most.

    Near pi/2 the roundings could lead above 1.
    """
    z = r * r
    tangent = low * fma(z, -COS_SLOPE, 1)
    y = r + fma(r, z * horner(z, CONSTANTS[r.dtype.name].sin), tangent)
    return minimum(maximum(y, -1), 1)


def _within_limit(x: Real) -> Real:
    """x, or 0 beyond the limit; NaN for infinities, as for NaN."""
    return select(abs(x) <= CONSTANTS[x.dtype.name].limit, x, x - x)


def _sign(k: Real) -> Real:
    """(-1)^k for an integer k."""
    return 1 - 2 * abs(k - 2 * rint(0.5 * k))


@elementary
def sin(x: Real) -> Real:
    """sin(k pi + r) = (-1)^k sin r; P has degree 4 in float32 and 7 in float64."""
    x = _within_limit(x)
    k = rint(x * INVERSE_PI)
    y = _sign(k) * _sin_reduced(*_reduce(x, k))
    return select(abs(x) < 2.0**-60, x, y)  # -0 stays


@elementary
def cos(x: Real) -> Real:
    """cos((k + 1/2) pi + r) = -(-1)^k sin r."""
    x = _within_limit(x)
    k = rint(fma(x, INVERSE_PI, -0.5))
    return -_sign(k) * _sin_reduced(*_reduce(x, k + 0.5))
