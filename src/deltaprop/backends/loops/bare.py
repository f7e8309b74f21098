"""Numba's LLVM code without machine code, which `native` makes of the whole later, once.

By itself Numba optimises every function together with all that it calls and makes machine code
of that, again at each level: the tiles a dozen times. Its compiler for files on disk makes no
machine code; here it optimises nothing either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from numba.core.codegen import AOTCodeLibrary, AOTCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target


class _Library(AOTCodeLibrary):  # type: ignore[misc]
    """A function and those that it calls, as they are."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = str(self.codegen.target_data)

    def _optimize_final_module(self) -> None:
        pass

    def get_pointer_to_function(self, name: str) -> int:
        """There is none: nobody calls these functions from Python."""
        self._ensure_finalized()
        return 0


class _Codegen(AOTCPUCodegen):  # type: ignore[misc]
    _library_class = _Library

    def set_env(self, name: str, environment: Any) -> None:
        """Environments are for exceptions and Python objects."""


@cache
def _codegen() -> Any:
    return _Codegen("deltaprop")


@contextmanager
def no_machine_code() -> Iterator[None]:
    """What Numba compiles within is LLVM code only; other threads wait with theirs."""
    with global_compiler_lock:
        context = cpu_target.target_context
        usual = context._internal_codegen
        context._internal_codegen = _codegen()
        try:
            yield
        finally:
            context._internal_codegen = usual
