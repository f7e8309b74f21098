"""Arrays beside memory that nobody may touch: whoever reads or writes beyond them is stopped."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

from conftest import assert_same_bits
from deltaprop.activations import ACTIVATIONS
from deltaprop.backends import load
from deltaprop.contract import Fan
from kernels.helpers import one_of_each
from sharing import WAYS, Task, plan_of, shared

PAGE = mmap.PAGESIZE
KEPT: list[Any] = []


def guarded(x: np.ndarray, end: bool) -> np.ndarray:
    """The same numbers, which end where a page that is closed begins, or begin where one ends."""
    pages = -(-x.nbytes // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    KEPT.append(memory)
    where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (where, where + (pages + 1) * PAGE):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), PAGE, 0) == 0
    first = PAGE + (pages * PAGE - x.nbytes if end else 0)
    y = np.frombuffer(memory, x.dtype, x.size, first).reshape(x.shape)
    y[...] = x
    return y


TASKS = (
    Task((5, 33, 17, 2), 300, weighted=True),
    Task((1, 1), 65),
    Task((3, 70, 1), 129, "gelu", bias=False),
    Task((520, 9, 31), 130),
    Task((7, 129, 15), 70, "relu", output="softmax", loss="cross_entropy", weighted=True),
    Task((5, 9, 2), 70, members=3, own=True),
)


def sweeps(end: bool) -> None:
    """Gradients, outputs, errors alone, and steps."""
    for task in TASKS:
        net = task.net("numba")
        X, Y, weights = task.batch()
        _, _, batch = net._given(X, Y, task.loss, weights)
        gradient = net.value_and_grad(X, Y, task.loss, weights)[1].flat
        outputs = net.predict(X)
        for way in WAYS.values():
            plan = plan_of(task, way)
            parameters, X_, Y_ = (guarded(x, end) for x in (net.parameters, X, batch.Y))
            weights_ = None if batch.weights is None else guarded(batch.weights, end)
            found = guarded(np.zeros_like(gradient), end), guarded(np.zeros_like(outputs), end)
            with shared(way):
                plan.run(parameters, X_, Y_, weights_, *found)
            assert_same_bits(found[0], gradient, f"{task} {way}")
            assert_same_bits(found[1], outputs, f"{task} {way}")
            with shared(way):
                plan.run(parameters, X_, Y_, weights_, rate=0.5)
        KEPT.clear()


def kernels(end: bool) -> None:
    """Each kernel of the contract by itself."""
    k, wanted = load("numba"), load("reference")

    def placed(x: Any) -> Any:
        if isinstance(x, tuple):
            return type(x)._make(map(placed, x)) if isinstance(x, Fan) else tuple(map(placed, x))
        return guarded(x, end) if isinstance(x, np.ndarray) else x

    for m, n, n_in in ((7, 5, 3), (65, 33, 70), (2, 17, 300)):
        cases = one_of_each("float32", m, n, n_in, ACTIVATIONS["tanh"])
        for field, args in cases.items():
            there = [placed(x) for x in args]
            found = getattr(k, field)(*there)
            if field not in ("update", "add"):
                right = getattr(wanted, field)(*args)
                pairs = zip(found, right) if isinstance(right, tuple) else [(found, right)]
                for x, y in pairs:
                    assert (x is None and y is None) or assert_same_bits(x, y, field) is None
        KEPT.clear()
