"""The elementary functions: accuracy in ulp, special values, the same bits everywhere.

The slow test goes through all 2^32 float32 inputs; it compares the results with float64 and
their digest with elementary_digests.json, which `python tests/test_elementary.py [name ...]`
writes, anew for the functions named or for all.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import mpmath
import numba
import numpy as np
import pytest
from mpmath import mp

from conftest import assert_same_bits
from deltaprop.backends import load
from deltaprop.elementary import ELEMENTARY
from values import apply, frozen, neighbours, random_bits, special

TARGET = {"float32": {"exp": 1.0}, "float64": {}}
"""In ulp; 2 where nothing is said."""

EXACT: dict[str, Callable[[mpmath.mpf], mpmath.mpf]] = {
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p": mp.log1p,
    "logistic": lambda x: 1 / (1 + mp.exp(-x)),
    "tanh": mp.tanh,
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "normal_cdf": lambda x: mp.ncdf(min(max(x, -1000), 1000)),
    "sin": mp.sin,
    "cos": mp.cos,
}
INF, NAN = math.inf, math.nan
AT_INFINITIES = {
    "exp": (0, INF),
    "expm1": (-1, INF),
    "log": (NAN, INF),
    "log1p": (NAN, INF),
    "logistic": (0, 1),
    "tanh": (-1, 1),
    "softplus": (0, INF),
    "normal_cdf": (0, 1),
    "sin": (NAN, NAN),
    "cos": (NAN, NAN),
}
# At -0 and +0, where the value is a power of two, a zero or an infinity.
AT_ZEROS = {
    "exp": (1, 1),
    "expm1": (-0.0, 0.0),
    "log": (-INF, -INF),
    "log1p": (-0.0, 0.0),
    "logistic": (0.5, 0.5),
    "tanh": (-0.0, 0.0),
    "sin": (-0.0, 0.0),
    "cos": (1, 1),
}
RANGE = {
    "exp": (0, INF),
    "expm1": (-1, INF),
    "log": (-INF, INF),
    "log1p": (-INF, INF),
    "logistic": (0, 1),
    "tanh": (-1, 1),
    "softplus": (0, INF),
    "normal_cdf": (0, 1),
    "sin": (-1, 1),
    "cos": (-1, 1),
}
START = {"log": 0.0, "log1p": -1.0}
"""Below it a function is NaN."""

PERIODIC = ("sin", "cos")
LIMIT = {"float32": 2.0**20, "float64": 2.0**40}
"""Of the arguments for which periodic functions are accurate."""

functions = pytest.mark.parametrize("name", ELEMENTARY)


def ulps(got: float, exact: mpmath.mpf, dtype: str) -> float:
    """|got - exact| in units of the last place of `exact`; infinity stands for 2^top."""
    f = np.finfo(dtype)
    top = mp.ldexp(1, int(f.maxexp))
    value = mp.sign(got) * top if math.isinf(got) else mp.mpf(got)
    exact = min(max(exact, -top), top)
    power = mp.frexp(exact)[1] - 1 if exact else f.minexp
    unit = mp.ldexp(1, max(int(f.minexp), min(power, int(f.maxexp) - 1)) - int(f.nmant))
    return float(abs(value - exact) / unit)


def multiples_of_half_pi(dtype: str) -> np.ndarray:
    """The first hundred, those that numbers of the format are nearest to, and random ones."""
    most = 2 * LIMIT[dtype] / math.pi
    random = 2 ** np.random.default_rng(4).uniform(0, math.log2(most), 200)
    with mp.workprec(200):
        counts = [*range(100), *map(int, random), *nearly_multiples(most)]
        return np.array([float(k * mp.pi / 2) for k in counts])


def nearly_multiples(most: float) -> list[int]:
    """Denominators of the convergents of pi / 2 / 2^e: k for which k pi/2 is nearly 2^e n."""
    found = set()
    for e in range(-60, 10):
        x, before, k = mp.pi / 2 / mp.mpf(2) ** e, 0, 1
        while k <= most and x != mp.floor(x):
            found.add(int(k))
            x = 1 / (x - mp.floor(x))
            before, k = k, int(mp.floor(x)) * k + before
    return sorted(found)


def hard_inputs(dtype: str) -> np.ndarray:
    """Where argument reductions break, series begin and results overflow, and neighbours."""
    f = np.finfo(dtype)
    k = np.arange(-160.0, 160)
    reductions = np.concatenate([k * math.log(2) / 2, k * math.log(2) / 4])
    powers = 2.0 ** np.arange(-70, 70)
    powers = np.concatenate([powers, powers * math.sqrt(2), powers - 1, 1 + 1 / powers])
    edges = np.log([float(f.max), float(f.tiny), float(f.smallest_subnormal)])
    tails = np.sqrt(-2 * edges[1:])
    quarters = multiples_of_half_pi(dtype)
    both = np.concatenate(
        [reductions, powers, quarters, edges, edges / 2, tails, [1, f.max, f.tiny]]
    )
    return neighbours(np.concatenate([both, -both]), dtype)


def dense_inputs(dtype: str, count: int) -> np.ndarray:
    """Evenly over where anything happens, and over all exponents."""
    end = {"float32": 110, "float64": 760}[dtype]
    return np.concatenate(
        [
            np.linspace(-end, end, count, dtype=dtype),
            np.linspace(-40, 10, count, dtype=dtype),
            np.linspace(-2, 2, count, dtype=dtype),
            random_bits(dtype, count),
        ]
    )


@functions
def test_accuracy(name, dtype):
    x = np.concatenate([special(dtype), hard_inputs(dtype), dense_inputs(dtype, 500)])
    end = LIMIT[dtype] if name in PERIODIC else INF
    x = np.unique(x[np.isfinite(x) & (x > START.get(name, -INF)) & (np.abs(x) <= end)])
    got = apply("reference", ELEMENTARY[name], frozen(x, dtype))
    with mp.workprec(200):
        errors = [ulps(float(y), EXACT[name](mp.mpf(float(v))), dtype) for v, y in zip(x, got)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= TARGET[dtype].get(name, 2.0), f"{errors[worst]} ulp at {x[worst]!r}"


@functions
def test_at_infinities_and_nan(name, dtype, backend):
    got = apply(backend, ELEMENTARY[name], frozen([-INF, INF, NAN], dtype))
    assert_same_bits(got, np.array([*AT_INFINITIES[name], NAN], dtype))


@pytest.mark.parametrize("name", AT_ZEROS)
def test_at_zeros(name, dtype, backend):
    got = apply(backend, ELEMENTARY[name], frozen([-0.0, 0.0], dtype))
    assert_same_bits(got, np.array(AT_ZEROS[name], dtype))


@functions
def test_outside_the_domain_is_nan_and_nowhere_else(name, dtype, exact):
    x = np.concatenate([special(dtype), random_bits(dtype, 20000)])
    got = apply(exact, ELEMENTARY[name], x)
    wanted = np.isnan(x) | (x < START.get(name, -INF))
    if name in PERIODIC:
        wanted |= np.isinf(x)
    assert np.array_equal(np.isnan(got), wanted)


@functions
def test_range(name, dtype, exact):
    x = np.concatenate([hard_inputs(dtype), random_bits(dtype, 20000)])
    got = apply(exact, ELEMENTARY[name], x)
    low, high = RANGE[name]
    assert np.all(np.isnan(got) | ((got >= low) & (got <= high)))


@pytest.mark.parametrize("name", ["expm1", "log1p", "tanh", "sin"])
def test_the_tangent_at_zero(name, dtype, exact):
    tiny = np.finfo(dtype).tiny
    x = np.concatenate([-tiny * np.linspace(0, 4, 999, dtype=dtype), special(dtype)])
    x = x[np.abs(x) <= 4 * tiny]
    assert_same_bits(apply(exact, ELEMENTARY[name], x), x)


@pytest.mark.parametrize("name", ["tanh", "sin"])
def test_odd(name, dtype, exact):
    x = np.concatenate([hard_inputs(dtype), random_bits(dtype, 20000)])
    x = x[np.abs(x) <= LIMIT[dtype]]
    assert_same_bits(apply(exact, ELEMENTARY[name], -x), -apply(exact, ELEMENTARY[name], x))


def test_beyond_the_limit_an_argument_counts_as_zero(dtype, exact):
    beyond = np.nextafter(np.array(LIMIT[dtype], dtype), np.array(INF, dtype))
    x = frozen([beyond, -beyond, 1e30, np.finfo(dtype).max], dtype)
    assert_same_bits(apply(exact, ELEMENTARY["sin"], x), np.zeros(4, dtype))
    assert_same_bits(apply(exact, ELEMENTARY["cos"], x), np.ones(4, dtype))


@cache
def any_inputs(dtype: str) -> np.ndarray:
    end, count = {"float32": (110, 150_000), "float64": (760, 30_000)}[dtype]
    even = np.random.default_rng(8).uniform(-end, end, count).astype(dtype)
    bits = random_bits(dtype, count, seed=9)
    return frozen(np.concatenate([special(dtype), hard_inputs(dtype), even, bits]), dtype)


@cache
def specified(name: str, dtype: str) -> np.ndarray:
    return apply("reference", ELEMENTARY[name], any_inputs(dtype))


@functions
def test_the_same_bits_everywhere(name, dtype, exact):
    got = apply(exact, ELEMENTARY[name], any_inputs(dtype))
    assert_same_bits(got, specified(name, dtype), name)


# ------------------------------------------------------------------- all float32 inputs

CHUNK = 1 << 22
DIGESTS = Path(__file__).with_name("elementary_digests.json")
SQRT_HALF = math.sqrt(0.5)

# The functions in float64, whose own error is 2^-29 of an ulp here.
WIDE: dict[str, Callable[[float], float]] = {
    "exp": lambda x: np.exp(x),
    "expm1": lambda x: np.expm1(x),
    "log": lambda x: np.log(x),
    "log1p": lambda x: np.log1p(x),
    "logistic": lambda x: 1 / (1 + np.exp(-x)) if x > 0 else np.exp(x) / (1 + np.exp(x)),
    "tanh": lambda x: np.tanh(x),
    "softplus": lambda x: max(x, 0.0) + np.log1p(np.exp(-abs(x))),
    "normal_cdf": lambda x: 0.5 * math.erfc(-x * SQRT_HALF),
    "sin": lambda x: np.sin(x),
    "cos": lambda x: np.cos(x),
}


def error_meter(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """(x, got) -> the largest error in float32 ulp, 0.5 if all are rounded correctly.

    Infinite where only one of the two is NaN; infinity stands for 2^128. Arguments of periodic
    functions count up to their limit.
    """
    end = LIMIT["float32"] if name in PERIODIC else INF
    wide = numba.njit(error_model="numpy")(WIDE[name])
    top = 2.0**128

    @numba.njit(nogil=True, error_model="numpy")
    def largest(x, got):
        worst = 0.5
        for i in range(x.size):
            if abs(x[i]) > end:
                continue
            exact = wide(np.float64(x[i]))
            if np.float32(exact) == got[i] or (np.isnan(exact) and np.isnan(got[i])):
                continue
            if np.isnan(exact) or np.isnan(got[i]):
                return np.inf
            exact, value = min(max(exact, -top), top), min(max(np.float64(got[i]), -top), top)
            power = min(max(math.frexp(exact)[1] - 1, -126), 127)
            worst = max(worst, math.ldexp(abs(value - exact), 23 - power))
        return worst

    return largest


def sweep(
    name: str, backend: str, measure: Callable[[np.ndarray, np.ndarray], float] | None
) -> tuple[str, float]:
    """The digest of f over all float32 in the order of their bits, and the largest error.

    The digest is the SHA-256 of the SHA-256 of every chunk; a NaN enters as 0x7fc00000.
    """
    k, f = load(backend), ELEMENTARY[name]

    def one(start: int) -> tuple[bytes, float]:
        x = np.arange(start, start + CHUNK, dtype=np.uint32).view(np.float32)
        got = k.arrays.to_numpy(k.apply(f, k.arrays.asarray(x)))
        error = measure(x, got) if measure else 0.0
        bits = got.view(np.uint32)
        bits[np.isnan(got)] = 0x7FC00000
        return hashlib.sha256(bits.astype("<u4", copy=False).data).digest(), error

    whole, worst = hashlib.sha256(), 0.0
    for digest, error in _in_threads(one, range(0, 1 << 32, CHUNK)):
        whole.update(digest)
        worst = max(worst, error)
    return whole.hexdigest(), worst


def _in_threads(
    one: Callable[[int], tuple[bytes, float]], starts: range
) -> Iterator[tuple[bytes, float]]:
    """one(start) for every start, in order, on all cores; the first alone, since it compiles."""
    yield one(starts[0])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(one, starts[1:])


@pytest.mark.slow
@functions
def test_every_float32(name, exact):
    committed = json.loads(DIGESTS.read_text(encoding="utf-8"))
    digest, worst = sweep(name, exact, error_meter(name) if exact == "numba" else None)
    assert worst <= TARGET["float32"].get(name, 2.0)
    assert digest == committed[name]["sha256"]


def write_digests(names: list[str]) -> None:
    table = json.loads(DIGESTS.read_text(encoding="utf-8")) if names else {}
    for name in names or ELEMENTARY:
        digest, worst = sweep(name, "numba", error_meter(name))
        table[name] = {"sha256": digest, "max_ulp": round(worst, 4)}
        print(name, table[name], flush=True)
    DIGESTS.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write_digests(sys.argv[1:]))
