"""Layered nets as scikit-learn's estimators: `MLPClassifier` and `MLPRegressor`."""

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError("scikit-learn is missing: pip install 'deltaprop[sklearn]'") from error

from deltaprop.sklearn.classifier import MLPClassifier
from deltaprop.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
