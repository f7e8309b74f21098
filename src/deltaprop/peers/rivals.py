"""Who takes part."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from importlib import import_module

from deltaprop.peers.by_hand import Runner, by_numpy, deltaprop
from deltaprop.peers.case import Case, Task
from deltaprop.peers.frameworks import jax_jit, pytorch, torch_compile
from deltaprop.peers.scikit import own_case, scikit_learn

OURS = "deltaprop"


@dataclass(frozen=True)
class Rival:
    """How one starts from a task's parameters, and which case it computes for one asked for.

    Where that is another case, its time is not compared.
    """

    name: str
    package: str
    start: Callable[[Task], Runner]
    own_case: Callable[[Case], Case] = lambda case: case

    @property
    def required(self) -> bool:
        """Whether there is no excuse for not running."""
        return self.package in ("deltaprop", "numpy")

    @property
    def missing(self) -> str:
        """Why it is not here, or nothing."""
        try:
            import_module(self.package)
        except ImportError as error:
            return first_line(error)
        return ""


def first_line(error: Exception) -> str:
    """What went wrong, without the pages that a compiler adds."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


RIVALS = (
    Rival(OURS, "deltaprop", deltaprop),
    Rival("NumPy", "numpy", by_numpy),
    Rival("PyTorch", "torch", pytorch),
    Rival("torch.compile", "torch", torch_compile),
    Rival("JAX", "jax", jax_jit),
    Rival("scikit-learn", "sklearn", scikit_learn, own_case),
)


def taking_part(backend: str, names: Collection[str]) -> list[Rival]:
    """Those of that name, ours on that backend."""
    ours = Rival(OURS, "deltaprop", partial(deltaprop, backend=backend))
    return [ours if r.name == OURS else r for r in RIVALS if r.name in names]


EVERYBODY = tuple(rival.name for rival in RIVALS)
OF_SWEEPS = (OURS, "NumPy", "PyTorch", "JAX")
