"""Every operation of the dialect: the same bits on every exact backend."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import assert_same_bits, sample
from deltaprop.activations import IDENTITY
from deltaprop.backends import load
from deltaprop.scalar import (
    FORMATS,
    copysign,
    exponent,
    fma,
    horner,
    maximum,
    minimum,
    pow2,
    rint,
    select,
    sqrt,
)
from values import apply, frozen, random_bits, special

ONE = {
    "neg": lambda x: -x,
    "fabs": lambda x: abs(x),
    "sqrt": lambda x: sqrt(x),
    "rint": lambda x: rint(x),
}
TWO = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "fma": lambda x, y: fma(x, x, y),
    "fma of the product's error": lambda x, y: fma(x, y, -(x * y)),
    "copysign": lambda x, y: copysign(x, y),
    "lt": lambda x, y: select(x < y, x, y),
    "le": lambda x, y: select(x <= y, x, -y),
    "gt": lambda x, y: select(x > y, x, y),
    "ge": lambda x, y: select(x >= y, x, -y),
}


def apply_two(backend: str, rule: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """rule(x, y) by the kernel that takes a rule of two numbers: (rule * 1) * 1."""
    k = load(backend)
    loss = replace(dp.LOSSES["half_sse"], residual=rule)
    x, y = (k.arrays.asarray(v.reshape(1, -1)) for v in (x, y))
    delta = k.output_delta(x, y, x, None, loss, IDENTITY, 1.0, None)
    return k.arrays.to_numpy(delta).reshape(-1)


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of special values, then random bits, and random bits of like exponents."""
    x, y = (v.reshape(-1) for v in np.meshgrid(special(dtype), special(dtype)))
    bits, other = random_bits(dtype, 5000, 1), random_bits(dtype, 5000, 2)
    near, far = sample(5000, dtype, 3), sample(5000, dtype, 4)
    return np.concatenate([x, bits, near]), np.concatenate([y, other, far])


def test_every_operation_is_tried_below():
    tried = {op for table in (ONE, TWO) for op in table} | {"select", "exponent", "pow2"}
    assert set(FORMATS) <= tried


@pytest.mark.parametrize("name", ONE)
def test_operations_of_one_number(name, dtype, exact):
    x = np.concatenate([special(dtype), random_bits(dtype, 20000)])
    wanted = apply("reference", ONE[name], x)
    assert_same_bits(apply(exact, ONE[name], x), wanted)


@pytest.mark.parametrize("name", TWO)
def test_operations_of_two_numbers(name, dtype, exact):
    x, y = pairs(dtype)
    wanted = apply_two("reference", TWO[name], x, y)
    assert_same_bits(apply_two(exact, TWO[name], x, y), wanted)


def test_exponent_of_every_normal_binade(dtype, backend):
    f = np.finfo(dtype)
    powers = np.ldexp(np.ones((), dtype), np.arange(f.minexp, f.maxexp))
    x = np.concatenate([powers, -powers, powers * np.array(1.75, dtype), [f.max]]).astype(dtype)
    wanted = [int(float(v).hex().partition("p")[2]) for v in x]
    assert_same_bits(apply(backend, lambda x: exponent(x), x), np.array(wanted, dtype))


def test_pow2_of_every_normal_power(dtype, backend):
    f = np.finfo(dtype)
    n = np.arange(f.minexp, f.maxexp)
    wanted = np.array([math.ldexp(1.0, int(i)) for i in n], dtype)
    assert_same_bits(apply(backend, lambda n: pow2(n), n.astype(dtype)), wanted)


def test_the_reference_rounds_to_even_and_keeps_signs_and_nan():
    x = frozen([0.5, 1.5, 2.5, -0.5, -2.5, 2.4999998], "float64")
    assert_same_bits(apply("reference", ONE["rint"], x), np.array([0, 2, 2, -0.0, -2, 2.0]))
    x = frozen([np.nan, -np.inf, -0.0, 1, 3], "float64")
    assert_same_bits(apply("reference", lambda x: maximum(x, 2), x), np.array([np.nan, 2, 2, 2, 3]))
    assert_same_bits(
        apply("reference", lambda x: minimum(x, 2), x), np.array([np.nan, -np.inf, -0.0, 1, 2])
    )
    x = frozen([-2.0, 3.0], "float64")
    assert_same_bits(apply("reference", lambda x: copysign(x, -0.0), x), np.array([-2.0, -3.0]))


def test_horner_is_the_polynomial(backend):
    x = frozen(np.arange(-20, 21), "float64")
    wanted = 7 - 2 * x + 5 * x**2 + 3 * x**3  # integers: exact in every order
    assert_same_bits(apply(backend, lambda x: horner(x, (7, -2, 5, 3)), x), wanted)
    assert_same_bits(apply(backend, lambda x: horner(x, (4,)), x), np.full_like(x, 4))
