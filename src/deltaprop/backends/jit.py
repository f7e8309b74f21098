"""Rules and sums as compiled loops: what the numba backend is made of.

A rule's program is printed as Python source and compiled by Numba, where the operations are
LLVM instructions chosen here: a true fma, never a library's exp. Nothing is reassociated or
contracted, since fastmath is off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from deltaprop.scalar import DTYPES, Program, Rule, trace

BITS = {types.float32: (ir.IntType(32), 23, 127), types.float64: (ir.IntType(64), 52, 1023)}


jit = numba.njit(nogil=True, error_model="numpy")
"""For what is compiled into a kernel: no GIL, IEEE division."""


def kernel(dtype: np.dtype[Any], arguments: str, parallel: bool = False) -> Callable[..., Any]:
    """A decorator for a kernel, compiled here and now for the one signature it has.

    A letter an argument: r a real, i an integer, V a vector and M a matrix to read, v and m to
    write (all contiguous), S a matrix of any strides to read; I and L vectors of 32-bit and of
    64-bit integers to read.
    """
    real = numba.from_dtype(dtype)
    kinds = {
        "r": real,
        "i": types.intp,
        "V": types.Array(real, 1, "C", readonly=True),
        "v": types.Array(real, 1, "C"),
        "M": types.Array(real, 2, "C", readonly=True),
        "m": types.Array(real, 2, "C"),
        "S": types.Array(real, 2, "A", readonly=True),
        "I": types.Array(types.int32, 1, "C", readonly=True),
        "L": types.Array(types.int64, 1, "C", readonly=True),
    }
    signature = types.void(*(kinds[letter] for letter in arguments))
    decorator: Callable[..., Any] = numba.njit(
        signature, nogil=True, error_model="numpy", parallel=parallel
    )
    return decorator


def _llvm_call(name: str) -> Callable[..., Any]:
    """An intrinsic's code: the LLVM function `name` on numbers of one type."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        suffix = "f32" if signature.return_type == types.float32 else "f64"
        called = ir.FunctionType(kind, [kind] * len(args))
        function = builder.module.globals.get(f"llvm.{name}.{suffix}") or ir.Function(
            builder.module, called, f"llvm.{name}.{suffix}"
        )
        return builder.call(function, args)

    return code


@intrinsic
def fma_rn(typing_context, x, y, z):  # type: ignore[no-untyped-def]
    """x * y + z, rounded once."""
    return x(x, x, x), _llvm_call("fma")


@intrinsic
def sqrt_rn(typing_context, x):  # type: ignore[no-untyped-def]
    """Square root, correctly rounded."""
    return x(x), _llvm_call("sqrt")


@intrinsic
def fabs_(typing_context, x):  # type: ignore[no-untyped-def]
    """|x|."""
    return x(x), _llvm_call("fabs")


@intrinsic
def copysign_(typing_context, x, y):  # type: ignore[no-untyped-def]
    """|x| with the sign of y."""
    return x(x, x), _llvm_call("copysign")


@intrinsic
def rint_(typing_context, x):  # type: ignore[no-untyped-def]
    """The nearest integer, ties to even."""
    return x(x), _llvm_call("rint")


@intrinsic
def select(typing_context, condition, x, y):  # type: ignore[no-untyped-def]
    """x where the condition holds, else y; both are evaluated."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return x(types.boolean, x, x), code


@intrinsic
def exponent(typing_context, x):  # type: ignore[no-untyped-def]
    """floor(log2 |x|) of a normal x, as a real."""
    integer, mantissa, bias = BITS[x]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], integer)
        shifted = builder.lshr(builder.shl(bits, integer(1)), integer(mantissa + 1))
        return builder.sitofp(builder.sub(shifted, integer(bias)), args[0].type)

    return x(x), code


@intrinsic
def pow2(typing_context, n):  # type: ignore[no-untyped-def]
    """2^n for an integral n whose power is normal.

    Adding 1.5 * 2^mantissa puts n in the low bits, so no conversion can be undefined.
    """
    integer, mantissa, bias = BITS[n]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        shifter = ir.Constant(kind, 1.5 * 2.0**mantissa)
        bits = builder.bitcast(builder.fadd(args[0], shifter), integer)
        power = builder.shl(builder.add(bits, integer(bias)), integer(mantissa))
        return builder.bitcast(power, kind)

    return n(n), code


OPERATIONS: dict[str, Any] = {
    f.__name__: f for f in (fma_rn, sqrt_rn, fabs_, copysign_, rint_, select, exponent, pow2)
}
_REAL = {DTYPES["float32"]: np.float32, DTYPES["float64"]: np.float64}


def compiled(rule: Rule, dtype: np.dtype[Any]) -> Any:
    """A rule as a compiled function of numbers of `dtype`, made once."""
    return _compiled(trace(rule, dtype.name))


@cache
def _compiled(program: Program) -> Any:
    namespace = dict(OPERATIONS)
    for called in program.calls:
        namespace[called.symbol] = _compiled(called)
    constants: dict[str, tuple[str, Any]] = {}

    def constant(value: Any) -> str:
        # Numbers enter by name: a literal in the source would be a float64.
        name, _ = constants.setdefault(value.tobytes().hex(), (f"c{len(constants)}", value))
        return name

    lines, result = program.text("    {name} = {expression}\n", constant)
    namespace.update(dict(constants.values()))
    source = f"def rule({', '.join(program.inputs)}):\n{''.join(lines)}    return {result}\n"
    exec(compile(source, f"<rule {program.name} {program.dtype}>", "exec"), namespace)
    return numba.njit(error_model="numpy", forceinline=True)(namespace["rule"])


# Sums. A finished leaf is a node; two neighbours of equal size become one, as carries do in a
# binary counter, and what is left at the end is added from the right: the aligned tree. Work
# is shared out by rows of the result, so no sum depends on the thread count.

LEVELS = 40
"""Of a tree: 2^40 leaves do not fit in any memory."""


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


@jit
def ordered_dot(x, v, leaf, nodes):  # type: ignore[no-untyped-def]
    """The sum of x_k v_k; `nodes` is (LEVELS, 1) of scratch."""
    top = 0
    for start in range(0, x.size, leaf):
        s = x.dtype.type(0)
        for k in range(start, min(start + leaf, x.size)):
            s = fma_rn(x[k], v[k], s)
        nodes[top, 0] = s
        top = carry(nodes, top + 1, start // leaf + 1)
    close(nodes, top)
    return nodes[0, 0]


@jit
def _product_rows(A, B, leaf, C, first, last):  # type: ignore[no-untyped-def]
    """Rows first, ..., last - 1 of C = A B."""
    K = A.shape[1]
    nodes = np.empty((LEVELS if leaf < K else 1, B.shape[1]), B.dtype)
    for i in range(first, last):
        top = 0
        for start in range(0, K, leaf):
            s = nodes[top]
            s[:] = 0
            for k in range(start, min(start + leaf, K)):
                a = A[i, k]
                for j in range(s.size):
                    s[j] = fma_rn(a, B[k, j], s[j])
            top = carry(nodes, top + 1, start // leaf + 1)
        close(nodes, top)
        C[i] = nodes[0]


@cache
def ordered_product(dtype: np.dtype[Any], parallel: bool) -> Any:
    """(A, B, leaf, C, tiny, kept): C = A B for A (m, K) of any strides and B (K, n).

    kept[0] becomes 0 if a thread flushes `tiny`, the smallest subnormal, to zero.
    """

    def product(A, B, leaf, C, tiny, kept):  # type: ignore[no-untyped-def]
        rows = -(-A.shape[0] // parts)
        for part in numba.prange(parts):
            if tiny * B.dtype.type(1) == 0:
                kept[0] = 0
            _product_rows(A, B, leaf, C, part * rows, min((part + 1) * rows, A.shape[0]))

    parts = 64 if parallel else 1
    return kernel(dtype, "SMimrv", parallel)(product)


@cache
def ordered_sum(dtype: np.dtype[Any]) -> Any:
    """(V, leaf, s): s = the sum of the rows of V (K, n)."""

    @kernel(dtype, "Miv")
    def row_sum(V, leaf, s):  # type: ignore[no-untyped-def]
        nodes = np.empty((LEVELS, V.shape[1]), V.dtype)
        top = 0
        for start in range(0, V.shape[0], leaf):
            node = nodes[top]
            node[:] = 0
            for k in range(start, min(start + leaf, V.shape[0])):
                for j in range(V.shape[1]):
                    node[j] = node[j] + V[k, j]
            top = carry(nodes, top + 1, start // leaf + 1)
        close(nodes, top)
        s[:] = nodes[0]

    return row_sum
