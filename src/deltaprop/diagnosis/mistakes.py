"""The classic mistakes of a derivation by hand, each beside the equation it breaks.

`Equations` holds the backward sweep, one equation a field. A mistake of the sweep replaces one of
them, in some layers, and spoils every layer below:

    dE/da^L     = scale * w (a^L - y)
    delta^l     = dE/da^l * g'(z^l)                    the slope
    dE/da^(l-1) = delta^l W^l                          the way down

A mistake of form spoils one gradient, a factor any of them:

    dE/dW^l = delta^l^T a^(l-1)                        (n, n_in)
    dE/db^l = sum over the samples of delta^l          (n,)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from deltaprop import bounds
from deltaprop.activations import Activation
from deltaprop.backends import numpy as blas
from deltaprop.diagnosis.rounded import Rounded, exact
from deltaprop.equations import Batch, Layer
from deltaprop.losses import Loss

# ------------------------------------------------------------------------------- the sweep


@dataclass(frozen=True)
class Asked:
    """Samples and loss of a gradient, in float64, and the unit roundoff u it was computed at."""

    X: np.ndarray
    batch: Batch
    loss: Loss
    u: float

    @property
    def sloped(self) -> Sequence[int]:
        """The layers, or units, whose delta has a slope."""
        raise NotImplementedError

    @property
    def hidden(self) -> Sequence[int]:
        """Those that are no outputs."""
        raise NotImplementedError

    @property
    def outputs(self) -> Sequence[int]:
        """The others."""
        raise NotImplementedError

    @property
    def biased(self) -> bool:
        """Whether there are biases."""
        raise NotImplementedError


@dataclass(frozen=True)
class Task(Asked):
    """What the gradient of layers is taken of."""

    layers: Sequence[Layer]

    @cached_property
    def seen(self) -> Seen:
        """The right forward sweep."""
        return forward(self, RIGHT.z_bias)

    @property
    def top(self) -> int:
        """The index of the output layer."""
        return len(self.layers) - 1

    @property
    def sloped(self) -> Sequence[int]:
        """All layers, but for an output whose link cancels the slope."""
        return range(self.top if self.loss.link else self.top + 1)

    @property
    def hidden(self) -> Sequence[int]:
        """The layers that an error comes down to."""
        return range(self.top)

    @property
    def outputs(self) -> Sequence[int]:
        """The output layer."""
        return [self.top]

    @property
    def biased(self) -> bool:
        """Whether there are biases."""
        return self.layers[0].b is not None


Slope = Callable[[Activation, Rounded, Rounded], Rounded]
"""g' from g, z and a."""


def slope_at_z(g: Activation, z: Rounded, a: Rounded) -> Rounded:
    """g'(z)."""
    return z.apply(bounds.slope_at(g))


def by_residual(task: Asked, a: Rounded) -> Rounded:
    """scale * w (a - y)."""
    Y, w = task.batch.Y, task.batch.weights

    def residual(x: np.ndarray) -> np.ndarray:
        return np.asarray(blas.rule(task.loss.residual, x, Y))

    r = residual(a.x)
    spread = np.maximum(*(np.abs(residual(a.x + dx) - r) for dx in (a.dx, -a.dx)))
    scale = task.loss.delta_scale(task.batch.samples, Y.shape[1])
    return Rounded(r, spread + 2 * a.u * np.abs(r), a.u) * (scale if w is None else scale * w)


@dataclass(frozen=True)
class Equations:
    """The equations as they are right; a mistake replaces one.

    z_bias      the b of z = a W^T + b, from b
    output      dE/da^L, from the task and a^L
    link        delta^L where the loss cancels the slope, from scale * w (a^L - y) and a^L
    slope       g', from g, z and a
    delta       delta^l, from dE/da^l and the slope
    down        dE/da^(l-1), from delta^l, W^l and a^(l-1)
    """

    z_bias: Callable[[Any], Any] = lambda b: b
    output: Callable[[Asked, Rounded], Rounded] = by_residual
    link: Callable[[Rounded, Rounded], Rounded] = lambda r, a: r
    slope: Slope = slope_at_z
    delta: Callable[[Rounded, Rounded], Rounded] = lambda e, slope: e * slope
    down: Callable[[Rounded, Rounded, Rounded], Rounded] = lambda delta, W, a: delta @ W


RIGHT = Equations()


@dataclass(frozen=True)
class Seen:
    """A forward sweep: z and a of every layer; z[0] and a[0] are X. Most mistakes share slopes."""

    z: list[Rounded]
    a: list[Rounded]
    slopes: dict[tuple[Slope, int], Rounded] = field(default_factory=dict)

    def slope(self, rule: Slope, g: Activation, l: int) -> Rounded:
        """What stands for g'(z) of the layer whose z is z[l]."""
        if (rule, l) not in self.slopes:
            self.slopes[rule, l] = rule(g, self.z[l], self.a[l])
        return self.slopes[rule, l]


@dataclass(frozen=True)
class Swept:
    """delta^l, a^(l-1) and z^(l-1) of one layer; where l is the first, z is X."""

    delta: Rounded
    a: Rounded
    z: Rounded


def sweep(task: Task, equations: Sequence[Equations]) -> list[Swept]:
    """The sweeps by these equations, one set for each layer: right or mistaken."""
    z_bias = equations[task.top].z_bias
    seen = task.seen if z_bias is RIGHT.z_bias else forward(task, z_bias)
    a = seen.a
    e = equations[task.top].output(task, a[-1])
    swept: list[Swept] = []
    for l in reversed(range(len(task.layers))):
        W, _, g = task.layers[l]
        if l == task.top and task.loss.link:
            delta = equations[l].link(e, a[l + 1])
        else:
            delta = equations[l].delta(e, seen.slope(equations[l].slope, g, l + 1))
        swept.insert(0, Swept(delta, a[l], seen.z[l]))
        if l > 0:
            e = equations[l - 1].down(delta, exact(W, task.u), a[l])
    return swept


def forward(task: Task, z_bias: Callable[[Any], Any]) -> Seen:
    """The forward sweep with what z_bias makes of each b."""
    layers = [Layer(W, z_bias(b), g) for W, b, g in task.layers]
    a, da, z, dz = bounds.forward(layers, task.X, task.u)
    return Seen(
        [Rounded(x, dx, task.u) for x, dx in zip(z, dz)],
        [Rounded(x, dx, task.u) for x, dx in zip(a, da)],
    )


# --------------------------------------------------------------------- mistakes of the sweep


def with_slope(task: Asked) -> Sequence[int]:
    """The layers whose delta has a slope."""
    return task.sloped


def hidden(task: Asked) -> Sequence[int]:
    """The layers that an error comes down to."""
    return task.hidden


def below_square(task: Task) -> Sequence[int]:
    """The layers below a square W."""
    return [l for l in task.hidden if len(set(task.layers[l + 1].W.shape)) == 1]


def below_link(link: Sequence[str]) -> Callable[[Asked], Sequence[int]]:
    """The output layer, with one of these links."""
    return lambda task: task.outputs if task.loss.link in link else []


def weighted(task: Asked) -> Sequence[int]:
    """The output layer, if samples have weights."""
    return [] if task.batch.weights is None else task.outputs


def biased(task: Asked) -> Sequence[int]:
    """The output layer, if there are biases; what is left out there is left out everywhere."""
    return task.outputs if task.biased else []


@dataclass(frozen=True)
class SweepMistake:
    """A mistake of the sweep.

    text
        what is wrong, of delta^l in the layers `where` says.
    hint
        the right equation: {l} and {up} stand for ^l and ^(l + 1), {e} for dE/da^l, {error} for
        what the loss gives at the output, {top} for a^L, {scale} for its scale, {forward} for
        the equation of z.
    equations
        the sweep with one equation replaced.
    """

    text: str
    hint: str
    where: Callable[[Any], Sequence[int]]
    equations: Equations

    def places(self, task: Task) -> Iterator[tuple[int, ...]]:
        """Sets of layers where it is made: each of them, all hidden ones, all."""
        every = tuple(self.where(task))
        yield from dict.fromkeys(
            [*((l,) for l in every), tuple(l for l in every if l < task.top), every]
        )


def wrong(
    text: str, hint: str, where: Callable[[Any], Sequence[int]], **equation: Any
) -> SweepMistake:
    """A row of the table."""
    return SweepMistake(text, hint, where, replace(RIGHT, **equation))


def updated(eta: Rounded) -> Equations:
    """The way down through W - eta dE/dW."""
    return replace(RIGHT, down=lambda delta, W, a: delta @ (W - (delta.T @ a) * eta))


SLOPE = "delta{l} = {e} * g'(z{l})"
DOWN = "delta{l} = (delta{up} W{up}) * g'(z{l})"

SWEEP_MISTAKES = (
    wrong("delta lacks g'(z)", SLOPE, with_slope, delta=lambda e, slope: e),
    wrong(
        "g' is taken at a in place of z",
        SLOPE + "; a formula in a, as a (1 - a), takes a = g(z) once",
        with_slope,
        slope=lambda g, z, a: a.apply(bounds.slope_at(g)),
    ),
    wrong(
        "the formula of g' in a is applied to z, as z (1 - z) for a (1 - a)",
        SLOPE,
        with_slope,
        slope=lambda g, z, a: z.apply(bounds.rule(g.slope)),
    ),
    wrong("delta has the factor a in place of g'(z)", SLOPE, with_slope, slope=lambda g, z, a: a),
    wrong(
        "delta is multiplied by a (1 - a), though cross-entropy cancels the slope",
        "delta{l} = {scale} (a{l} - y), without g'",
        below_link(("softmax", "logistic")),
        link=lambda r, a: r * (a * (1 - a)),
    ),
    wrong(
        "delta is multiplied by softmax's Jacobian, though cross-entropy cancels it",
        "delta{l} = {scale} (a{l} - y), without g'",
        below_link(("softmax",)),
        link=lambda r, a: a * (r - (r * a).sum(axis=1, keepdims=True)),
    ),
    wrong(
        "the error comes down through W^T in place of W",
        DOWN + "; rows are samples, and W (n, n_in) is not transposed here",
        below_square,
        down=lambda delta, W, a: delta @ W.T,
    ),
    wrong("the error comes down without W", DOWN, below_square, down=lambda delta, W, a: delta),
    wrong(
        "the sample weights are left out",
        "{error} = {scale} w ({top} - y)",
        weighted,
        output=lambda task, a: by_residual(
            replace(task, batch=replace(task.batch, weights=None)), a
        ),
    ),
    wrong(
        "the forward sweep leaves out the biases",
        "{forward}",
        biased,
        z_bias=lambda b: None,
    ),
)

UPDATED = wrong(
    "the error comes down through W already updated, W - eta dE/dW with eta = {eta:.6g}",
    DOWN + " with W from before the step: all gradients first, then the update",
    hidden,
)
"""Its equations are `updated`, for an eta that the given gradients tell."""
THROUGH_GRADIENT = replace(RIGHT, down=lambda delta, W, a: delta @ (delta.T @ a))
"""What eta is multiplied by, in the layer below the output: delta^L dE/dW^L for delta^L W^L."""


# ------------------------------------------------------------------- mistakes of one gradient


@dataclass(frozen=True)
class Form:
    """A gradient, W or b, formed from delta^l, a^(l-1) and z^(l-1).

    `make` returns what it may look like: samples are rows for some, columns for others. The form
    without a text is the right one.
    """

    of: str
    text: str
    hint: str
    make: Callable[[Swept], tuple[Rounded, ...]]


W_HINT = "dE/dW^l = delta^l^T a^(l-1), of shape (n, n_in)"
B_HINT = "dE/db^l = sum over the samples of delta^l, of shape (n,)"

FORMS = (
    Form("W", "", W_HINT, lambda s: (s.delta.T @ s.a,)),
    Form("W", "transposed", W_HINT, lambda s: (s.a.T @ s.delta,)),
    Form("W", "formed with z^(l-1) in place of a^(l-1)", W_HINT, lambda s: (s.delta.T @ s.z,)),
    Form("W", "left at 0", W_HINT, lambda s: ((s.delta.T @ s.a).times(0),)),
    Form("b", "", B_HINT, lambda s: (s.delta.sum(axis=0),)),
    Form("b", "summed over the units, not the samples", B_HINT, lambda s: (s.delta.sum(axis=1),)),
    Form("b", "not summed over the samples", B_HINT, lambda s: (s.delta, s.delta.T)),
    Form("b", "left at 0", B_HINT, lambda s: (s.delta.sum(axis=0).times(0),)),
    Form("b", "summed over samples and units", B_HINT, lambda s: (s.delta.sum(),)),
)


@dataclass(frozen=True)
class Factor:
    """A number that a gradient is multiplied by mistake; of (m, n_out, sum of weights)."""

    text: str
    hint: str
    value: Callable[[int, int, float], float]


SIGN_HINT = "{error} = {scale} ({top} - y), the target subtracted, and w <- w - eta dE/dw"
SCALE_HINT = "{loss} has {error} = {scale} ({top} - y)"

# Of each pair at most one applies; a mistaken factor is a product over the pairs.
FACTORS: tuple[tuple[Factor, ...], ...] = (
    (
        Factor("m times too large: 1/m is missing", SCALE_HINT, lambda m, n, w: m),
        Factor("divided by m once too often", SCALE_HINT, lambda m, n, w: 1 / m),
        Factor(
            "divided by the sum of the weights in place of m", SCALE_HINT, lambda m, n, w: m / w
        ),
    ),
    (
        Factor("doubled: a 2 too many, or a 1/2 is missing", SCALE_HINT, lambda m, n, w: 2.0),
        Factor("halved: a 1/2 too many, or a 2 is missing", SCALE_HINT, lambda m, n, w: 0.5),
    ),
    (Factor("of the wrong sign", SIGN_HINT, lambda m, n, w: -1.0),),
    (
        Factor("n_out times too large: 1/n_out is missing", SCALE_HINT, lambda m, n, w: n),
        Factor("divided by n_out once too often", SCALE_HINT, lambda m, n, w: 1 / n),
    ),
)
