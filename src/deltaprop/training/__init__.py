"""Training: fit, what it reports, when it stops, what it writes down."""

from deltaprop.training.history import History
from deltaprop.training.loop import fit

__all__ = ["History", "fit"]
