"""Activations of one's own: the same bits everywhere, known by name, refused when wrong."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import deltaprop as dp
import formulas
from conftest import EXACT, HERE, assert_same_bits, sample
from deltaprop.digests import lattice
from tasks import task
from values import apply, random_bits, special

dm = dp.math
ROOT_3 = 1.7320508075688772

OWN: dict[str, Callable[[], dp.Activation]] = {
    "a function": lambda: dp.activation(
        "snake", lambda z: z + dm.sin(z) * dm.sin(z), lambda z: 1 + 2 * dm.sin(z) * dm.cos(z)
    ),
    "a derived slope": lambda: dp.activation("bell", lambda z: dm.exp(-z * z) * z),
    "a formula": lambda: dp.activation("own_mish", "z * tanh(softplus(z))"),
    "a slope of the output": lambda: dp.activation("own_tanh", "tanh(z)", "1 - a*a"),
    "kinks": lambda: dp.activation("own_clip", "minimum(maximum(z, -1), 1) + 0.1 * abs(z)"),
    "steps": lambda: dp.activation("stairs", lambda z: z / 2 + dm.rint(z / 2)),
    "everything": lambda: dp.activation(
        "all",
        "expm1(select(z < 1, z, 1)) / (1 + logistic(z)) + log1p(z**2) - normal_cdf(-z) * cos(3*z)"
        " + fma(z, sqrt(z*z + 1), log(2 + sin(z)))",
    ),
}
own = pytest.mark.parametrize("define", OWN.values(), ids=OWN)

# --------------------------------------------------------------------------- on all backends


@own
def test_the_same_bits_everywhere(define, dtype, exact):
    g = define()
    z = np.concatenate([special(dtype), sample(500, dtype) * 5, random_bits(dtype, 500)])
    for rule in (g.value, g.slope):
        assert_same_bits(apply(exact, rule, z), apply("reference", rule, z))


@own
def test_a_net_with_it_has_the_same_gradient_everywhere(define, dtype):
    g = define()
    net, given = task((3, 5, 4, 2), g.name, "half_mse", m=9, output=g.name, dtype=dtype)
    loss, gradients = net.value_and_grad(*given)
    for name in EXACT:
        other_loss, other = net.to(name).value_and_grad(*given)
        assert other_loss == loss
        assert_same_bits(other.flat, gradients.flat, name)
    report = dp.crosscheck(net, *given, backends=HERE)
    assert report, str(report)


@own
def test_the_gradient_is_the_central_difference(define):
    g = define()
    net, given = task((3, 5, 2), g.name, "half_mse", m=6, output=g.name)
    _, gradients = net.value_and_grad(*given)
    report = dp.gradcheck(net.to("numpy"), *given, gradients=gradients)
    assert report, str(report)


def test_by_name_and_by_value_it_is_one(backend):
    g = dp.activation("cube", "z**3")
    assert dp.ACTIVATIONS["cube"] is g
    X, Y = lattice((5, 3), 0), lattice((5, 2), 1)
    nets = [
        dp.MLP([3, 4, 2], activation=given, dtype="float64", seed=1, backend=backend)
        for given in (g, "cube")
    ]
    first, second = (net.value_and_grad(X, Y)[1].flat for net in nets)
    assert_same_bits(np.array(first), np.array(second))
    z = sample(20, "float32")
    assert_same_bits(dp.ops.activate(z, "cube", backend=backend), z * z * z)


# --------------------------------------------------------------------------- the same again


def test_the_same_definition_again_is_the_first():
    first = dp.activation("cube", lambda z: z * z * z)
    assert dp.activation("cube", lambda x: x * x * x) is first
    assert dp.activation("cube", "z**3") is first
    given = dp.activation("square", "z * z", "2 * z")
    assert dp.activation("square", lambda z: z * z, lambda z: 2 * z) is given
    assert dp.activation("square", "z**2") is given


@pytest.mark.parametrize(
    ("value", "slope"), [("2 * z", None), ("z*z", "z + z"), ("z*z", "2 * a / z"), ("z*z", "2*a")]
)
def test_another_definition_of_a_name_is_refused(value, slope):
    first = dp.activation("square", "z * z", "2 * z")
    with pytest.raises(ValueError, match=r"'square' already.*choose another name|uses a and z"):
        dp.activation("square", value, slope)
    assert dp.ACTIVATIONS["square"] is first


def test_the_sign_of_a_zero_makes_another_definition():
    dp.activation("zero", lambda z: dm.select(z < 9, 0.0, z))
    with pytest.raises(ValueError, match="'zero' already"):
        dp.activation("zero", lambda z: dm.select(z < 9, -0.0, z))


SHIPPED = {
    "identity": "z",
    "tanh": "tanh(z)",
    "relu": "select(z <= 0, 0, z)",
    "silu": "z * logistic(z)",
    "gelu": "z * normal_cdf(z)",
    "mish": "z * tanh(softplus(z))",
    "hard_sigmoid": "minimum(maximum((z + 3) / 6, 0), 1)",
    "sine": "sin(z)",
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_one_may_be_defined_as_it_is(name):
    """Without its guards at infinity too; but not otherwise."""
    there = dp.ACTIVATIONS[name]
    assert dp.activation(name, SHIPPED[name]) is there
    with pytest.raises(ValueError, match=f"'{name}' already"):
        dp.activation(name, f"{SHIPPED[name]} + 1")
    assert dp.ACTIVATIONS[name] is there


def test_softmax_is_no_function_of_one_unit():
    with pytest.raises(ValueError, match="'softmax' already"):
        dp.activation("softmax", "z")


# -------------------------------------------------------------------------------- refusals


def no_rule(x: float) -> float:
    return math.exp(x)


REFUSED = {
    "no name": (("", "z"), ValueError, "cannot be empty"),
    "a blank name": ((" ", "z"), ValueError, "cannot be empty"),
    "a name that is a number": ((3, "z"), TypeError, "a str, got 3"),
    "a number": (("g", 3), TypeError, "one number or a formula, got 3"),
    "nothing": (("g", None), TypeError, "got None"),
    "two arguments": (("g", lambda x, y: x * y), TypeError, "got a function of (x, y)"),
    "a default": (("g", lambda z, k=2: k * z), TypeError, "got a function of (z, k=2)"),
    "any arguments": (("g", lambda *z: z[0]), TypeError, "got a function of (*z)"),
    "no arguments": (("g", lambda: 1), TypeError, "got a function of ()"),
    "a condition": (("g", lambda z: z > 0), TypeError, "got a condition"),
    "a branch": (("g", lambda z: z if z > 0 else 0), TypeError, "select"),
    "NumPy": (("g", lambda z: np.tanh(z)), TypeError, "deltaprop.math"),
    "a ufunc": (("g", np.tanh), TypeError, "deltaprop.math"),
    "math": (("g", no_rule), TypeError, "deltaprop.math"),
    "a method": (("g", lambda z: z.sum()), TypeError, "'sum'"),
    "an error of its own": (("g", lambda z: {}["key"]), TypeError, "is no rule"),
    "a formula of the output": (("g", "a"), ValueError, "made of z, numbers"),
    "a slope of y": (("g", "z", lambda y: 1), ValueError, "named z"),
    "a slope of z and a": (("g", "z", lambda z, a: 1), TypeError, "(z, a)"),
    "a slope that is a number": (("g", "z", 1), TypeError, "slope of activation 'g'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_activation_is_refused(name):
    given, error, words = REFUSED[name]
    with pytest.raises(error) as caught:
        dp.activation(*given)
    assert words in str(caught.value)
    assert "g" not in dp.ACTIVATIONS


@pytest.mark.parametrize(
    ("value", "slope", "words"),
    [
        ("log(z)", None, "the value of activation 'g' is NaN at z = -0.04"),
        ("select(z > 39.5, sqrt(-z), z)", None, "the value of activation 'g' is NaN at z = 39.5"),
        ("z", "select(z < -39, z - 1/0, 1 + 0 * log(z + 39))", "the slope of activation 'g' is"),
        ("select(z <= 0, 0, sqrt(z*z*z))", "1.5 * sqrt(z)", "slope of activation 'g' is NaN"),
        ("exp(3*z) / (exp(3*z) + 1)", None, "NaN at z = 29.6"),  # where float32 overflows
    ],
)
def test_nan_is_refused_where_it_is_found(value, slope, words):
    with pytest.raises(ValueError) as caught:
        dp.activation("g", value, slope)
    assert words in str(caught.value)


WRONG = {
    "a factor": ("z**3", "2 * z**2"),
    "a sign": ("cos(z)", "sin(z)"),
    "one in ten thousand": ("tanh(z)", "1.0001 * (1 - a*a)"),
    "of a for of z": ("tanh(z)", "1 - z*z"),
    "a constant": ("z + softplus(z)", "1"),
    "far out only": ("exp(z / 8)", "select(z > 38, 0, exp(z / 8) / 8)"),
    "at one point only": ("z", "select(z < 0, 1, select(z > 0, 1, 5))"),
    "in a small range": ("z * z", "select(z > 2, select(z < 2.5, 4, 2 * z), 2 * z)"),
    "an infinity": ("z", "select(z < 3, 1, select(z > 3, 1, 1 / 0))"),
    "a branch": ("select(z <= 0, 0.1 * z, z)", "select(z <= 0, 0.2, 1)"),
    "a kink that the value does not have": ("select(z >= 0, log1p(abs(z)), z)", None),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_slope_is_refused(name):
    with pytest.raises(ValueError, match=r"at z = \S+ it is \S+, the difference quotient is \S+"):
        dp.activation("g", *WRONG[name])
    assert "g" not in dp.ACTIVATIONS


def test_the_error_tells_the_slope_and_the_quotient():
    with pytest.raises(ValueError, match=r"it is 3, the difference quotient is 2 \(in float32\)"):
        dp.activation("g", "2 * z", "3")


@pytest.mark.parametrize("name", [n for n, g in dp.ACTIVATIONS.items() if not g.rowwise])
def test_the_shipped_ones_pass_the_check(name):
    """Their kinks are no false alarm, nor are their tails."""
    g = dp.ACTIVATIONS[name]
    assert dp.activation("again", g.value, g.slope).slope_of == g.slope_of
    assert dp.activation("derived", g.value).slope_of == "z"


@pytest.mark.parametrize(
    ("value", "slope"),
    [
        ("abs(z)", "select(z < 0, -1, 1)"),
        ("maximum(z - 0.3, 0)", "select(z < 0.3, 0, 1)"),
        ("select(z < 3, 1, -1)", "0"),
        (f"select(z * z <= 3, z * z / 2, {ROOT_3} * abs(z) - 1.5)", None),
        ("sin(1000 * z)", "1000 * cos(1000 * z)"),
        ("cos(exp(z / 4))", None),
        ("softplus(z) - z", "logistic(z) - 1"),
        ("1 / z", "-1 / z**2"),
        ("sqrt(abs(z))", None),
        ("1 / (1 + exp(exp(z)))", None),
        ("1e20 * z**3", "3e20 * z * z"),
        ("1e-20 * tanh(z)", None),
    ],
)
def test_a_right_slope_is_not_refused(value, slope):
    """At kinks and jumps, where it oscillates, where differences are lost in rounding."""
    dp.activation("g", value, slope)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(formulas.formulas(partial=False))
def test_a_derived_slope_is_not_refused(text):
    """Of formulas without an |x|, whose slope at 0 is -1 even where a branch leads on from it."""
    dp.ACTIVATIONS.pop("g", None)
    try:
        dp.activation("g", text.replace("abs", "softplus"))
    except ValueError as error:
        assert "is NaN" in str(error)
