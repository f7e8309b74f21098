"""Rules in LLVM's operations, on numbers and on vectors of them alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from deltaprop.backends.native import register_bytes
from deltaprop.elementary import scale
from deltaprop.scalar import Rule, trace

INT32 = ir.IntType(32)
SCALE = trace(scale, "float32").symbol
INTEGERS = {"float": (ir.IntType(32), 23, 127), "double": (ir.IntType(64), 52, 1023)}


def function(builder: Any, name: str, kind: Any, *args: Any) -> Any:
    """LLVM's function of that name for this kind of argument."""
    scalar = getattr(kind, "element", kind)
    suffix = "f32" if isinstance(scalar, ir.FloatType) else "f64"
    if kind is not scalar:
        suffix = f"v{kind.count}{suffix}"
    called = ir.FunctionType(kind, [kind] * len(args))
    name = f"llvm.{name}.{suffix}"
    return builder.call(cgutils.get_or_insert_function(builder.module, called, name), args)


def constant(kind: Any, value: float) -> ir.Constant:
    """A number, or a vector of it."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)
    return ir.Constant(kind, value)


class Operations:
    """The operations of the dialect on LLVM values of one kind."""

    def __init__(self, builder: Any, kind: Any) -> None:
        self.builder, self.kind = builder, kind
        scalar = getattr(kind, "element", kind)
        integer, self.mantissa, self.bias = INTEGERS[str(scalar)]
        self.integer = integer if kind is scalar else ir.VectorType(integer, kind.count)

    def table(self) -> dict[str, Callable[..., Any]]:
        """A function for each operation, of values and NumPy's numbers."""
        b = self.builder
        table: dict[str, Callable[..., Any]] = {
            "add": b.fadd,
            "sub": b.fsub,
            "mul": b.fmul,
            "div": b.fdiv,
            "neg": b.fneg,
            "select": b.select,
            "exponent": self.exponent,
            "pow2": self.pow2,
        }
        for op, sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")):
            table[op] = lambda x, y, sign=sign: b.fcmp_ordered(sign, x, y)
        if isinstance(self.kind, ir.VectorType) and register_bytes() == 64:
            table[SCALE] = self.scale
        for op in ("fma", "sqrt", "fabs", "copysign", "rint"):
            table[op] = lambda *args, op=op: function(b, op, self.kind, *args)
        return {op: self._on_values(f) for op, f in table.items()}

    def scale(self, y: Any, n: Any) -> Any:
        """2^n y, rounded once, as `elementary.scale` has it: one instruction of AVX-512."""
        name, lanes = ("ps", 16) if self.mantissa == 23 else ("pd", 8)
        mask, mode = ir.IntType(lanes)(-1), ir.IntType(32)(4)  # all lanes; as the thread rounds
        part = ir.VectorType(self.kind.element, lanes)

        def scaled(y: Any, n: Any) -> Any:
            called = ir.FunctionType(part, [part, part, part, mask.type, mode.type])
            name_ = f"llvm.x86.avx512.mask.scalef.{name}.512"
            function = cgutils.get_or_insert_function(self.builder.module, called, name_)
            return self.builder.call(function, [y, n, y, mask, mode])

        return self._by_parts(scaled, lanes, y, n)

    def _by_parts(self, f: Callable[..., Any], lanes: int, *vectors: Any) -> Any:
        """f on parts of so many lanes of the vectors; its results side by side."""
        results = []
        for start in range(0, self.kind.count, lanes):
            mask = ir.Constant(ir.VectorType(INT32, lanes), [*range(start, start + lanes)])
            results.append(f(*(self.builder.shuffle_vector(v, v, mask) for v in vectors)))
        while len(results) > 1:
            count = results[0].type.count * 2
            mask = ir.Constant(ir.VectorType(INT32, count), [*range(count)])
            pairs = zip(results[::2], results[1::2])
            results = [self.builder.shuffle_vector(x, y, mask) for x, y in pairs]
        return results[0]

    def value(self, x: Any) -> Any:
        """An LLVM value as it is, a number as a constant."""
        return x if isinstance(x, ir.Value) else constant(self.kind, float(x))

    def _on_values(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: f(*map(self.value, args))

    def _int(self, value: int) -> Any:
        if isinstance(self.integer, ir.VectorType):
            return ir.Constant(self.integer, [value] * self.integer.count)
        return ir.Constant(self.integer, value)

    def exponent(self, x: Any) -> Any:
        """floor(log2 |x|) of a normal x, from its bits."""
        b = self.builder
        bits = b.bitcast(x, self.integer)
        shifted = b.lshr(b.shl(bits, self._int(1)), self._int(self.mantissa + 1))
        return b.sitofp(b.sub(shifted, self._int(self.bias)), self.kind)

    def pow2(self, n: Any) -> Any:
        """2^n for an integral n whose power is normal.

        Adding 1.5 * 2^mantissa puts n in the low bits, so no conversion can be undefined.
        """
        b = self.builder
        shifter = constant(self.kind, 1.5 * 2.0**self.mantissa)
        bits = b.bitcast(b.fadd(n, shifter), self.integer)
        power = b.shl(b.add(bits, self._int(self.bias)), self._int(self.mantissa))
        return b.bitcast(power, self.kind)


@cache
def compiled(rule: Rule, dtype: np.dtype[Any]) -> Any:
    """A rule as a function, in Numba's code, of numbers or vectors of `dtype`."""
    program = trace(rule, dtype.name)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        operations = Operations(builder, kind)
        return operations.value(program.run(operations.table(), *args))

    if len(program.inputs) == 1:

        @intrinsic
        def one(typing_context, x):  # type: ignore[no-untyped-def]
            return x(x), code

        return one

    @intrinsic
    def two(typing_context, x, y):  # type: ignore[no-untyped-def]
        return x(x, y), code

    return two
