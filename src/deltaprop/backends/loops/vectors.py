"""Vectors of 64 bytes in compiled loops: what an AVX-512 register holds, or two of AVX2.

A Numba function keeps them in variables; the operations are LLVM instructions. Lanes are
independent of each other, so no sum depends on how many there are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from deltaprop.backends.loops.jit import namespace
from deltaprop.backends.loops.rules import function

BYTES = 64
REALS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
INT32 = ir.IntType(32)


class Vector(types.Type):
    """As many numbers of one type as fit into 64 bytes, or into so many."""

    def __init__(self, real: Any, size: int) -> None:
        self.real, self.lanes = real, size * 8 // real.bitwidth
        super().__init__(f"Vector({real}, {size})")

    @property
    def kind(self) -> ir.VectorType:
        """The type in LLVM."""
        return ir.VectorType(REALS[self.real], self.lanes)


@cache
def vector(real: Any, size: int = BYTES) -> Vector:
    """The type of vectors of float32 or float64."""
    return Vector(real, size)


@register_model(Vector)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector_type: Vector) -> None:
        super().__init__(manager, vector_type, vector_type.kind)


def _address(context: Any, builder: Any, kind: Any, array: Any, *index: Any) -> Any:
    """Where x[index] lies in a contiguous array."""
    x = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, x, index)


def _vector_at(builder: Any, vector_type: Vector, address: Any) -> Any:
    """The address as one of a vector."""
    return builder.bitcast(address, vector_type.kind.as_pointer())


def splatted(builder: Any, vector_type: Vector, x: Any) -> Any:
    """A vector of one number."""
    nothing = ir.Constant(vector_type.kind, ir.Undefined)
    first = builder.insert_element(nothing, x, INT32(0))
    zeros = ir.Constant(ir.VectorType(INT32, vector_type.lanes), [0] * vector_type.lanes)
    return builder.shuffle_vector(first, nothing, zeros)


@intrinsic
def load(typing_context, x, i, j):  # type: ignore[no-untyped-def]
    """x[i, j:j + lanes]."""
    found = vector(x.dtype)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, x, *args)
        return builder.load(_vector_at(builder, found, address), align=x.dtype.bitwidth // 8)

    return found(x, types.intp, types.intp), code


def first_lanes(builder: Any, vector_type: Vector, count: Any) -> Any:
    """The mask of the first `count` lanes."""
    lanes = ir.VectorType(INT32, vector_type.lanes)
    nothing = ir.Constant(lanes, ir.Undefined)
    limit = builder.insert_element(nothing, builder.trunc(count, INT32), INT32(0))
    limit = builder.shuffle_vector(limit, nothing, ir.Constant(lanes, [0] * vector_type.lanes))
    return builder.icmp_signed("<", ir.Constant(lanes, list(range(vector_type.lanes))), limit)


def _masked(builder: Any, name: str, vector_type: Vector, result: Any, *args: Any) -> Any:
    called = ir.FunctionType(result, [x.type for x in args])
    name = f"llvm.masked.{name}.v{vector_type.lanes}f{vector_type.real.bitwidth}.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, called, name), args)


def masked_load(builder: Any, vector_type: Vector, address: Any, mask: Any) -> Any:
    """The vector there; lanes that the mask leaves out are 0, and what lies there is not read."""
    align = INT32(vector_type.real.bitwidth // 8)
    zeros = ir.Constant(vector_type.kind, [0.0] * vector_type.lanes)
    return _masked(builder, "load", vector_type, vector_type.kind, address, align, mask, zeros)


def masked_store(builder: Any, vector_type: Vector, value: Any, address: Any, mask: Any) -> None:
    """The lanes of a value that the mask names."""
    align = INT32(vector_type.real.bitwidth // 8)
    _masked(builder, "store", vector_type, ir.VoidType(), value, address, align, mask)


@intrinsic
def load_some(typing_context, x, i, j, count):  # type: ignore[no-untyped-def]
    """x[i, j:j + count], count <= lanes; other lanes are 0, and what lies there is not read."""
    found = vector(x.dtype)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *place, count_ = args
        address = _vector_at(builder, found, _address(context, builder, x, *place))
        return _load_some(builder, found, address, count_)

    return found(x, types.intp, types.intp, types.intp), code


@intrinsic
def store(typing_context, v, x, i, j):  # type: ignore[no-untyped-def]
    """x[i, j:j + lanes] = v."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, x, *args[1:])
        builder.store(args[0], _vector_at(builder, v, address), align=x.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(v, x, types.intp, types.intp), code


@intrinsic
def store_some(typing_context, v, x, i, j, count):  # type: ignore[no-untyped-def]
    """x[i, j:j + count] = the first `count` lanes of v."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, *place, count_ = args
        address = _vector_at(builder, v, _address(context, builder, x, *place))
        masked_store(builder, v, value, address, first_lanes(builder, v, count_))
        return context.get_dummy_value()

    return types.void(v, x, types.intp, types.intp, types.intp), code


@intrinsic
def splat(typing_context, x):  # type: ignore[no-untyped-def]
    """A vector of one number."""
    found = vector(x)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return splatted(builder, found, args[0])

    return found(x), code


@intrinsic
def vector_fma(typing_context, x, y, z):  # type: ignore[no-untyped-def]
    """x * y + z, lane by lane, rounded once."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return function(builder, "fma", x.kind, *args)

    return x(x, x, x), code


@intrinsic
def vector_add(typing_context, x, y):  # type: ignore[no-untyped-def]
    """x + y, lane by lane."""
    return x(x, y), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def vector_subtract(typing_context, x, y):  # type: ignore[no-untyped-def]
    """x - y, lane by lane."""
    return x(x, y), lambda context, builder, signature, args: builder.fsub(*args)


@intrinsic
def vector_negative(typing_context, x):  # type: ignore[no-untyped-def]
    """-x, lane by lane."""
    return x(x), lambda context, builder, signature, args: builder.fneg(*args)


@intrinsic
def vector_multiply(typing_context, x, y):  # type: ignore[no-untyped-def]
    """x * y, lane by lane."""
    return x(x, y), lambda context, builder, signature, args: builder.fmul(*args)


def _transpose(builder: Any, vector_type: Vector, rows: list[Any]) -> list[Any]:
    """The columns of a square block: blocks of half the size change places, and so on."""
    lanes = vector_type.lanes
    half = lanes // 2
    while half:
        for i in range(lanes):
            if not i & half:
                x, y = rows[i], rows[i + half]
                upper = [k if not k & half else lanes + k - half for k in range(lanes)]
                lower = [k + half if not k & half else lanes + k for k in range(lanes)]
                for row, lane in ((i, upper), (i + half, lower)):
                    mask = ir.Constant(ir.VectorType(INT32, lanes), lane)
                    rows[row] = builder.shuffle_vector(x, y, mask)
        half //= 2
    return rows


@intrinsic
def chain(typing_context, d, j, a, source, e, last, i, s):  # type: ignore[no-untyped-def]
    """s = fma(d[j, i + k], a[source[e:e + lanes], i + k], s) for k < lanes, k ascending.

    A lane is an edge; lanes beyond the edge `last` compute that one again.
    """
    integers = [types.intp] * 2

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        d_, j_, a_, source_, e_, last_, i_, chain_ = args
        intp, size = e_.type, s.real.bitwidth // 8
        rows = []
        for lane in range(s.lanes):
            edge = builder.add(e_, intp(lane))
            edge = builder.select(builder.icmp_signed("<", edge, last_), edge, last_)
            row = builder.load(_address(context, builder, source, source_, edge))
            address = _address(context, builder, a, a_, builder.sext(row, intp), i_)
            rows.append(builder.load(_vector_at(builder, s, address), align=size))
        for k, column in enumerate(_transpose(builder, s, rows)):
            number = builder.load(_address(context, builder, d, d_, j_, builder.add(i_, intp(k))))
            chain_ = function(builder, "fma", s.kind, splatted(builder, s, number), column, chain_)
        return chain_

    return s(d, types.intp, a, source, *integers, types.intp, s), code


# Memory by its address, and what is in it.


def fetch(builder: Any, address: Any, locality: int) -> None:
    """Has a cache fetch the line there to read it: the first one at 3, the second at 2."""
    where = builder.inttoptr(address, ir.IntType(8).as_pointer())
    called = ir.FunctionType(ir.VoidType(), [where.type, INT32, INT32, INT32])
    prefetch = cgutils.get_or_insert_function(builder.module, called, "llvm.prefetch.p0")
    builder.call(prefetch, [where, INT32(0), INT32(locality), INT32(1)])


@intrinsic
def prefetch(typing_context, address):  # type: ignore[no-untyped-def]
    """Has the second cache fetch the line there."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        fetch(builder, args[0], 2)
        return context.get_dummy_value()

    return types.void(types.intp), code


@cache
def memory(dtype: np.dtype[Any], length: int = BYTES) -> Any:
    """Vectors and numbers of a dtype at addresses: load, store, read, write; lanes is a number."""
    real = from_dtype(dtype)
    found, size = vector(real, length), dtype.itemsize
    scalar = REALS[real]

    def at(builder: Any, address: Any, kind: Any) -> Any:
        return builder.inttoptr(address, kind.as_pointer())

    @intrinsic
    def load(typing_context, address):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(at(builder, args[0], found.kind), align=size)

        return found(types.intp), code

    @intrinsic
    def splat(typing_context, x):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return splatted(builder, found, args[0])

        return found(real), code

    @intrinsic
    def load_some(typing_context, address, count):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _load_some(builder, found, at(builder, args[0], found.kind), args[1])

        return found(types.intp, types.intp), code

    @intrinsic
    def store(typing_context, v, address):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[0], at(builder, args[1], found.kind), align=size)
            return context.get_dummy_value()

        return types.void(v, types.intp), code

    @intrinsic
    def store_some(typing_context, v, address, count):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            mask, where = first_lanes(builder, found, args[2]), at(builder, args[1], found.kind)
            masked_store(builder, found, args[0], where, mask)
            return context.get_dummy_value()

        return types.void(v, types.intp, types.intp), code

    @intrinsic
    def read(typing_context, address):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(at(builder, args[0], scalar), align=size)

        return real(types.intp), code

    @intrinsic
    def write(typing_context, x, address):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[0], at(builder, args[1], scalar), align=size)
            return context.get_dummy_value()

        return types.void(real, types.intp), code

    return namespace(
        load=load,
        splat=splat,
        load_some=load_some,
        store=store,
        store_some=store_some,
        read=read,
        write=write,
        lanes=found.lanes,
        size=size,
    )


def _load_some(builder: Any, vector_type: Vector, address: Any, count: Any) -> Any:
    mask = first_lanes(builder, vector_type, count)
    return masked_load(builder, vector_type, address, mask)


@cache
def transposed(dtype: np.dtype[Any]) -> Any:
    """(source, step, rows, columns, target, target_step): the block (rows, columns), transposed.

    Rows of the result are whole vectors: beyond `rows` they are 0.
    """
    found, size = vector(from_dtype(dtype)), dtype.itemsize
    integers = [types.intp] * 6

    @intrinsic
    def transpose(typing_context, source, step, rows, columns, target, target_step):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            where, step_, rows_, columns_, there, there_step = args
            zero, block = where.type(0), []
            for i in range(found.lanes):
                present = builder.icmp_signed("<", where.type(i), rows_)
                count = builder.select(present, columns_, zero)
                address = builder.inttoptr(where, found.kind.as_pointer())
                block.append(_load_some(builder, found, address, count))
                where = builder.add(where, step_)
            for k, row in enumerate(_transpose(builder, found, block)):
                with builder.if_then(builder.icmp_signed("<", zero.type(k), columns_)):
                    builder.store(row, builder.inttoptr(there, found.kind.as_pointer()), align=size)
                there = builder.add(there, there_step)
            return context.get_dummy_value()

        return types.void(*integers), code

    return transpose
