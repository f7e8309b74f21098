"""What a backend is: a value that holds about a dozen kernels, each one equation.

Shapes: in layers, m samples are rows; a layer has n units and n_in inputs. In graphs of units
a unit is a row, and m samples are columns. Arrays are two-dimensional, C-contiguous, of one
dtype, float32 or float64, and live where the backend computes; checks and conversions happen
before (arrays.py). Kernels return new arrays, write to `out` where they have one, and never
change their inputs, except `update` and `add`, which say so.

Rules named here (leaf, tree, fma chain) are those of the numerics specification.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from deltaprop.activations import Activation
from deltaprop.losses import Loss
from deltaprop.scalar import Rule

LEAF_FEATURES = 256
"""Length of a leaf of a sum over features (C in the specification)."""

LEAF_SAMPLES = 64
"""Length of a leaf of a sum over samples (G in the specification)."""

Array = Any
"""An array of the backend's own kind: numpy.ndarray or cupy.ndarray."""


class Arrays(Protocol):
    """Where a backend's arrays live."""

    @property
    def here(self) -> AbstractContextManager[Any]:
        """Within it, what is done with the arrays themselves is done there."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A new array of unspecified content."""

    def asarray(self, x: Array) -> Array:
        """`x`, a C-contiguous NumPy array or one of the backend's own kind, brought there."""

    def to_numpy(self, x: Array) -> np.ndarray:
        """`x` as a NumPy array."""

    def room(self) -> int | None:
        """Bytes that new arrays may take; None where that is for the machine to say."""


class Fan(NamedTuple):
    """The edges of n units at one of their ends: all that come in, or all that go out.

    Those of unit j are start[j], ..., start[j + 1] - 1, in the order of the specification.
    """

    start: Array
    """(n + 1,) int64."""

    peer: Array
    """(edges,) int32: the row of the unit at the other end."""

    longest: int
    """The most edges of one unit."""


@dataclass(frozen=True)
class Form:
    """The shape of a net: units of every layer, inputs first, and the activations."""

    sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    bias: bool
    dtype: np.dtype[Any]

    @cached_property
    def count(self) -> int:
        """How many parameters."""
        return sum(self.sizes[l + 1] * (n + self.bias) for l, n in enumerate(self.sizes[:-1]))

    @property
    def work(self) -> int:
        """Multiplications for one sample, forward and back."""
        return 3 * self.count


class Steps(NamedTuple):
    """w <- w - eta dE/dw, for every `size` samples of a batch; the last step may have fewer."""

    rate: float | list[float]
    """eta, or that of each member of an ensemble."""

    size: int

    order: Any = None
    """(m,) int64, an array: which sample comes first, second, ...; None leaves them as they are."""


class Sweeps(Protocol):
    """Forward and backward through nets of one form, with the parameters (P,) or (members, P).

    X and the arrays of the batch may have an axis of members first; errors are (members,), each
    sum_i w_i e_i. A plan is ready for more calls with arrays of the same shapes.
    """

    def outputs(self, parameters: Array, X: Array) -> Array:
        """a^L (m, n), or (members, m, n)."""

    def error(self, parameters: Array, X: Array, batch: Any, loss: Loss) -> Array:
        """The errors alone."""

    def gradient(self, parameters: Array, X: Array, batch: Any, loss: Loss) -> tuple[Array, Array]:
        """The errors, and the gradient, laid out as the parameters are."""

    def step(
        self, parameters: Array, X: Array, batch: Any, loss: Loss, rate: float | list[float]
    ) -> Array:
        """The errors; then w <- fma(-eta, dE/dw, w)."""

    def steps(
        self, parameters: Array, X: Array, batch: Any, loss: Loss, steps: Steps
    ) -> Sequence[Array] | None:
        """The errors, each before its step, of all those steps in one call, in their order.

        In arrays (some steps, members); None where step by step is as good.
        """

    def ready(self, X: Any, Y: Any, name: str | Loss | None) -> Any:
        """A plan for the loss that `is_ready` was told of under this name.

        None unless it takes these arrays of one net as they are.
        """

    def is_ready(self, name: str | Loss | None, loss: Loss) -> None:
        """There was a gradient or a step for this loss, which the caller named so."""


class Replays(Protocol):
    """Sweeps of a net that are launched as one, from the second time on."""

    def run(
        self,
        what: Hashable,
        arrays: Sequence[Array | None],
        sweep: Callable[[], tuple[Array, ...]],
        lent: bool = False,
    ) -> tuple[Array, ...]:
        """What `sweep`, which only launches, returns: new arrays.

        `what` and where the arrays are that it reads tell it from others. Arrays that are `lent`
        hold until the next run.
        """


@dataclass(frozen=True)
class Kernels:
    """A backend. The reference comes first; every other one overrides entries by name."""

    name: str

    arrays: Arrays
    """Where its arrays live."""

    apply: Callable[[Rule, Array], Array]
    """(f, x) -> f(x), element by element, for any rule f of one number; x of any shape."""

    dense_forward: Callable[[Array, Array, Array | None, Activation, bool], tuple[Any, Array]]
    """(a_in (m, n_in), W (n, n_in), b (n,) or None, g, keep_z) -> z or None, a (m, n).

    z = a_in W^T + b, a = g(z): leaves of 256 features, tree, then one rounded + b.
    """

    softmax: Callable[[Array], Array]
    """z (m, n) -> exp(z_k - max z) / sum_j exp(z_j - max z), row by row; sum over features."""

    log_softmax: Callable[[Array], Array]
    """z (m, n) -> (z_k - max z) - log sum_j exp(z_j - max z), row by row; sum over features."""

    sample_loss: Callable[[Array, Array, Loss], Array]
    """(s (m, n), Y (m, n), loss) -> e (m, 1): e_i = sum_k x_k v_k, the loss's two factors.

    Leaves of 256 outputs, tree; s is the array that `loss.of` names.
    """

    output_delta: Callable[
        [Array, Array, Array, Array | None, Loss, Activation, float, Array | None], Array
    ]
    """(a, Y, s (m, n), weights (m, 1) or None, loss, g, scale, db (n,) or None) -> delta (m, n).

    delta = (r(a, y) * c_i) * g'(s), c_i = scale or w_i * scale; r is the loss's residual. `db` is
    filled with dE/db, as bias_gradient would.
    """

    fused_delta: Callable[[Array, Array, Activation, Array | None], Array]
    """(d (m, n), s (m, n), g, db (n,) or None) -> delta (m, n), and dE/db in the same pass.

    delta = d * g'(s), where d = delta_next W_next is there already; `db` is filled with dE/db, as
    bias_gradient would.
    """

    softmax_delta: Callable[[Array, Array], Array]
    """(a (m, n), upstream (m, n)) -> delta (m, n), row by row, where a = softmax(z).

    delta_k = a_k (u_k - sum_j a_j u_j), u being dE/da; sum over features.
    """

    hidden_delta: Callable[[Array, Array, Array, Activation], Array]
    """(delta_next (m, n'), W_next (n', n), s (m, n), g) -> delta (m, n), in one kernel.

    delta = (delta_next W_next) * g'(s): leaves of 256 units, tree; s is z or a as
    `g.slope_of` says. With the identity it is dE/dX.
    """

    weight_gradient: Callable[[Array, Array, Array | None], Array]
    """(delta (m, n), a_in (m, n_in), out) -> dE/dW = delta^T a_in (n, n_in).

    Leaves of 64 samples, tree.
    """

    bias_gradient: Callable[[Array, Array | None], Array]
    """(delta (m, n), out) -> dE/db = sum_i delta_i (n,): plain sums, leaves of 64 samples."""

    edge_forward: Callable[
        [Array, Fan, Array, Array | None, Activation, bool, Array | None], tuple[Any, Array]
    ]
    """(a (N, m), fan, w (edges,), b (n,) or None, g, keep_z, out) -> z or None, g(z) (n, m).

    z_j = sum_i w_ji a_i + b_j over the incoming edges: leaves of 256 edges, tree, then one
    rounded + b. `out` may be other rows of the array that `a` is.
    """

    edge_delta: Callable[[Array, Fan, Array, Array, Activation, Array | None, Array | None], Array]
    """(delta (N, m), fan, w (edges,), s (n, m), g, own (n, m) or None, out) -> delta (n, m).

    delta_i = own_i + (sum_j w_ji delta_j) * g'(s_i) over the outgoing edges: leaves of 256
    edges, tree; a sum of no terms is +0. `own` is the delta of units that are outputs and lead
    on. `out` may be `own`, or other rows of the array that `delta` is.
    """

    edge_gradient: Callable[[Array, Array, Array, Array, Array | None], Array]
    """(delta (N, m), a (N', m), target (p,) int32, source (p,) int32, out) -> dE/dw (p,).

    dE/dw_e = sum over samples of delta_target(e) a_source(e): leaves of 64 samples, tree.
    """

    update: Callable[[Array, Array, Sequence[Array], tuple[Rule, ...], Sequence[float]], None]
    """(w, g, states, rules, constants): each state, then w, takes its new value, in place.

    One rule for each, of w, g, the states and the constants, as `optimizers.py` has them; a rule
    sees the new values of the states before it. Flat arrays of equal length; the constants are
    rounded to the dtype.
    """

    add: Callable[[Array, Array], None]
    """(x, y): x <- x + y, in place: one node of a tree over parts of a batch."""

    scale: Callable[[Array, float], Array]
    """(x, c) -> c x, x flat: the loss, from the sum of errors and its scale."""

    replays: Callable[[], Replays] | None = None
    """Where launches are captured and replayed: what a net keeps of its own sweeps."""

    sweeps: Callable[[Form], Sweeps | None] | None = None
    """Whole sweeps of layered nets in one call each, where a backend has them for that form.

    They take the place of the kernels above, and return the same bits.
    """
