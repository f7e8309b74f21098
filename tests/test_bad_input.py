"""What cannot be computed is refused by name, and a refused call changes nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import deltaprop as dp
from conftest import HERE, assert_same_bits, sample
from deltaprop.check import to_numpy

M, SIZES = 5, [3, 4, 2]
X, Y, WEIGHTS = sample((M, 3), "float32", 1), sample((M, 2), "float32", 2), sample(M, "float32", 3)
LABELS = np.array([0, 1, 1, 0, 1])
NAN, INF = float("nan"), float("inf")


class FakeCupy:
    """What CuPy's array looks like from outside."""

    dtype, shape, ndim = X.dtype, X.shape, 2


FakeCupy.__module__ = "cupy"

# How an array goes wrong, and what the TypeError must say beside the argument's name.
WRONG_KIND: dict[str, tuple[Callable, str]] = {
    "list": (lambda x: x.tolist(), "list"),
    "number": (lambda x: 1.0, "float"),
    "none": (lambda x: None, "NoneType"),
    "scalar": (lambda x: x.dtype.type(1), "float32"),
    "cupy": (lambda x: FakeCupy(), "CuPy"),
    "masked": (np.ma.masked_invalid, "mask"),
    "int64": (lambda x: x.astype(np.int64), "int64"),
    "complex": (lambda x: x.astype(np.complex64), "complex64"),
    "object": (lambda x: x.astype(object), "object"),
    "string": (lambda x: x.astype("U9"), "<U9"),
    "time": (lambda x: x.astype(np.int64).astype("M8[s]"), "datetime64"),
    "longdouble": (lambda x: x.astype(np.longdouble), str(np.dtype(np.longdouble))),
    "float64": (lambda x: x.astype(np.float64), "float64"),
}
WRONG_SHAPE: dict[str, Callable] = {
    "one-dimensional": lambda x: x[0],
    "three-dimensional": lambda x: x[None],
    "narrow": lambda x: x[:, :1],
    "no samples": lambda x: x[:0],
    "no units": lambda x: x[:, :0],
}
METHODS: dict[str, Callable] = {
    "predict": lambda net, X, Y: net.predict(X),
    "forward": lambda net, X, Y: net.forward(X),
    "loss": lambda net, X, Y: net.loss(X, Y),
    "value_and_grad": lambda net, X, Y: net.value_and_grad(X, Y),
    "train_step": lambda net, X, Y: net.train_step(X, Y),
    "fit": lambda net, X, Y: net.fit(X, Y),
    "validation": lambda net, X, Y: net.fit(sample((M, 3), "float32"), Y, validation=(X, Y)),
}
TAKES_Y = [name for name in METHODS if name not in ("predict", "forward")]


@pytest.fixture(params=[name for name in HERE if name != "cuda"])
def net(request: pytest.FixtureRequest):
    """A net whose parameters must be the same, bit for bit, after the test."""
    net = dp.MLP(SIZES, backend=request.param)
    before = to_numpy(net.parameters).copy()
    yield net
    assert_same_bits(to_numpy(net.parameters), before, "a refused call changed the parameters")


def refused(error: type[Exception], words: tuple, call: Callable, *args, **options) -> None:
    """The call raises that error, and its message has all these words."""
    with pytest.raises(error) as caught:
        call(*args, **options)
    for word in words:
        assert str(word) in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_inputs(net: dp.MLP, method: str) -> None:
    for change, word in WRONG_KIND.values():
        refused(TypeError, ("X", word), METHODS[method], net, change(X), Y)
    for change in WRONG_SHAPE.values():
        refused(ValueError, ("X", change(X).shape), METHODS[method], net, change(X), Y)


@pytest.mark.parametrize("method", TAKES_Y)
def test_targets(net: dp.MLP, method: str) -> None:
    for change, word in WRONG_KIND.values():
        refused(TypeError, ("Y", word), METHODS[method], net, X, change(Y))
    for bad in (*(change(Y) for change in WRONG_SHAPE.values()), Y[:-1], Y.T):
        refused(ValueError, ("Y", bad.shape), METHODS[method], net, X, bad)


def test_sample_weights(net: dp.MLP) -> None:
    wrong = [(change(WEIGHTS), TypeError, word) for change, word in WRONG_KIND.values()]
    for shape in [(M, 1), (1, M), (M + 1,), (0,)]:
        wrong.append((np.ones(shape, "float32"), ValueError, shape))
    trace = net.forward(X)
    for bad, error, word in wrong:
        if bad is not None:  # None is no weights
            words = "sample_weight", word
            refused(error, words, net.loss, X, Y, None, bad)
            refused(error, words, net.value_and_grad, X, Y, None, bad)
            refused(error, words, net.train_step, X, Y, None, 0.1, bad)
            refused(error, words, net.fit, X, Y, sample_weight=bad)
            refused(error, words, net.backward, trace, Y, None, bad)


@pytest.mark.parametrize("method", TAKES_Y)
def test_labels(method: str) -> None:
    net = dp.MLP(SIZES, output="softmax", backend="numpy")
    for last in (2, -1, 2**40):
        bad = np.array([0, 1, 1, 0, last])
        refused(ValueError, ("Y", f"label {last}", "0 to 1"), METHODS[method], net, X, bad)
    refused(ValueError, ("Y", "(4,)", "(5,)"), METHODS[method], net, X, LABELS[:4])
    for dtype in ("float32", "bool", "<U1", "object"):
        words = "Y", "integers", dtype
        refused(TypeError, words, METHODS[method], net, X, LABELS.astype(dtype))
    refused(TypeError, ("Y", "list"), METHODS[method], net, X, LABELS.tolist())


def test_losses_that_do_not_go_with_the_output(net: dp.MLP) -> None:
    refused(ValueError, ("softmax", "identity"), net.loss, X, Y, "cross_entropy")
    refused(ValueError, ("logistic", "identity"), net.loss, X, Y, "binary_cross_entropy")
    refused(TypeError, ("Y", "int64"), net.loss, X, LABELS)
    softmax = dp.MLP(SIZES, output="softmax", backend="numpy")
    refused(ValueError, ("cross_entropy", "mse"), softmax.train_step, X, Y, "mse")
    on = {"backend": net.backend}
    words = "softmax", "identity"
    refused(ValueError, words, dp.ops.output_delta, Y, Y, "cross_entropy", **on)
    refused(ValueError, ("'silu'", "pass z"), dp.ops.output_delta, Y, Y, activation="silu", **on)


def test_learning_rates(net: dp.MLP) -> None:
    for rate in (NAN, INF, -INF, -1, -1e-30, 1e39, 10**400):
        words = "learning_rate", "float32", rate
        refused(ValueError, words, net.train_step, X, Y, None, rate)
        refused(ValueError, words, net.fit, X, Y, learning_rate=rate)
        refused(ValueError, words, dp.ops.descend, X, X, rate, net.backend)
    for rate in ("0.1", None, True, 1j, np.array(0.1), [0.1]):
        words = "learning_rate", type(rate).__name__
        refused(TypeError, words, net.train_step, X, Y, None, rate)
        refused(TypeError, words, net.fit, X, Y, learning_rate=rate)
        refused(TypeError, words, dp.ops.descend, X, X, rate, net.backend)


def test_parts_of_a_batch(net: dp.MLP) -> None:
    for part in (1, 63, 65, 0, -64):
        refused(ValueError, ("micro_batch", part), net.value_and_grad, X, Y, micro_batch=part)
    for part in (64.0, "64", True, [64]):
        words = "micro_batch", "integer", type(part).__name__
        refused(TypeError, words, net.value_and_grad, X, Y, micro_batch=part)


def test_traces_of_another_net(net: dp.MLP) -> None:
    deeper = dp.MLP([3, 4, 4, 2], backend="numpy").forward(X)
    wider = dp.MLP([3, 7, 2], backend="numpy").forward(X)
    refused(ValueError, ("trace", "3 layers", "2"), net.backward, deeper, Y)
    refused(ValueError, ("trace.z[1]", "(5, 4)", "(5, 7)"), net.backward, wider, Y)
    trace = net.forward(X)
    without = replace(trace, z=(None, None, trace.z[2]))
    refused(TypeError, ("trace.z[1]", "NoneType"), net.backward, without, Y)
    double = replace(trace, a=(X, trace.a[1].astype(np.float64), trace.a[2]))
    refused(TypeError, ("trace.a[1]", "float64"), net.backward, double, Y)
    other_m = replace(trace, a=(X[:4], *trace.a[1:]))
    refused(ValueError, ("trace.z[1]", "(4, 4)", "(5, 4)"), net.backward, other_m, Y)
    refused(TypeError, ("trace", "tuple"), net.backward, trace.a, Y)
    refused(ValueError, ("Y", "(5, 2)", "(4, 2)"), net.backward, trace, Y[:4])


def test_nets_that_cannot_be() -> None:
    for sizes in ([3], [], 3, 2.5, None, "32", {3, 2}, (n for n in SIZES)):
        refused(ValueError, ("sizes", sizes), dp.MLP, sizes)
    for bad in (0, -4):
        refused(ValueError, ("sizes[1]", bad), dp.MLP, [3, bad, 2])
    for bad in (True, 4.0, "4", None):
        refused(TypeError, ("sizes[1]", type(bad).__name__), dp.MLP, [3, bad])
    for names in ([], ["tanh"] * 2):
        refused(ValueError, ("activation", len(names), "1 hidden"), dp.MLP, SIZES, names)
    refused(TypeError, ("activation", "5"), dp.MLP, SIZES, 5)
    hidden = ["tanh", "softmax"]
    refused(ValueError, ("softmax", "hidden layer 2"), dp.MLP, [3, 4, 4, 2], hidden)
    refused(ValueError, ("seed", "-1"), dp.MLP, SIZES, seed=-1)
    refused(TypeError, ("seed", "NoneType"), dp.MLP, SIZES, seed=None)
    refused(TypeError, ("bias", "'no'"), dp.MLP, SIZES, bias="no")
    for dtype in (np.float16, None, int, ">f4"):
        refused(ValueError, ("dtype", dtype, "float32, float64"), dp.MLP, SIZES, dtype=dtype)


def test_names_that_are_nearly_right(net: dp.MLP) -> None:
    refused(ValueError, ("activation 'logitic'", "'logistic'"), dp.MLP, SIZES, "logitic")
    refused(ValueError, ("'softmx'", "'softmax'"), dp.MLP, SIZES, output="softmx")
    refused(ValueError, ("dtype 'flaot32'", "'float32'"), dp.MLP, SIZES, dtype="flaot32")
    refused(ValueError, ("backend 'nunba'", "'numba'"), dp.MLP, SIZES, backend="nunba")
    refused(ValueError, ("backend ''", "reference"), dp.MLP, SIZES, backend="")
    refused(ValueError, ("loss 'half_mes'", "'half_mse'", "half_sse"), net.loss, X, Y, "half_mes")
    refused(ValueError, ("loss ''",), net.loss, X, Y, "")
    refused(ValueError, ("'cuda_host'", "'cuda-host'"), net.to, "cuda_host")
    refused(ValueError, ("dtype 'float_64'", "'float64'"), net.to, dtype="float_64")
    refused(ValueError, ("'Tanh'", "'tanh'"), dp.ops.activate, X, "Tanh")
    refused(ValueError, ("softmax", "unit-wise"), dp.ops.slope, X, "softmax")


# Each op with the shapes of its arrays and its other arguments.
OPS: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, object]]] = {
    "activate": ({"z": (5, 3)}, {"activation": "tanh"}),
    "slope": ({"s": (5, 3)}, {"activation": "tanh"}),
    "dense_forward": ({"a_in": (5, 3), "W": (2, 3), "b": (2,)}, {}),
    "softmax": ({"z": (5, 3)}, {}),
    "log_softmax": ({"z": (5, 3)}, {}),
    "sample_loss": ({"s": (5, 3), "Y": (5, 3)}, {"loss": "mse"}),
    "output_delta": (
        {"a": (5, 3), "Y": (5, 3), "z": (5, 3), "sample_weight": (5,)},
        {"activation": "silu"},
    ),
    "fused_delta": ({"d": (5, 3), "s": (5, 3)}, {}),
    "softmax_delta": ({"a": (5, 3), "upstream": (5, 3)}, {}),
    "hidden_delta": ({"delta_next": (5, 3), "W_next": (3, 2), "s": (5, 2)}, {}),
    "input_gradient": ({"delta": (5, 3), "W": (3, 2)}, {}),
    "weight_gradient": ({"delta": (5, 3), "a_in": (5, 2)}, {}),
    "bias_gradient": ({"delta": (5, 3)}, {}),
    "descend": ({"w": (5, 3), "g": (5, 3)}, {"learning_rate": 0.1}),
}
OF_ANY_SHAPE = ("activate", "slope", "descend")
OPTIONAL = {("dense_forward", "b"), ("output_delta", "sample_weight"), ("output_delta", "z")}


@pytest.mark.parametrize("op", OPS)
def test_arrays_of_ops(op: str) -> None:
    function, (shapes, others) = getattr(dp.ops, op), OPS[op]
    good = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    function(**good, **others, backend="numpy")
    first = next(iter(good))
    for name, x in good.items():

        def bad(changed, error: type[Exception], *words, name=name) -> None:
            options = good | others | {name: changed}
            refused(error, words, function, **options, backend="numpy")

        for wrong, (change, word) in WRONG_KIND.items():
            may_be_left_out = wrong == "none" and (op, name) in OPTIONAL
            sets_the_dtype = wrong == "float64" and name == first
            if not may_be_left_out and not sets_the_dtype:
                bad(change(x), TypeError, f"{name} ", word)
        bad(x[:0], ValueError, f"{name} must not be empty", x[:0].shape)
        if op not in OF_ANY_SHAPE:
            bad(x[None], ValueError, f"{name} must have shape", x[None].shape)
        if name != first:
            larger = np.ones(np.add(x.shape, 1), np.float32)
            bad(larger, ValueError, "must have shape", larger.shape)
            bad(x.astype(np.float64), TypeError, name, "float64", "float32")


def test_every_array_of_every_op_is_tried() -> None:
    for op in dp.ops.__all__:
        parameters = inspect.signature(getattr(dp.ops, op)).parameters.values()
        assert set(OPS[op][0]) == {p.name for p in parameters if "Array" in p.annotation}


def test_rows_of_probabilities_must_sum_to_one(backend):
    net = dp.MLP([2, 3], output="softmax", backend=backend)
    X, Y = sample((2, 2), "float32"), np.array([[0.25, 0.75, 0], [0.5, 0.5, 0.5]], "float32")
    refused(ValueError, ("row 1", "1.5", "cross_entropy"), net.value_and_grad, X, Y)
    net.value_and_grad(X, Y / Y.sum(axis=1, keepdims=True))
