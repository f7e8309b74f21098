"""The most that the processor can do: fused multiply-adds in registers, on every thread.

    c_i <- fma(c_i, x, y)    i = 1, ..., 12

Twelve chains that wait for nothing but themselves keep two units of latency 4 to 6 busy, and with
x and y they fit in 16 registers. Nothing is read from memory. Written as LLVM's own text, so that
it does not depend on how any backend makes its vectors.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from threading import Barrier, Thread

import llvmlite.binding as llvm
import numpy as np

from deltaprop.peers.machine import threads

CHAINS = 12
ROUNDS = 8
SECONDS = 0.02

TEXT = """
declare {vector} @llvm.fma.v{lanes}{suffix}({vector}, {vector}, {vector})

define {scalar} @chains(i64 %n, {scalar} %x0, {scalar} %y0) {{
entry:
  %x1 = insertelement {vector} undef, {scalar} %x0, i32 0
  %x = shufflevector {vector} %x1, {vector} undef, <{lanes} x i32> zeroinitializer
  %y1 = insertelement {vector} undef, {scalar} %y0, i32 0
  %y = shufflevector {vector} %y1, {vector} undef, <{lanes} x i32> zeroinitializer
{first}
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{steps}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %end
end:
{sums}
  %result = extractelement {vector} %s{last}, i32 0
  ret {scalar} %result
}}
"""


def vector_bytes(features: str) -> int:
    """The widest vectors that have an fma; 0 on an x86 without any."""
    have = features.split(",")
    if "+avx512f" in have:
        return 64
    if "+fma" in have:
        return 32
    return 0 if "x86" in llvm.get_default_triple() else 16


def text(dtype: str, size: int) -> str:
    """The loop in LLVM's language, for vectors of `size` bytes."""
    scalar, suffix = {"float32": ("float", "f32"), "float64": ("double", "f64")}[dtype]
    lanes = size // np.dtype(dtype).itemsize
    vector = f"<{lanes} x {scalar}>"
    chains = range(CHAINS)

    def lines(line: str, first: int = 0) -> str:
        return "\n".join(line.format(i=i, before=i - 1, v=vector) for i in chains[first:])

    fma = f"@llvm.fma.v{lanes}{suffix}"
    # Each begins elsewhere: equal chains would be merged into one.
    first = f"  %a0 = fadd {vector} %y, %x\n" + lines("  %a{i} = fadd {v} %a{before}, %x", first=1)
    return TEXT.format(
        scalar=scalar,
        suffix=suffix,
        lanes=lanes,
        vector=vector,
        first=first,
        phis=lines("  %c{i} = phi {v} [ %a{i}, %entry ], [ %d{i}, %loop ]"),
        steps=lines(f"  %d{{i}} = call {{v}} {fma}({{v}} %c{{i}}, {{v}} %x, {{v}} %y)"),
        sums=f"  %s0 = fadd {vector} %d0, %y\n"
        + lines("  %s{i} = fadd {v} %s{before}, %d{i}", first=1),
        last=CHAINS - 1,
    )


class Chains:
    """The compiled loop; called from several threads, each runs on a processor of its own."""

    def __init__(self, dtype: str, size: int) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features().flatten()
        target = llvm.Target.from_default_triple()
        machine = target.create_target_machine(llvm.get_host_cpu_name(), features, opt=3)
        module = llvm.parse_assembly(text(dtype, size))
        module.verify()
        self.assembly = machine.emit_assembly(module)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        number = {"float32": ctypes.c_float, "float64": ctypes.c_double}[dtype]
        kind = ctypes.CFUNCTYPE(number, ctypes.c_int64, number, number)
        self._function = kind(self._engine.get_function_address("chains"))
        self.operations = 2 * CHAINS * size // np.dtype(dtype).itemsize

    def __call__(self, n: int) -> float:
        """n times each chain; the interpreter's lock is released meanwhile."""
        return float(self._function(n, 0.5, 1.0))


def peak_gflops(dtype: str, count: int | None = None) -> float:
    """GFLOP/s of fused multiply-adds on so many threads, all by default, the best of some rounds.

    A multiply-add counts as two. 0 where the processor has none.
    """
    size = vector_bytes(llvm.get_host_cpu_features().flatten())
    if not size:
        return 0.0
    chains, count = Chains(dtype, size), count or threads()
    n = 1000
    while (spent := _seconds(partial(chains, n), 1)) < SECONDS / 4:
        n *= 4
    n = round(n * SECONDS / spent)
    fastest = min(_seconds(partial(chains, n), count) for _ in range(ROUNDS))
    return chains.operations * n * count / fastest / 1e9


def _seconds(work: Callable[[], object], count: int) -> float:
    """From when the first of so many threads begins until the last one is done."""
    ready, begins, ends = Barrier(count), [], []

    def run() -> None:
        ready.wait()
        begins.append(time.perf_counter())
        work()
        ends.append(time.perf_counter())

    workers = [Thread(target=run) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(ends) - min(begins)
