"""Loops as machine code: compiled by Numba once, kept on disk, called by their address.

A process that finds its loops there has them in milliseconds and imports no compiler. What is
kept depends on this CPU, on the sources of the loops and on the rules compiled into them.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from llvmlite import binding

from deltaprop.devices.cache import cache_folder, kept, say_once
from deltaprop.scalar import Program, trace

ENTRY = "entry"
"""The name of the function in each object file."""

OF_C = ("memcpy", "memmove", "memset")
OF_POSIX = (
    "pthread_cond_broadcast",
    "pthread_cond_wait",
    "pthread_mutex_lock",
    "pthread_mutex_unlock",
    "sched_yield",
)
OF_LINUX = ("sched_getaffinity", "sched_getcpu", "sched_setaffinity")
"""The functions of the C library that compiled code calls, and no others."""

making = RLock()
"""Held while something is compiled, loaded or made ready; no process forks meanwhile."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=making.acquire, after_in_parent=making.release, after_in_child=making.release
    )

SOURCES = (
    *("contract.py", "elementary.py", "scalar.py"),
    *("backends/native.py", "backends/records.py", "backends/tiling.py"),
)
"""What loops are made from, beside those of `backends/loops`."""

used: dict[Path, bool] = {}
"""The files that this process needed; whether it had to compile them."""
quiet = False
"""Whether nobody need be told that something is compiled."""

_engines: list[Any] = []


@cache
def target_machine() -> Any:
    """LLVM's description of this CPU, or of the one that $NUMBA_CPU_NAME takes it for."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    cpu, features = host()
    target = binding.Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, features=features, opt=3, jit=True)


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)


@cache
def has_threads() -> bool:
    """Tells LLVM where the C library's functions are; whether those of POSIX are among them.

    Where they are not there is one thread, and nobody comes to call them.
    """
    library = _library()
    for name in (*OF_C, *OF_POSIX, *OF_LINUX):
        function = getattr(library, name, library.abort)
        binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    return all(hasattr(library, name) for name in OF_POSIX)


def make_ready(mutex: int, condition: int) -> None:
    """A mutex and a condition of POSIX, at these addresses."""
    for where, name in ((mutex, "pthread_mutex_init"), (condition, "pthread_cond_init")):
        getattr(_library(), name)(ctypes.c_void_p(where), None)


@cache
def host() -> tuple[str, str]:
    """The name of this CPU and its features, as LLVM writes them, or what Numba is told."""
    name = os.environ.get("NUMBA_CPU_NAME")
    features = os.environ.get("NUMBA_CPU_FEATURES", "")
    if name is None:
        return binding.get_host_cpu_name(), features or binding.get_host_cpu_features().flatten()
    return name, features


@cache
def register_bytes() -> int:
    """How long this CPU's vectors are, by what LLVM makes of a long one."""
    sum_of_vectors = "define <16 x float> @f(<16 x float> %x) {{ {} }}".format(
        "%s = fadd <16 x float> %x, %x ret <16 x float> %s"
    )
    assembly = target_machine().emit_assembly(binding.parse_assembly(sum_of_vectors))
    return 64 if "%zmm" in assembly else 32 if "%ymm" in assembly else 16


@cache
def address(maker: str, *parameters: Any) -> int:
    """Where the function "module.name" of `backends.loops`, given these, has its machine code.

    Parameters are dtypes, rules with a dtype before them, and plain values.
    """
    has_threads()
    with making:
        code = _kept(maker, parameters)
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target_machine())
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _engines.append(engine)
        found: int = engine.get_function_address(ENTRY)
        return found


@cache
def function(where: int, count: int) -> Callable[..., None]:
    """The function of so many integers at an address, as Python calls it."""
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)
    found: Callable[..., None] = prototype(where)
    return found


def _kept(maker: str, parameters: tuple[Any, ...]) -> bytes:
    """The machine code, from the disk if a whole file of it is there."""
    text = "\0".join([maker, *_described(parameters), *_surroundings()])
    digest = hashlib.sha256(text.encode())
    path = cache_folder() / f"{maker}-{digest.hexdigest()[:24]}.o"
    code = _read(path)
    used[path] = code is None or used.get(path, False)
    if code is None:
        code = _compiled(maker, parameters)
        kept(path, hashlib.sha256(code).digest() + code)
    return code


def _read(path: Path) -> bytes | None:
    """What follows the digest in the file, if the digest is that of what follows."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    code = content[32:]
    return code if hashlib.sha256(code).digest() == content[:32] else None


def _described(parameters: tuple[Any, ...]) -> list[str]:
    dtype = next((p.name for p in parameters if isinstance(p, np.dtype)), "float64")
    return [_text(trace(p, dtype)) if callable(p) else str(p) for p in parameters]


def _text(program: Program) -> str:
    """A program and all that it calls, every constant to the last bit."""
    texts = []
    for part in (*program.calls, program):
        lines, result = part.text("{name}={expression};", lambda value: value.tobytes().hex())
        texts.append(f"{part.symbol}({part.inputs}):{''.join(lines)}{result}")
    return "\n".join(texts)


@cache
def _surroundings() -> tuple[str, ...]:
    package = Path(__file__).parents[1]
    files = [
        *sorted((package / "backends" / "loops").glob("*.py")),
        *(package / p for p in SOURCES),
    ]
    sources = b"\0".join(p.read_bytes() for p in files)
    versions = [version("numba"), version("llvmlite"), str(object.__basicsize__)]
    return *host(), hashlib.sha256(sources).hexdigest(), *versions


def _compiled(maker: str, parameters: tuple[Any, ...]) -> bytes:
    """The object file that Numba's code becomes."""
    if not quiet:
        say_once(
            f"compiling for this CPU, once: kept in {cache_folder()} "
            "('deltaprop warmup' does it ahead)"
        )
    machine = target_machine()  # which readies LLVM for assembly, too
    module, _, name = maker.partition(".")
    make = getattr(importlib.import_module(f"deltaprop.backends.loops.{module}"), name)
    with importlib.import_module("deltaprop.backends.loops.bare").no_machine_code():
        ir = binding.parse_assembly(make(*parameters).inspect_llvm())
    (function,) = (f for f in ir.functions if f.name.startswith("cfunc.") and not f.is_declaration)
    function.name = ENTRY
    _optimise(ir, machine)
    code: bytes = machine.emit_object(ir)
    return code


def _optimise(ir: Any, machine: Any) -> None:
    """LLVM's passes over the entry and all that it calls, in place of Numba's over each function.

    Nothing else can call these functions, so the passes see that every status is 0 and remove
    what Numba adds for exceptions: none is raised here, and its runtime is not there.
    """
    for function in ir.functions:
        if not function.is_declaration and function.name != ENTRY:
            function.linkage = "internal"
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(ir, builder)
    called = {f.name for f in ir.functions if f.is_declaration and not f.name.startswith("llvm.")}
    if unknown := called - {*OF_C, *OF_POSIX, *OF_LINUX}:
        raise RuntimeError(f"a compiled loop must not call {', '.join(sorted(unknown))}")
