"""Training: fit, what it reports, when it stops, what it writes down."""

from deltaprop.training.history import History
from deltaprop.training.loop import fit
from deltaprop.training.options import FitOptions

__all__ = ["FitOptions", "History", "fit"]
