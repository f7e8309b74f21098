"""The rules of an optimizer along memory: one pass over parameters, gradient and states."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import from_dtype
from numba.core import types
from numba.extending import intrinsic

from deltaprop.backends.loops.jit import by_address, data_of, jit, kernel
from deltaprop.backends.loops.rules import Operations
from deltaprop.backends.loops.vectors import (
    REALS,
    first_lanes,
    masked_load,
    masked_store,
    memory,
    splatted,
    vector,
)
from deltaprop.scalar import Rule, trace


@cache
def _along(dtype: np.dtype[Any], rules: tuple[Rule, ...]) -> Any:
    """(w, g, s0, s1, constants, count) at addresses; what no rule takes is not read."""
    found, size = vector(from_dtype(dtype)), dtype.itemsize
    programs = [trace(rule, dtype.name) for rule in rules]
    used = {step.value for program in programs for step in program.steps if step.op == "input"}
    taken = [name in used for name in programs[0].inputs]
    changed = [*range(2, 1 + len(rules)), 0]
    lanes = found.lanes

    @intrinsic
    def step(typing_context, w, g, s0, s1, constants, count):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            *addresses, constants_, count_ = args
            mask = first_lanes(builder, found, count_)
            operations = Operations(builder, found.kind)
            arrays = [builder.inttoptr(x, found.kind.as_pointer()) for x in addresses]

            def number(i: int) -> Any:
                if not taken[i]:
                    return None
                if i < len(arrays):
                    return masked_load(builder, found, arrays[i], mask)
                where = builder.add(constants_, constants_.type((i - len(arrays)) * size))
                scalar = builder.inttoptr(where, REALS[found.real].as_pointer())
                return splatted(builder, found, builder.load(scalar, align=size))

            numbers = [number(i) for i in range(len(taken))]
            for i, program in zip(changed, programs, strict=True):
                numbers[i] = operations.value(program.run(operations.table(), *numbers))
                masked_store(builder, found, numbers[i], arrays[i], mask)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), code

    @jit
    def along(w, g, s0, s1, constants, count):  # type: ignore[no-untyped-def]
        for i in range(0, count, lanes):
            at = i * size
            step(w + at, g + at, s0 + at, s1 + at, constants, count - i)

    return along


def update(dtype: np.dtype[Any], *rules: Rule) -> Any:
    """(w, g, s0, s1, constants, count): each state, then w, takes its new value by its rule."""
    along = _along(dtype, rules)

    @by_address(6)
    def run(w, g, s0, s1, constants, count):  # type: ignore[no-untyped-def]
        along(w, g, s0, s1, constants, count)

    return run


def shared(dtype: np.dtype[Any], *rules: Rule) -> Any:
    """The same of arrays, by several threads; states that there are not may be any array."""
    along, size, lanes = _along(dtype, rules), dtype.itemsize, memory(dtype).lanes

    @kernel(dtype, "iiiiii")
    def run(w, g, s0, s1, constants, count, thread, threads):  # type: ignore[no-untyped-def]
        vectors = -(-count // lanes)
        first = vectors * thread // threads * lanes
        end = min(vectors * (thread + 1) // threads * lanes, count)
        at, c = first * size, data_of(constants)
        w_, g_, s0_, s1_ = data_of(w) + at, data_of(g) + at, data_of(s0) + at, data_of(s1) + at
        along(w_, g_, s0_, s1_, c, end - first)

    return run
