"""What the tests of the kernels share: sizes, hostile numbers, calls, and exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from conftest import EXACT, HERE, assert_same_bits, sample
from deltaprop.activations import IDENTITY, Activation
from deltaprop.backends import load
from deltaprop.backends.launches import Device
from deltaprop.contract import Fan, Kernels
from deltaprop.devices.host import HostDevice
from deltaprop.devices.unit import Unit
from deltaprop.losses import LOSSES, Loss
from deltaprop.optimizers import Adam

LEAF_FEATURES, LEAF_SAMPLES = 256, 64  # of the specification, whatever the code says
SIZES = (1, 2, 3, 63, 64, 65, 255, 256, 257, 1000, 1600)
"""Around leaves and tiles; 1600 terms leave three nodes to add when a tree is closed."""

SMALL = (3, 2, 5)
MIXED = ((1, 1, 1), (33, 31, 65), (70, 65, 70), (2, 65, 513))
IN_PLACE = {"update": (0, 2), "add": (0,)}
"""The arguments that kernels change, by position; update has states in a tuple."""
WITH_SUMS = ("output_delta", "fused_delta")
"""Kernels that fill their last argument, db, beside what they return."""

as_specified = pytest.mark.parametrize("specified", ["reference", *EXACT])
"""The backends that must do what the specification says, the reference among them."""

on_every_device = pytest.mark.parametrize(
    "where", [name for name in ("cuda-host", "cuda") if name in HERE]
)
"""What runs the CUDA sources here."""


def shapes(count: int) -> Iterator[tuple[int, ...]]:
    """Every dimension in turn through SIZES while the others are small, then mixed ones."""
    for i in range(count):
        for n in SIZES:
            yield (*SMALL[:i], n, *SMALL[i + 1 : count])
    for shape in MIXED:
        yield shape[:count]


# ----------------------------------------------------------------------------------- calls


def run(backend: str | Kernels, field: str, *args: Any) -> Any:
    """The result of a kernel as NumPy arrays; it is new, and the inputs are as they were.

    For a kernel that works in place, the result is what the arguments it changes have become; for
    one that fills db, both: db lies off by one real from where memory is aligned.
    """
    k = load(backend) if isinstance(backend, str) else backend
    with_sums = field in WITH_SUMS and args[-1] is not None
    out = ()
    if with_sums:
        out = (k.arrays.empty((args[-1].size + 1,), args[-1].dtype)[1:],)
        args = args[:-1]
    changes = IN_PLACE.get(field, ())
    there = [own(k, x) if i in changes else placed(k, x) for i, x in enumerate(args)]
    results = getattr(k, field)(*there, *out)
    if changes:
        assert results is None
        results = tuple(_flat([there[i] for i in changes]))
        results = results if len(results) > 1 else results[0]
        args, there = ([x for i, x in enumerate(xs) if i not in changes] for xs in (args, there))
    arrays = [x for x in _flat(there) if hasattr(x, "dtype")]
    for given, x in zip((x for x in _flat(args) if isinstance(x, np.ndarray)), arrays):
        assert_same_bits(k.arrays.to_numpy(x), given, f"an input of {field}")
    if with_sums:
        results = (results, *out)
    several = results if isinstance(results, tuple) else (results,)
    for i, result in enumerate(x for x in several if x is not None):
        arrays_before = [*arrays, *(x for x in several[:i] if x is not None)]
        assert not any(np.may_share_memory(result, x) for x in arrays_before), f"{field}: a view"
    back = tuple(None if x is None else k.arrays.to_numpy(x) for x in several)
    return back if isinstance(results, tuple) else back[0]


def fill(backend: str, field: str, shape: tuple[int, ...], *args: Any) -> np.ndarray:
    """What a kernel writes to `out`, its last argument, which lies inside a larger array."""
    k = load(backend)
    size, dtype = math.prod(shape), args[0].dtype
    before = sample(size + 7, dtype.name, seed=99)
    buffer = k.arrays.asarray(before.copy())
    out = buffer[3 : size + 3].reshape(shape)
    result = getattr(k, field)(*(placed(k, x) for x in args), out)
    result = result[-1] if isinstance(result, tuple) else result
    after = k.arrays.to_numpy(buffer)
    assert np.may_share_memory(result, out), f"{field} did not return `out`"
    assert_same_bits(after[:3], before[:3], f"{field}: before `out`")
    assert_same_bits(after[size + 3 :], before[size + 3 :], f"{field}: after `out`")
    return after[3 : size + 3].reshape(shape)


def assert_as_reference(backend: str, field: str, *args: Any, what: str = "") -> None:
    """The kernel's result has the bits of the reference's."""
    wanted = run("reference", field, *args)
    got = run(backend, field, *args)
    assert_same_results(got, wanted, f"{field} on {backend}{', ' if what else ''}{what}")


def assert_same_results(got: Any, wanted: Any, what: str) -> None:
    """Of one array or several, each with the same bits; some may be None."""
    for x, y in zip(got, wanted, strict=True) if isinstance(wanted, tuple) else [(got, wanted)]:
        assert (x is None) == (y is None), what
        if y is not None:
            assert_same_bits(x, y, what)


def device_at(where: str, **host: Any) -> Device:
    """That of a backend; the one that is this CPU has its own order of threads."""
    device: Any = HostDevice(**host) if where == "cuda-host" else load(where).arrays
    return device


def _flat(args: Sequence[Any]) -> list[Any]:
    """Arguments, a fan or a tuple as its parts."""
    return [y for x in args for y in (x if isinstance(x, tuple) else (x,))]


def own(k: Kernels, x: Any) -> Any:
    """A copy of an array, or of several, that a kernel may change."""
    return tuple(own(k, y) for y in x) if isinstance(x, tuple) else k.arrays.asarray(x.copy())


def placed(k: Kernels, x: Any) -> Any:
    """An array where the backend computes, which a kernel cannot write to unseen."""
    if isinstance(x, Fan):
        return Fan(*(placed(k, y) for y in x))
    if not isinstance(x, np.ndarray):
        return x
    x = x.view()
    x.flags.writeable = False
    return k.arrays.asarray(x)


def one_of_each(
    dtype: str,
    m: int,
    n: int,
    n_in: int,
    g: Activation = IDENTITY,
    loss: Loss | None = None,
) -> dict[str, tuple[Any, ...]]:
    """Arguments for every kernel of the contract; sums have n_in, n or m terms."""
    chosen = loss or LOSSES["half_mse"]
    a_in, delta = sample((m, n_in), dtype, 1), sample((m, n), dtype, 2)
    z, Y = sample((m, n), dtype, 3), np.abs(sample((m, n), dtype, 4))
    W, W_next = sample((n, n_in), dtype, 5), sample((n_in, n), dtype, 6)
    b, weights = sample((n,), dtype, 7), sample((m, 1), dtype, 8)
    x, fan, w, own = edges(dtype, m, n, n_in)
    e, flat, adam = np.arange(n, dtype=np.int32), z.reshape(-1), Adam()
    return {
        "apply": (g.value, z),
        "dense_forward": (a_in, W, b, g, True),
        "softmax": (z,),
        "log_softmax": (z,),
        "sample_loss": (z, Y, chosen),
        "output_delta": (z, Y, z, weights, chosen, g, 0.3, np.zeros(n, dtype)),
        "fused_delta": (delta, z, g, np.zeros(n, dtype)),
        "softmax_delta": (z, delta),
        "hidden_delta": (a_in, W_next, z, g),
        "weight_gradient": (delta, a_in, None),
        "bias_gradient": (delta, None),
        "edge_forward": (x, fan, w, b, g, True, None),
        "edge_delta": (x, fan, w, own, g, own, None),
        "edge_gradient": (x, x, fan.peer[:n], e % len(x), None),
        "update": (
            flat,
            delta.reshape(-1),
            (flat, flat * flat),
            adam.rules,
            adam.constants(0.1, 3),
        ),
        "add": (z.reshape(-1), delta.reshape(-1)),
        "scale": (z.reshape(-1), 0.3),
    }


def edges(
    dtype: str, m: int, n: int, longest: int, numbers: Any = sample
) -> tuple[np.ndarray, Fan, np.ndarray, np.ndarray]:
    """x (N, m), a fan of n units with up to `longest` edges, w (edges,), and s (n, m).

    The first unit has them all, the others fewer, the last of many none; peers are any rows.
    """
    random = np.random.default_rng(9)
    count = random.integers(0, longest, n, endpoint=True)
    count[0] = longest
    if n > 2:
        count[-1] = 0
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    units = 7
    peer = random.integers(0, units, start[-1]).astype(np.int32)
    x, w = numbers((units, m), dtype, seed=10), numbers(peer.size, dtype, seed=11)
    return x, Fan(start, peer, longest), w, numbers((n, m), dtype, seed=12)


@dataclass(frozen=True)
class Text(Unit):
    """A unit whose kernel is `text`, not a file of kernels/."""

    text: str = ""

    def source(self) -> str:
        return super().source().replace(f'#include "{self.kernel}.cu"', self.text)


# --------------------------------------------------------------------------------- numbers

FAMILIES = ("everything", "rare", "subnormal", "zeros", "vanishing", "overflow")


def hostile(family: str, shape: tuple[int, ...] | int, dtype: str, seed: int = 0) -> np.ndarray:
    """Numbers that a careless kernel gets wrong; they cannot be written to."""
    info = np.finfo(dtype)
    random = np.random.default_rng(seed)
    least, tiny, largest = info.smallest_subnormal, info.tiny, info.max
    small = np.sqrt(tiny) / 2**8
    values = {
        "everything": [0.0, -0.0, 1, -1.5, np.inf, -np.inf, np.nan, largest, -largest, tiny, least],
        "rare": [np.inf, -np.inf, np.nan, largest],
        "subnormal": [least, -3 * least, tiny / 2, -tiny / 3, tiny, -tiny, 0.5, -1, 0.75],
        "zeros": [0.0, -0.0, 1.0, -1.0],
        "vanishing": [small, -small, small / 2**12, -small / 2**12],
        "overflow": [largest, -largest, largest / 3, 1, 0.5, -2],
    }
    x = random.choice(np.array(values[family], dtype), shape)
    if family == "rare":
        x = np.where(random.random(shape) < 0.01, x, random.standard_normal(shape).astype(dtype))
    x.flags.writeable = False
    return x


# ------------------------------------------------------------------------ exact arithmetic


def fractions(x: np.ndarray) -> np.ndarray:
    """The same numbers as an array of fractions: `@`, `*` and `+` are exact."""
    return np.vectorize(Fraction, otypes=[object])(np.asarray(x, np.float64))


def assert_within(got: np.ndarray, wanted: np.ndarray, bound: Any, what: str = "") -> None:
    """|got - wanted| <= bound, element by element, in exact arithmetic."""
    assert got.shape == wanted.shape, f"{what}: shape {got.shape}, wanted {wanted.shape}"
    error = np.abs(fractions(got) - wanted)
    wrong = np.argwhere(error > np.broadcast_to(bound, got.shape))
    if len(wrong):
        first = tuple(int(i) for i in wrong[0])
        raise AssertionError(
            f"{what}: {len(wrong)} of {got.size} elements are off, first at {first}: "
            f"got {got[first]!r}, wanted {float(wanted[first])!r}"
        )


def unit_roundoff(dtype: str) -> Fraction:
    """u: half the distance from 1 to the next number."""
    return Fraction(float(np.finfo(dtype).eps)) / 2


def rounded(x: Fraction, dtype: Any) -> Any:
    """The number of `dtype` nearest to x, ties to even; within its range, x not 0."""
    real = np.dtype(dtype).type
    near = real(float(x))
    candidates = [near, np.nextafter(near, real(np.inf)), np.nextafter(near, real(-np.inf))]
    bits = f"u{near.dtype.itemsize}"
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - x), int(c.view(bits)) & 1))


def ordered_dot(x: np.ndarray, y: np.ndarray, leaf: int) -> Any:
    """The specification's sum of x_k y_k: leaves, each a chain of fma from +0, and the tree."""
    nodes = []
    for start in range(0, len(x), leaf):
        s = x.dtype.type(0)
        for a, b in zip(x[start : start + leaf], y[start : start + leaf]):
            product = Fraction(float(a)) * Fraction(float(b))
            s = rounded(product + Fraction(float(s)), x.dtype)
        nodes.append(s)
    return _root(nodes)


def _root(nodes: Sequence[Any]) -> Any:
    """The aligned tree, from above: the left child holds the largest power of two of leaves."""
    if len(nodes) == 1:
        return nodes[0]
    half = 1 << ((len(nodes) - 1).bit_length() - 1)
    return _root(nodes[:half]) + _root(nodes[half:])
