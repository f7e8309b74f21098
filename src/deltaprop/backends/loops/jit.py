"""How Numba compiles here: no fastmath, arguments by address, memory that is given.

Addresses are integers. Arrays reach compiled code as the addresses of their Python objects, so
that a call costs no more than a few integers do; a loop allocates nothing, for what is compiled
once is loaded later without Numba's runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import cfunc, from_dtype
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from deltaprop.backends.loops.rules import function

OPTIONS = {"error_model": "numpy", "_nrt": False}
"""IEEE division, and no counting of references: arrays are views of what Python holds."""

jit = numba.njit(**OPTIONS)
"""For what is compiled into an entry."""

inline = numba.njit(**OPTIONS, forceinline=True)

KEPT, FLUSHED = 0, 1
"""What an entry returns: whether subnormal numbers are kept or flushed to zero."""


def by_address(count: int) -> Callable[[Any], Any]:
    """A decorator for a function of so many integers, called by its address."""
    signature = types.void(*[types.intp] * count)
    decorator: Callable[[Any], Any] = cfunc(signature, **OPTIONS)
    return decorator


entry = cfunc(types.intp(types.intp, types.intp, types.intp), **OPTIONS)
"""A decorator for an entry (block, thread, threads): the address of its arguments, and which of
how many threads this is. It returns `KEPT` or `FLUSHED`."""


@intrinsic
def fma_rn(typing_context, x, y, z):  # type: ignore[no-untyped-def]
    """x * y + z, rounded once."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return function(builder, "fma", args[0].type, *args)

    return x(x, x, x), code


def namespace(**members: Any) -> Any:
    """What Numba's code may take functions and numbers from by name: a module, to Numba."""
    module = ModuleType("namespace")
    vars(module).update(members)
    return module


HEAD = object.__basicsize__
"""Bytes of a Python object before an array's own: data, rank, shape (ndarraytypes.h)."""


def _word(builder: Any, address: Any, offset: int) -> Any:
    """The integer in memory there."""
    where = builder.inttoptr(builder.add(address, address.type(offset)), address.type.as_pointer())
    return builder.load(where)


def _view(context: Any, builder: Any, kind: Any, data: Any, shape: list[Any]) -> Any:
    """An array over memory that somebody else owns."""
    array = make_array(kind)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides: list[Any] = []
    step = data.type(size)
    for n in reversed(shape):
        strides.insert(0, step)
        step = builder.mul(step, n)
    populate_array(
        array,
        data=builder.inttoptr(data, array.data.type),
        shape=shape,
        strides=strides,
        itemsize=data.type(size),
        meminfo=None,
        parent=None,
    )
    return array._getvalue()


@cache
def array_at(dtype: np.dtype[Any], rank: int) -> Any:
    """(object) -> the contiguous array whose Python object is there."""
    kind = types.Array(from_dtype(dtype), rank, "C")

    @intrinsic
    def array_of_object(typing_context, address):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data, shape = _word(builder, args[0], HEAD), _word(builder, args[0], HEAD + 16)
            lengths = [_word(builder, shape, 8 * i) for i in range(rank)]
            return _view(context, builder, kind, data, lengths)

        return kind(types.intp), code

    return array_of_object


def kernel(dtype: np.dtype[Any], arguments: str) -> Callable[[Any], Any]:
    """A decorator: (arguments, thread, threads) as an entry, its block an integer for each.

    A letter an argument: M a matrix and V a vector of the dtype, I and L vectors of 32-bit and
    of 64-bit integers, T three dimensions, all contiguous; i an integer.
    """
    kinds = {"M": (dtype, 2), "V": (dtype, 1), "T": (dtype, 3)}
    kinds |= {"I": (np.dtype(np.int32), 1), "L": (np.dtype(np.int64), 1)}
    names: dict[str, Any] = {"word": word_at, "flushes": flushes}
    words = []
    for i, letter in enumerate(arguments):
        words.append(f"word(block + {8 * i})")
        if letter in kinds:
            names[f"array{i}"] = array_at(*kinds[letter])
            words[-1] = f"array{i}({words[-1]})"

    def decorator(function: Any) -> Any:
        names["function"] = jit(function)
        source = (
            "def run(block, thread, threads):\n"
            f"    function({', '.join(words)}, thread, threads)\n"
            "    return flushes()\n"
        )
        exec(source, names)
        return entry(names["run"])

    return decorator


@cache
def record_at(dtype: np.dtype[Any]) -> Any:
    """(address, i) -> record number i of those that lie there."""
    kind = from_dtype(dtype)

    @intrinsic
    def record(typing_context, address, i):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            where = builder.add(args[0], builder.mul(args[1], args[0].type(dtype.itemsize)))
            return builder.inttoptr(where, context.get_value_type(kind))

        return kind(types.intp, types.intp), code

    return record


@intrinsic
def word_at(typing_context, address):  # type: ignore[no-untyped-def]
    """The integer there."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _word(builder, args[0], 0)

    return types.intp(types.intp), code


@intrinsic
def data_of(typing_context, address):  # type: ignore[no-untyped-def]
    """The address of the numbers of the array whose Python object is there."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _word(builder, args[0], HEAD)

    return types.intp(types.intp), code


@intrinsic
def call(typing_context, where, args):  # type: ignore[no-untyped-def]
    """The function at that address on a tuple of integers."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integers = [builder.extract_value(values[1], i) for i in range(len(args))]
        called = ir.FunctionType(ir.VoidType(), [x.type for x in integers])
        builder.call(builder.inttoptr(values[0], called.as_pointer()), integers)
        return context.get_dummy_value()

    return types.void(types.intp, args), code


@intrinsic
def flushes(typing_context):  # type: ignore[no-untyped-def]
    """`FLUSHED` if this thread flushes the smallest subnormal to zero, else `KEPT`."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, double = ir.IntType(64), ir.DoubleType()
        # What assembly returns is unknown to the compiler, or it would multiply itself.
        unknown = ir.InlineAsm(ir.FunctionType(word, [word]), "", "=r,0")
        tiny = builder.bitcast(builder.call(unknown, [word(1)]), double)
        one = builder.bitcast(builder.call(unknown, [word(0x3FF0 << 48)]), double)
        zero = builder.fcmp_ordered("==", builder.fmul(tiny, one), ir.Constant(double, 0.0))
        return builder.zext(zero, context.get_value_type(types.intp))

    return types.intp(), code


# Sums. A finished leaf is a node; two neighbours of equal size become one, as carries do in a
# binary counter, and what is left at the end is added from the right: the aligned tree.


@jit
def _merge(nodes, top):  # type: ignore[no-untyped-def]
    for j in range(nodes.shape[1]):
        nodes[top - 2, j] = nodes[top - 2, j] + nodes[top - 1, j]


@jit
def carry(nodes, top, count):  # type: ignore[no-untyped-def]
    """The number of nodes that stay after leaf number `count` (from 1) came on top."""
    while count & 1 == 0:
        _merge(nodes, top)
        top -= 1
        count >>= 1
    return top


@jit
def close(nodes, top):  # type: ignore[no-untyped-def]
    """The root, in nodes[0]."""
    while top > 1:
        _merge(nodes, top)
        top -= 1
