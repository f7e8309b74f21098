"""Sums of products in registers: a tile of a product, a leaf at a time.

    s_ij = sum over one leaf of x_ik v_kj          rows i < R, vectors of columns j < V

Every element is its own chain s = fma(x_k, v_k, s), k ascending, so the bits depend on no tile's
size. x is read number by number, v vector by vector. What becomes of a finished leaf is the tree
of the specification: a binary counter, whose digits are pending nodes, and a leaf that comes is
added to those of its trailing ones.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import from_dtype
from numba.core import types
from numba.extending import intrinsic

from deltaprop.backends.loops.rules import constant, function
from deltaprop.backends.loops.vectors import (
    fetch,
    first_lanes,
    masked_load,
    masked_store,
    splatted,
    vector,
)
from deltaprop.backends.tiling import shape

WORD = ir.IntType(64)
FIRST = 3
"""The cache that is nearest, to LLVM."""
REALS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}


class Tile(NamedTuple):
    """The arguments of a tile, all of them integers; addresses and steps are in bytes."""

    x: Any
    """Where x_00 is."""
    x_step: Any
    """From x_ik to x_(i+1)k, or to x_i(k+1); the other step is one number."""
    v: Any
    v_step: Any
    """From v_k to v_(k+1)."""
    k: Any
    """Terms of the leaf."""
    near: Any
    """Pending nodes of the lower digits, a tile's bytes for each."""
    near_added: Any
    """The digits whose nodes are added to the leaf, as bits."""
    far: Any
    """Pending nodes of the higher digits."""
    far_added: Any
    """Which of them are added then."""
    pending: Any
    """Where the sum becomes a pending node; 0 if it is the result."""
    c: Any
    """The result: rows of numbers."""
    c_step: Any
    columns: Any
    """How many of the tile are the result's."""
    bias: Any
    """Numbers added to every row of the result, or 0."""
    rate: Any
    """Where eta is, or 0: with it the result is c <- fma(-eta, sum, c)."""
    ahead: Any
    """What is needed soon: each term has its cache line fetched, there for the first one."""
    ahead_step: Any


class _Emitter:
    """One function of LLVM: a tile of `rows` by `vectors`."""

    def __init__(self, module: Any, name: str, dtype: np.dtype[Any], rows: int, vectors: int):
        self.real, self.shape = REALS[dtype.name], shape(dtype)
        self.type = vector(from_dtype(dtype), self.bytes_of_vector)
        self.kind = self.type.kind
        self.rows, self.vectors = rows, vectors
        self.places = [(i, j) for i in range(rows) for j in range(vectors)]
        kind = ir.FunctionType(ir.VoidType(), [WORD] * len(Tile._fields))
        self.function = ir.Function(module, kind, name)
        self.function.linkage = "linkonce_odr"
        self.function.attributes.add("noinline")
        self.args = Tile(*self.function.args)
        self.builder = ir.IRBuilder(self.function.append_basic_block())

    def pointer(self, address: Any, offset: Any, kind: Any) -> Any:
        where = self.builder.add(address, WORD(offset) if isinstance(offset, int) else offset)
        return self.builder.inttoptr(where, kind.as_pointer())

    def load(self, address: Any, offset: Any, kind: Any) -> Any:
        return self.builder.load(self.pointer(address, offset, kind), align=self.shape.size)

    def fma(self, *xyz: Any) -> Any:
        return function(self.builder, "fma", self.kind, *xyz)

    def emit(self, by_rows: bool) -> None:
        args = self.args
        sums = self.add_nodes(self.leaf(by_rows), args.near, args.near_added)
        sums = self.add_nodes(sums, args.far, args.far_added)
        pending = self.builder.icmp_unsigned("!=", args.pending, WORD(0))
        with self.builder.if_else(pending) as (then, otherwise):
            with then:
                self.keep(sums)
            with otherwise:
                self.finish(sums)
        self.builder.ret_void()

    def loop(self, sums: list[Any], more: Any) -> Any:
        """Blocks of a loop that carries the sums: (enter, body, after, carried)."""
        builder = self.builder
        before, body, after = (
            builder.block,
            builder.append_basic_block(),
            builder.append_basic_block(),
        )
        builder.cbranch(more, body, after)
        builder.position_at_end(body)
        carried = [builder.phi(self.kind) for _ in sums]
        for phi, s in zip(carried, sums):
            phi.add_incoming(s, before)
        return before, body, after, carried

    def repeat(self, blocks: Any, sums: list[Any], new: list[Any], more: Any) -> list[Any]:
        """Ends the body of a loop; the sums after it."""
        before, body, after, carried = blocks
        end = self.builder.block
        self.builder.cbranch(more, body, after)
        for phi, s in zip(carried, new):
            phi.add_incoming(s, end)
        self.builder.position_at_end(after)
        last = [self.builder.phi(self.kind) for _ in sums]
        for phi, s, t in zip(last, sums, new):
            phi.add_incoming(s, before)
            phi.add_incoming(t, end)
        return last

    def leaf(self, by_rows: bool) -> list[Any]:
        """The chains of one leaf."""
        builder, args, size = self.builder, self.args, self.shape.size
        steps = [
            builder.mul(args.x_step, WORD(i)) if by_rows else size * i for i in range(self.rows)
        ]
        zeros = [constant(self.kind, 0.0)] * len(self.places)
        blocks = self.loop(zeros, builder.icmp_signed(">", args.k, WORD(0)))
        k, x, v, ahead = (builder.phi(WORD) for _ in range(4))
        fetch(builder, ahead, FIRST)
        row = [self.load(v, j * self.kind.count * size, self.kind) for j in range(self.vectors)]
        new = []
        for i in range(self.rows):
            x_i = splatted(self.builder, self.type, self.load(x, steps[i], self.real))
            new += [
                self.fma(x_i, row[j], blocks[3][i * self.vectors + j]) for j in range(self.vectors)
            ]
        left = builder.sub(k, WORD(1))
        advance = (
            (k, args.k, left),
            (x, args.x, builder.add(x, WORD(size) if by_rows else args.x_step)),
            (v, args.v, builder.add(v, args.v_step)),
            (ahead, args.ahead, builder.add(ahead, args.ahead_step)),
        )
        for phi, start, following in advance:
            phi.add_incoming(start, blocks[0])
            phi.add_incoming(following, builder.block)
        return self.repeat(blocks, zeros, new, builder.icmp_signed(">", left, WORD(0)))

    def add_nodes(self, sums: list[Any], nodes: Any, added: Any) -> list[Any]:
        """The pending nodes of the digits in `added`, lowest first: node + sum."""
        builder = self.builder
        blocks = self.loop(sums, builder.icmp_unsigned("!=", added, WORD(0)))
        bits = builder.phi(WORD)
        digit = builder.cttz(bits, ir.IntType(1)(1))
        node = builder.add(nodes, builder.mul(digit, WORD(self.shape.bytes)))
        new = []
        for q, s in enumerate(blocks[3]):
            new.append(builder.fadd(self.load(node, q * self.bytes_of_vector, self.kind), s))
        left = builder.and_(bits, builder.sub(bits, WORD(1)))
        bits.add_incoming(added, blocks[0])
        bits.add_incoming(left, builder.block)
        return self.repeat(blocks, sums, new, builder.icmp_unsigned("!=", left, WORD(0)))

    @property
    def bytes_of_vector(self) -> int:
        return self.shape.lanes * self.shape.size

    def keep(self, sums: list[Any]) -> None:
        """The sums become a pending node."""
        for q, s in enumerate(sums):
            where = self.pointer(self.args.pending, q * self.bytes_of_vector, self.kind)
            self.builder.store(s, where, align=self.shape.size)

    def finish(self, sums: list[Any]) -> None:
        """The sums become the result: + bias, or a step down the gradient."""
        builder, args = self.builder, self.args
        masks = [self.mask(j) for j in range(self.vectors)]
        steps = builder.icmp_unsigned("!=", args.rate, WORD(0))
        with builder.if_else(steps) as (then, otherwise):
            with then:
                eta = splatted(self.builder, self.type, self.load(args.rate, 0, self.real))
                self.store(masks, lambda q, old: self.fma(builder.fneg(eta), sums[q], old))
            with otherwise:
                biased = builder.icmp_unsigned("!=", args.bias, WORD(0))
                with builder.if_else(biased) as (yes, no):
                    with yes:
                        b = [self.masked_load(args.bias, j, masks[j]) for j in range(self.vectors)]
                        self.store(masks, lambda q, _: builder.fadd(sums[q], b[q % self.vectors]))
                    with no:
                        self.store(masks, lambda q, _: sums[q], False)

    def mask(self, j: int) -> Any:
        """The lanes of vector j that are columns of the result."""
        left = self.builder.sub(self.args.columns, WORD(j * self.kind.count))
        return first_lanes(self.builder, self.type, left)

    def masked_load(self, address: Any, j: int, mask: Any) -> Any:
        where = self.pointer(address, j * self.bytes_of_vector, self.kind)
        return masked_load(self.builder, self.type, where, mask)

    def store(self, masks: list[Any], result: Any, reads: bool = True) -> None:
        """c = result(q, c) for every vector q of the tile.

        All of c is read before any is written: a load whose address ends like that of a store
        under way waits for it, and so end all of a column where rows are pages apart.
        """
        builder, old = self.builder, [None] * len(self.places)
        rows = [self.args.c]
        for _ in range(self.rows - 1):
            rows.append(builder.add(rows[-1], self.args.c_step))
        if reads:
            old = [self.masked_load(rows[i], j, masks[j]) for i, j in self.places]
        new = [result(q, c) for q, c in enumerate(old)]
        for value, (i, j) in zip(new, self.places):
            where = self.pointer(rows[i], j * self.bytes_of_vector, self.kind)
            masked_store(builder, self.type, value, where, masks[j])


def _table(module: Any, dtype: np.dtype[Any], by_rows: bool) -> Any:
    """The functions of all tiles, in a row: rows of one vector, then of two, ..."""
    name = f"tiles_{dtype.name}_{'rows' if by_rows else 'columns'}"
    if name in module.globals:
        return module.globals[name]
    functions = []
    for vectors in range(1, shape(dtype).vectors + 1):
        for rows in range(1, shape(dtype).rows + 1):
            emitter = _Emitter(module, f"{name}_{rows}x{vectors}", dtype, rows, vectors)
            emitter.emit(by_rows)
            functions.append(emitter.function)
    kind = ir.ArrayType(functions[0].type, len(functions))
    table = ir.GlobalVariable(module, kind, name)
    table.initializer = ir.Constant(kind, functions)
    table.global_constant = True
    table.linkage = "linkonce_odr"
    return table


@cache
def tile(dtype: np.dtype[Any], by_rows: bool) -> Any:
    """(rows, vectors, *Tile): the leaf of a tile. With `by_rows`, x_step leads from row to row."""
    most = shape(dtype).rows

    @intrinsic
    def tile_of(typing_context, rows, vectors, args):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            rows_, vectors_, packed = values
            table = _table(builder.module, dtype, by_rows)
            index = builder.mul(builder.sub(vectors_, WORD(1)), WORD(most))
            index = builder.add(index, builder.sub(rows_, WORD(1)))
            found = builder.load(builder.gep(table, [WORD(0), index]))
            integers = [builder.extract_value(packed, i) for i in range(len(Tile._fields))]
            builder.call(found, integers)
            return context.get_dummy_value()

        return types.void(rows, vectors, args), code

    return tile_of
