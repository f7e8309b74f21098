"""Who takes part."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from importlib import import_module

from deltaprop.peers.by_hand import Runner, by_numpy, deltaprop
from deltaprop.peers.by_jax import jax_jit
from deltaprop.peers.by_torch import compiled_graph, pytorch, torch_compile, torch_graph
from deltaprop.peers.case import Case, Task
from deltaprop.peers.scikit import own_case, scikit_learn

OURS = "deltaprop"


@dataclass(frozen=True)
class Rival:
    """How one starts from a task's parameters, and which case it computes for one asked for.

    Where that is another case, its time is not compared. `devices` are those that it computes on;
    `slow` is one that compiles for long on a GPU.
    """

    name: str
    package: str
    start: Callable[[Task], Runner]
    own_case: Callable[[Case], Case] = lambda case: case
    devices: tuple[str, ...] = ("cpu", "cuda")
    slow: bool = False

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


ON_CPU, ON_GPU = ("cpu",), ("cuda",)
RIVALS = (
    Rival(OURS, "deltaprop", deltaprop),
    Rival("NumPy", "numpy", by_numpy, devices=ON_CPU),
    Rival("PyTorch", "torch", pytorch),
    Rival("PyTorch graph", "torch", torch_graph, devices=ON_GPU),
    Rival("torch.compile", "torch", torch_compile, slow=True),
    Rival("compiled graph", "torch", compiled_graph, devices=ON_GPU, slow=True),
    Rival("JAX", "jax", jax_jit),
    Rival("scikit-learn", "sklearn", scikit_learn, own_case, ON_CPU),
)


def device_of(backend: str) -> str:
    """Where a backend computes, and so everybody beside it: "cpu" or "cuda"."""
    return "cuda" if backend == "cuda" else "cpu"


def taking_part(backend: str, names: Collection[str]) -> list[Rival]:
    """Those of that name, ours on that backend, the others where it computes."""
    ours = Rival(OURS, "deltaprop", partial(deltaprop, backend=backend))
    here = [r for r in RIVALS if r.name in names and device_of(backend) in r.devices]
    return [ours if r.name == OURS else r for r in here]


EVERYBODY = tuple(rival.name for rival in RIVALS)
OF_SWEEPS = (OURS, "NumPy", "PyTorch", "PyTorch graph", "JAX")
