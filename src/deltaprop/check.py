"""Gradients checked: against central differences, and between backends, to the bit."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deltaprop.backends import backends, is_exact, resolve
from deltaprop.contract import Array
from deltaprop.foreign import batch_to_numpy, to_numpy
from deltaprop.losses import Loss
from deltaprop.net import Net
from deltaprop.parameters import Flat


def digest(gradients: Flat | Array) -> str:
    """SHA-256 of the bytes of gradients, little-endian, in the buffer's order, as hex."""
    flat = gradients.flat if hasattr(gradients, "named") else gradients
    host = np.ascontiguousarray(to_numpy(flat))
    return hashlib.sha256(host.astype(host.dtype.newbyteorder("<")).tobytes()).hexdigest()


def differing_bits(x: np.ndarray, y: np.ndarray) -> int:
    """In how many bits two arrays of one dtype differ; a NaN equals any NaN."""
    bits = np.dtype(f"u{x.dtype.itemsize}")
    different = np.ascontiguousarray(x).view(bits) ^ np.ascontiguousarray(y).view(bits)
    return int(np.bitwise_count(different[~(np.isnan(x) & np.isnan(y))]).sum())


# ------------------------------------------------------------------------------ crosscheck


@dataclass(frozen=True)
class BackendCheck:
    """One backend's gradient beside the reference's.

    `differences` gives for each parameter ("0.W") the number of differing bits, or for a backend
    that is not exact the largest error over its bound. A backend that cannot run has a
    `reason` and nothing else.
    """

    backend: str
    exact: bool
    differences: dict[str, float]
    digest: str = ""
    seconds: float = 0.0
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether every bit agrees, or every error keeps its bound."""
        return all(d <= (0 if self.exact else 1) for d in self.differences.values())


@dataclass(frozen=True)
class Crosscheck:
    """The gradient of one net on several backends; true if all that ran agree."""

    rows: tuple[BackendCheck, ...]

    def __bool__(self) -> bool:
        return all(row.ok for row in self.rows)

    def __str__(self) -> str:
        lines = []
        for row in self.rows:
            if row.reason:
                lines.append(f"{row.backend:<10} not here: {row.reason}")
                continue
            unit = "differing bits" if row.exact else "of the error bound"
            each = "  ".join(
                f"{name} {d:.0f}" if row.exact else f"{name} {d:.2g}"
                for name, d in row.differences.items()
            )
            mark = "ok " if row.ok else "BAD"
            lines.append(
                f"{row.backend:<10} {mark} {each}  {unit}  {row.digest[:12]}  {row.seconds:.3g} s"
            )
        return "\n".join(lines)

    __repr__ = __str__


def crosscheck(
    net: Net[Any],
    X: Array,
    Y: Array,
    loss: str | Loss | None = None,
    sample_weight: Array | None = None,
    backends: str | Sequence[str] | None = None,
) -> Crosscheck:
    """The gradient on every backend here, or on those named, beside the reference's.

    Arguments as of `value_and_grad`. Exact backends are held to the reference's bits, the
    numpy backend to its error bound. The times are of a second run: the first one compiles.
    """
    X, Y, sample_weight = batch_to_numpy(X, Y, sample_weight)
    given = (X, Y, loss, sample_weight)
    reference = net.to("reference")
    _, wanted = reference.value_and_grad(*given)
    rows = [
        _check_backend(reference, wanted, name, given, reason) for name, reason in _chosen(backends)
    ]
    return Crosscheck(tuple(rows))


def _chosen(names: str | Sequence[str] | None) -> Iterable[tuple[str, str]]:
    if names is not None:
        return [(resolve(name), "") for name in ([names] if isinstance(names, str) else names)]
    return [(info.name, info.reason) for info in backends()]


def _check_backend(
    reference: Net[Any], wanted: Flat, name: str, given: tuple[Any, ...], reason: str
) -> BackendCheck:
    if reason:
        return BackendCheck(name, is_exact(name), {}, reason=reason)
    net = reference.to(name)
    net.value_and_grad(*given)
    start = time.perf_counter()
    _, got = net.value_and_grad(*given)
    seconds = time.perf_counter() - start
    pairs = zip(wanted.named(), got.named())
    if is_exact(net.backend):
        differences = {name: float(differing_bits(x, y)) for (name, x), (_, y) in pairs}
    else:
        bounds = error_bounds(reference, *given).named()
        differences = {
            name: _over_bound(x, y, bound) for ((name, x), (_, y)), (_, bound) in zip(pairs, bounds)
        }
    return BackendCheck(name, is_exact(net.backend), differences, digest(got), seconds)


def _over_bound(x: np.ndarray, y: np.ndarray, bound: np.ndarray) -> float:
    """The largest |x - y| over twice the bound, which both x and y keep."""
    with np.errstate(all="ignore"):
        error = np.abs(x.astype(np.float64) - y)
        ratio = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0, error / (2 * bound))
    return float(np.max(ratio))


def error_bounds(
    net: Net[Any], X: Array, Y: Array, loss: str | Loss | None, weights: Array | None
) -> Flat:
    """How far each element of the gradient may lie from the exact one, laid out as it is."""
    X, chosen, batch = net._given(X, Y, loss, weights)
    wide = replace(
        batch,
        Y=batch.Y.astype(np.float64),
        weights=None if batch.weights is None else batch.weights.astype(np.float64),
    )
    u = float(np.finfo(net.dtype).eps) / 2
    with np.errstate(all="ignore"):
        bounds = net._bounds(np.asarray(X, np.float64), wide, chosen, u)
    like: Flat = net._like_parameters(bounds)
    return like


# ------------------------------------------------------------------------------- gradcheck


@dataclass(frozen=True)
class Gradcheck:
    """Backpropagation beside central differences; true if no parameter is off.

    `errors` gives for each parameter the largest |difference| over what the method can
    resolve there; `worst` names the element with the largest of all.
    """

    errors: dict[str, float]
    worst: str

    def __bool__(self) -> bool:
        return all(error <= 1 for error in self.errors.values())

    def __str__(self) -> str:
        each = "  ".join(f"{name} {error:.2g}" for name, error in self.errors.items())
        verdict = "agrees with" if self else "DIFFERS from"
        return f"the gradient {verdict} central differences: {each} of the tolerance; {self.worst}"

    __repr__ = __str__


def gradcheck(
    net: Net[Any],
    X: Array,
    Y: Array,
    loss: str | Loss | None = None,
    sample_weight: Array | None = None,
    gradients: Flat | None = None,
) -> Gradcheck:
    """Compares dE/dw with (E(w + h) - E(w - h)) / 2h for every parameter, in float64.

    The difference is taken for h and h/2 and extrapolated; the tolerance of an element is
    what the two differ by, which bounds the error of the method, plus the rounding of E over h.
    Costs four forward sweeps a parameter. `gradients`, if given, are checked in place of the
    net's own.
    """
    net._require_one("gradcheck")
    wide = net.to("numpy" if net.backend == "numpy" else "cpu", "float64")
    X, Y, weights = batch_to_numpy(X, Y, sample_weight)
    _, own = wide.value_and_grad(X, Y, loss, weights)
    checked = own if gradients is None else gradients
    if type(checked) is not type(own) or checked.flat.shape != own.flat.shape:
        raise ValueError(f"gradients must be like the net's own, {own}, got {checked!r}")
    flat = to_numpy(checked.flat, "gradients.flat")
    scale = float(np.finfo(flat.dtype).eps) * (1 + np.max(np.abs(flat)))
    flat = flat.astype(np.float64)

    error = np.empty(flat.size)
    rounding = _rounding_of_loss(wide, X, Y, loss, weights)
    for i in range(flat.size):
        slope, tolerance = _central_difference(wide, i, (X, Y, loss, weights), rounding)
        error[i] = abs(slope - flat[i]) / (tolerance + scale)
    errors = {name: float(np.max(x)) for name, x in net._like_parameters(error).named()}
    return Gradcheck(errors, f"worst at {own.where(int(np.argmax(error)))}")


def _rounding_of_loss(
    net: Net[Any], X: Array, Y: Array, loss: str | Loss | None, weights: Array | None
) -> float:
    """How far rounding may move E: 16 times what changing all parameters' last bits does to it.

    A log-softmax adds an absolute error of its own, that of ln(1 + what is not the largest).
    """
    w, eps = net.parameters, float(np.finfo(np.float64).eps)
    before, random, values = w.copy(), np.random.default_rng(0), []
    for _ in range(8):
        w[...] = before * (1 + eps * random.choice((-1, 1), w.size))
        values.append(net.loss(X, Y, loss, weights))
    w[...] = before
    chosen, m = net._loss(loss), len(X)
    own = 0.0
    if chosen.of == "log_softmax":
        own = chosen.scale(m, net.outputs) * float(m if weights is None else np.sum(weights))
    return 16 * (max(values) - min(values) + eps * (max(map(abs, values)) + own))


def _central_difference(
    net: Net[Any], i: int, given: tuple[Any, ...], rounding: float
) -> tuple[float, float]:
    """dE/dw_i by extrapolated central differences, and its tolerance."""
    w = net.parameters
    before = float(w[i])
    h = 2.0 ** round(math.log2(max(1.0, abs(before)))) * 2.0**-13
    slopes = []
    for step in (h, h / 2):
        pair = []
        for signed in (step, -step):
            w[i] = before + signed
            pair.append(net.loss(*given))
        slopes.append((pair[0] - pair[1]) / (2 * step))
    w[i] = before
    return (4 * slopes[1] - slopes[0]) / 3, float(abs(slopes[1] - slopes[0]) + rounding / h)
