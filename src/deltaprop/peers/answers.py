"""Whether a rival computes what it is timed for: one step or prediction beside float64.

Each number has to lie within a bound on its rounding, which is rigorous, but wide for deep nets.
So each array as a whole also has to have half of the dtype's digits right, in the Euclidean norm:
a wrong sign in the layer of the smallest gradient shows. With a kink it is one digit: a z that
rounding puts on the other side of 0 changes a unit's whole slope, and rightly so.

The learning rate of the check is huge, so that a step w - eta dE/dw is nothing but its gradient,
however small that is.

A batch of m repeats its first s samples q times, and then its first r: m = q s + r. So with E a
mean, m dE/dw = q s dE_s/dw + r dE_r/dw, and as a bound on the rounding of a sum is proportional to
the number of its terms, q B_s + B_r bounds it. That is what makes large batches cheap to check.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deltaprop.bounds import forward
from deltaprop.check import error_bounds
from deltaprop.equations import Layer
from deltaprop.peers.case import DISTINCT, Case, Task

VISIBLE = 2.0**40
"""The learning rate of a step that is checked."""
KINKED = {"relu": 0.1}
"""What the norm of an error may be, of that of the change, where sqrt(eps) asks too much."""


class WrongAnswerError(RuntimeError):
    """A rival that does not compute what it is to be timed for."""


@dataclass(frozen=True)
class Expected:
    """The right answer of a case in float64, and how far from it each number may lie.

    `begin` is what an answer is without a step: the change from there is what is compared;
    `arrays` names the parts of an answer and says where each begins and the last one ends.
    """

    case: Case
    wanted: np.ndarray
    bounds: np.ndarray
    begin: np.ndarray
    arrays: tuple[tuple[str, int], ...]

    @staticmethod
    def of(case: Case) -> Expected:
        task = Task.of(case, VISIBLE)
        return _outputs(task) if case.inference else _step(task)

    def check(self, name: str, got: np.ndarray) -> float:
        """The largest error over its bound. Raises WrongAnswerError for a wrong answer."""
        if got.dtype != self.case.dtype:
            raise self._wrong(name, f"its numbers are {got.dtype}")
        error = np.abs(got.reshape(-1).astype(np.float64) - self.wanted)
        eps = float(np.finfo(self.case.dtype).eps)
        for (array, first), (_, last) in pairwise(self.arrays):
            part = slice(first, last)
            rounding = float(np.linalg.norm(eps * self.begin[part]))
            change = float(np.linalg.norm(self.wanted[part] - self.begin[part]))
            off = float(np.linalg.norm(error[part]))
            if not off <= KINKED.get(self.case.activation, eps**0.5) * change + rounding:
                raise self._wrong(name, f"{array} is off by {off / (change or 1):.2g} of the step")
        with np.errstate(all="ignore"):
            ratio = float(np.max(np.where(error == 0, 0, error / self.bounds)))
        if not ratio <= 1:
            raise self._wrong(name, f"a number is off by {ratio:.2g} of its error bound")
        return ratio

    def _wrong(self, name: str, how: str) -> WrongAnswerError:
        what = "the outputs are" if self.case.inference else "a training step is"
        return WrongAnswerError(f"{name}: {what} wrong for {self.case.name}: {how}")


def _step(task: Task) -> Expected:
    """w - eta dE/dw; two roundings are added to those of the gradient."""
    net, case = task.net, task.case
    u = float(np.finfo(case.dtype).eps) / 2
    wide = net.to("numpy", "float64")
    begin = np.array(wide.parameters)
    gradient, off = np.zeros_like(begin), np.zeros_like(begin)
    for times, samples in _parts(case.m):
        X, Y = task.X[:samples], task.Y[:samples]
        _, part = wide.value_and_grad(X.astype(np.float64), Y.astype(np.float64), case.loss)
        gradient += times * samples / case.m * part.flat
        off += times * error_bounds(net, X, Y, case.loss, None).flat
    wanted = begin - task.rate * gradient
    bounds = task.rate * (off + 2 * u * np.abs(gradient)) + 2 * u * np.abs(wanted)
    starts, at = [], 0
    for name, x in part.named():
        starts.append((name, at))
        at += x.size
    return Expected(case, wanted, _twice(case, bounds), begin, (*starts, ("", at)))


def _parts(m: int) -> list[tuple[int, int]]:
    """A batch of m samples: how often it has its first so many."""
    times, rest = divmod(m, DISTINCT)
    return [(n, samples) for n, samples in ((times, DISTINCT), (1, rest)) if n and samples]


def _outputs(task: Task) -> Expected:
    """The outputs as one array."""
    wide = task.net.to("numpy", "float64")
    layers = [Layer(W, b, g) for W, b, g in wide.layers]
    u = float(np.finfo(task.case.dtype).eps) / 2
    with np.errstate(all="ignore"):
        a, da, _, _ = forward(layers, task.X[:DISTINCT].astype(np.float64), u)
    shape = task.case.m, task.case.sizes[-1]
    wanted, bounds = (np.resize(x, shape).reshape(-1) for x in (a[-1], da[-1]))
    arrays = (("the array", 0), ("", wanted.size))
    return Expected(task.case, wanted, _twice(task.case, bounds), np.zeros_like(wanted), arrays)


def _twice(case: Case, bounds: np.ndarray) -> np.ndarray:
    """In float64 the right answer has errors of its own, within the same bounds."""
    return 2 * bounds if case.dtype == "float64" else bounds
