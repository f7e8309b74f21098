"""The errors that are deltaprop's own, and the help an unknown name gets."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

OTHER_NAMES = {
    "bce": "binary_cross_entropy",
    "crossentropy": "cross_entropy",
    "linear": "identity",
    "sigmoid": "logistic",
    "sse": "half_sse",
    "swish": "silu",
}
"""What other libraries call things that have a name here."""


class BackendUnavailableError(RuntimeError):
    """A backend asked for by name cannot run here; the message says why and what would help."""


class DeviceMemoryError(MemoryError):
    """A GPU has no room for an array; nothing was changed."""


class KernelError(RuntimeError):
    """A kernel could not be compiled, loaded or launched, or it failed while it ran.

    The message names it, and the arrays it was given; where a GPU failed, the last few launched.
    """


class ModelFileError(ValueError):
    """A model file is damaged, or holds no net that can be made here."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, or of another training than the one that is to go on."""


class GraphError(ValueError):
    """A graph that has no forward sweep, or whose sweep would leave units out."""


def nearest(name: object, names: Iterable[str]) -> str:
    """ " (did you mean ...?)" with the name that is most like this one, or nothing."""
    lower = {known.lower(): known for known in names}
    near = next(iter(difflib.get_close_matches(str(name).lower(), lower, 1, 0.5)), None)
    return f" (did you mean {lower[near]!r}?)" if near else ""


def find(kind: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`, or a ValueError that names the nearest match and every choice."""
    if isinstance(name, str) and name in table:
        return table[name]
    near = OTHER_NAMES.get(str(name).lower())
    hint = f" (did you mean {near!r}?)" if near in table else nearest(name, table)
    raise ValueError(f"unknown {kind} {name!r}{hint}; choose from {', '.join(table)}")
