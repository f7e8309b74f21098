"""The elementary functions, each written once, for float32 and float64.

They are straight-line code in the dialect of `scalar`, so every backend returns the same bits.
The constants are our own: `docs/coefficients.sollya` derives them and prints the two tables.

In float32 exp is within 1 unit in the last place of the exact value and the others within 2, for
all 2^32 arguments (tests/elementary_digests.json has the worst of each); in float64 all are within
2 on dense and adversarial samples. The sine and the cosine, in `periodic`, have limits.

There are two kernels. Exponentials write x = n ln 2 + r with n the nearest integer: e^x is
2^n e^r, and e^r for |r| <= ln(2)/2 is a polynomial. Logarithms take log(1 + f) as 2 atanh(s)
with s = f / (2 + f), small and odd, so that a short polynomial in s^2 does.

NaN passes through. Infinities, signed zeros and subnormal numbers, given or returned, are
right. Lanes that a `select` drops may hold anything; none of it leaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deltaprop.periodic import cos, sin
from deltaprop.scalar import (
    Real,
    copysign,
    elementary,
    exponent,
    fma,
    horner,
    maximum,
    minimum,
    pow2,
    rint,
    select,
)

LN2 = 0.69314718055994531
LOG2_E = 1.4426950408889634
SQRT2 = 1.4142135623730951
INFINITY = float("inf")
NAN = float("nan")


@dataclass(frozen=True)
class Constants:
    """What depends on the format. Coefficients go up with the degree."""

    exp_zero: float  # e^x rounds to 0 here and below
    exp_infinite: float  # e^x overflows here and above
    cdf_zero: float  # Phi(-x) rounds to 0 here and above
    ln2_low: float  # ln 2 less its rounded value
    exp: tuple[float, ...]  # (e^r - 1 - r) / r^2 in r, for |r| <= ln(2)/2
    log: tuple[float, ...]  # (2 atanh(s) - 2 s) / s^3 in s^2, for |s| <= 3 - 2 sqrt(2)
    log1p: tuple[float, ...]  # the same for 0 <= s <= 1/3
    cdf_scale: float  # these three: see normal_cdf
    cdf_center: float
    cdf: tuple[float, ...]


FLOAT32 = Constants(
    exp_zero=-104,
    exp_infinite=89,
    cdf_zero=15,
    ln2_low=-1.90465430e-9,
    exp=(
        4.99999970e-1,
        1.66665435e-1,
        4.16675024e-2,
        8.36653169e-3,
        1.38645200e-3,
    ),
    log=(
        6.66667759e-1,
        3.99775833e-1,
        2.98707962e-1,
    ),
    log1p=(
        6.66664124e-1,
        4.00217354e-1,
        2.79986292e-1,
        2.80267000e-1,
    ),
    cdf_scale=6.46142840e-1,
    cdf_center=1.10351562e-1,
    cdf=(
        4.72751188e0,
        1.24094372e1,
        3.68316680e-1,
        -9.26292877e1,
        -3.66179733e1,
        1.00717603e3,
        -5.87646851e2,
        -1.11564424e4,
        3.41680430e4,
        -2.68744453e4,
    ),
)
FLOAT64 = Constants(
    exp_zero=-746,
    exp_infinite=710,
    cdf_zero=39,
    ln2_low=2.3190468138462996e-17,
    exp=(
        5.0000000000000000e-1,
        1.6666666666666677e-1,
        4.1666666666666609e-2,
        8.3333333333214712e-3,
        1.3888888888923805e-3,
        1.9841269886448052e-4,
        2.4801587237463550e-5,
        2.7557243942400918e-6,
        2.7557353049617143e-7,
        2.5109115252316597e-8,
        2.0889411663018981e-9,
    ),
    log=(
        6.6666666666667340e-1,
        3.9999999999416719e-1,
        2.8571428742004262e-1,
        2.2222198607803748e-1,
        1.8183562701535136e-1,
        1.5314088747555685e-1,
        1.4795594023383435e-1,
    ),
    log1p=(
        6.6666666666666308e-1,
        4.0000000000156172e-1,
        2.8571428547964611e-1,
        2.2222223963837309e-1,
        1.8181744107952572e-1,
        1.5386556417779923e-1,
        1.3301015564903335e-1,
        1.2105779965568876e-1,
        8.3413468410514113e-2,
        1.7016412000345554e-1,
    ),
    cdf_scale=6.3728580572643456e-1,
    cdf_center=1.0595703125000000e-1,
    cdf=(
        4.7853011292016028e0,
        1.2925761492451139e1,
        1.5308587825253888e0,
        -9.8537149381774839e1,
        -5.9882453424163607e1,
        1.1241701565068670e3,
        -1.7320984436961544e2,
        -1.5556909636312019e4,
        3.1322054698153232e4,
        1.8310051364803931e5,
        -1.0323991890110332e6,
        -2.2726127408356901e5,
        2.0578309606565442e7,
        -7.0903228858603790e7,
        -1.4868533611598849e8,
        2.1635067351081200e9,
        -6.2538987248970089e9,
        -2.1713016032674427e10,
        2.4831979849379993e11,
        -6.0277400593479602e11,
        -2.9637991384835210e12,
        2.3588910860903441e13,
        -3.3837210693931727e13,
        -2.0922833192263975e14,
        9.5291451025608938e14,
        -1.2084636848619318e15,
    ),
)

CONSTANTS = {"float32": FLOAT32, "float64": FLOAT64}


def _constants(x: Real) -> Constants:
    return CONSTANTS[x.dtype.name]


def _reduce(x: Real) -> tuple[Real, Real]:
    """n and high, such that x = n ln 2 + high - n ln2_low and |high| <= ln(2)/2 or just above.

    high is exact: where n is not 0, x and n LN2 are multiples of the ulp of 1/4.
    """
    n = rint(x * LOG2_E)
    return n, fma(n, -LN2, x)


def _expm1_low(high: Real, low: Real) -> Real:
    """e^(high + low) - 1 - high, where low is at most a few ulp of high.

    This is small, and so is its error. With it e^r - 1 is known better than in one number.
    """
    r = high + low
    return fma(r * r, horner(r, _constants(r).exp), low)


@elementary
def scale(y: Real, n: Real) -> Real:
    """2^n y, rounded once, in two steps for an n beyond the exponents of normal numbers.

    The first step is exact. The second one rounds a subnormal result, or overflows. Some
    processors have an instruction for both, see backends/loops/rules.py.
    """
    half = rint(0.5 * n)
    return y * pow2(half) * pow2(n - half)


def _exp(x: Real) -> Real:
    """e^x, for x up to where it overflows."""
    c = _constants(x)
    n, high = _reduce(maximum(x, c.exp_zero))
    r = fma(n, -c.ln2_low, high)
    return scale(horner(r, (1, 1, *c.exp)), n)


@elementary
def exp(x: Real) -> Real:
    """e^x = 2^n e^r; e^r is minimax of degree 6 in float32 and 12 in float64."""
    return _exp(minimum(x, _constants(x).exp_infinite))


@elementary
def expm1(x: Real) -> Real:
    """e^x - 1 = 2^n (e^r - 1) + (2^n - 1), with e^r - 1 = high + low.

    2^n high + (2^n - 1) is exact where it cancels, and rounds once where it does not.
    """
    c = _constants(x)
    n, high = _reduce(minimum(maximum(x, -40), c.exp_infinite))  # e^-40 - 1 rounds to -1
    low = _expm1_low(high, n * -c.ln2_low)
    s = pow2(n - 1)  # not 2^n, which can overflow where the result does not
    y = 2 * fma(s, low, fma(s, high, s - 0.5))
    return select(abs(x) < 2.0**-60, x, y)  # half a subnormal number would round; -0 stays


@elementary
def tanh(x: Real) -> Real:
    """tanh|x| = (1 - e) / (1 + e) with e = e^(-2|x|) = 2^n (1 + high + low).

    e - 1 = 2^n (high + low) + (2^n - 1) is summed as lead + rest + small and rounded once.
    """
    c = _constants(x)
    n, high = _reduce(-2 * minimum(abs(x), 20))  # tanh 20 rounds to 1
    low = _expm1_low(high, n * -c.ln2_low)
    s = pow2(n)
    lead = fma(s, high, s - 1)
    rest = fma(s, high, (s - 1) - lead)  # the rounding error of lead, exactly
    above = lead + fma(s, low, rest)
    below = fma(s, high + low, s + 1)
    return copysign(above / below, x)


@elementary
def logistic(x: Real) -> Real:
    """1 / (1 + e^-x) as v - v u, with e = e^-|x|, u = e / (1 + e) and v = min(1, e^x).

    v u is at most half of v, and so are the two roundings in u; in v / (1 + e) they are whole.
    """
    e = _exp(-abs(x))
    v = select(x < 0, e, 1)
    return fma(-v, e / (1 + e), v)


def _log1p(f: Real, coefficients: tuple[float, ...]) -> Real:
    """log(1 + f) = 2 atanh(s) = 2 s + s z P(z), with s = f / (2 + f) and z = s^2.

    Since 2 s = f - s f, it is f - s (f - z P(z)): f leads, and the rounding of s hardly counts.
    """
    s = f / (2 + f)
    z = s * s
    return fma(-s, fma(-z, horner(z, coefficients), f), f)


def _log_limits(x: Real, pole: float, y: Real) -> Real:
    """y, the logarithm of x - pole, but at the pole, below it, at infinity and for NaN right."""
    return select(x <= pole, select(x < pole, NAN, -INFINITY), select(x < INFINITY, y, x))


@elementary
def log(x: Real) -> Real:
    """log(2^k (1 + f)) = k ln 2 + log(1 + f), with 1 + f between sqrt(1/2) and sqrt(2).

    P has degree 2 in float32 and 6 in float64. ln 2 rounded once is off by 0.3 ulp at most.
    """
    small = x < 1  # make subnormal numbers normal, and 2^-k normal for large ones
    y = x * select(small, 2.0**54, 2.0**-2)
    k = exponent(y * SQRT2)
    f = fma(y, pow2(-k), -1)
    k = k + select(small, -54, 2)
    return _log_limits(x, 0, fma(k, LN2, _log1p(f, _constants(x).log)))


@elementary
def log1p(x: Real) -> Real:
    """log(1 + x) as in `log`, with f = 2^-k x + (2^-k - 1): 1 + x itself is never rounded."""
    k = exponent(fma(x, SQRT2 / 4, SQRT2 / 4))  # of (1 + x) / 4, for which 2^-k is normal
    s = 0.25 * pow2(-k)
    f = fma(x, s, s - 1)
    y = fma(k + 2, LN2, _log1p(f, _constants(x).log))
    return _log_limits(x, -1, copysign(y, x))  # copysign: log1p(-0) is -0


@elementary
def softplus(x: Real) -> Real:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).

    The exponential is at most 1, hence s at most 1/3, so that a P of degree 3 in float32 and
    9 in float64 saves the range reduction of the logarithm.
    """
    return maximum(x, 0) + _log1p(_exp(-abs(x)), _constants(x).log1p)


CDF_K = 2.5


@elementary
def normal_cdf(x: Real) -> Real:
    """Phi(x) = (1 + erf(x / sqrt 2)) / 2: Phi(-a) = e^(-a^2/2) T(a) and Phi(a) = 1 - Phi(-a).

    T(a) falls from 1/2 towards 1 / (sqrt(2 pi) a). In t = scale / (K + a) that is nearly a
    straight line: T = t (1 + u P(u)), with u = t - center and P of degree 9 in float32 and 25
    in float64.

    A product of so many rounded factors would be off by 3 ulp. But an exponential can absorb
    relative errors: those of a^2 and t are computed and added to its argument. T and e^r stay
    sums of a leading and a small part until they are multiplied.
    """
    c = _constants(x)
    a = minimum(abs(x), c.cdf_zero)

    d = CDF_K + a
    t = c.cdf_scale / d
    u = t - c.cdf_center  # exact for a < 11
    v = u * horner(u, c.cdf)
    tail = fma(t, v, t)
    tail_low = fma(t, v, t - tail)

    # With d off by d - K - a, t should be larger by the fraction t_error / scale. Then T would
    # be larger by d ln T / d ln t times that, which is from 1.1 to 2 and nearly linear in t.
    t_error = fma((d - CDF_K) - a, t, fma(-d, t, c.cdf_scale))
    b = -0.5 * a
    power = a * b
    power_low = fma(fma(t, 6, 1.65), t_error, fma(a, b, -power))

    n, high = _reduce(power)
    low = _expm1_low(high, fma(n, -c.ln2_low, power_low))
    y = scale(tail + fma(tail, high, fma(tail, low, tail_low)), n)
    return select(x < 0, y, 1 - y)


ELEMENTARY: dict[str, Callable[..., Real]] = {
    rule.__name__: rule
    for rule in (exp, expm1, log, log1p, logistic, tanh, softplus, normal_cdf, sin, cos)
}
