"""Regression."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from deltaprop.sklearn.base import PARAMETERS, BaseMLP
from deltaprop.sklearn.targets import Targets, Values


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    __doc__ = f"""A layered net for regression, with scikit-learn's interface.

    y is (m,), or (m, n) for n outputs. The outputs have the identity as activation, and the loss
    is "half_mse".
{PARAMETERS}
    """

    _targets: Values

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains a new net, or with `warm_start` the one that there is.

        Parameters
        ----------
        X
            Inputs (m, features).
        y
            Numbers (m,) or (m, outputs).
        sample_weight
            (m,), not negative: a weight of 0 is no sample, and in full batches a weight of 2 is
            two. Only their ratios matter.
        """
        return self._fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch over these samples, from where the net and its optimizer are; as `fit`."""
        return self._partial_fit(X, y, sample_weight)

    def _checked_y(self, y: np.ndarray) -> np.ndarray:
        return y

    def _targets_of(self, y: np.ndarray, classes: Any, again: bool) -> Targets:
        return self._targets if again else Values.of(y)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
