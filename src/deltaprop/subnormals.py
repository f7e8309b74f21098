"""Does this thread keep subnormal numbers?

A library can switch flushing to zero on for a thread, and every thread it starts later: results
would then have other bits. The exact backends look before they compute.
"""

from __future__ import annotations

import numpy as np

TINY = np.float64(5e-324)


class SubnormalsFlushedError(FloatingPointError):
    """This thread flushes subnormal numbers to zero, so bits could not be kept."""

    def __init__(self) -> None:
        super().__init__(
            "a thread of this process flushes subnormal numbers to zero, which another library "
            "must have switched on (one built with -ffast-math, say); deltaprop's exact "
            "backends would return other bits. Do without that library, or use backend='numpy'"
        )


def require_subnormals() -> None:
    """Raises `SubnormalsFlushedError` if the calling thread flushes them."""
    if TINY * np.float64(1) == 0:
        raise SubnormalsFlushedError
