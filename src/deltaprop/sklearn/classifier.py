"""Classification."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import is_multilabel, type_of_target, unique_labels

from deltaprop.sklearn.base import PARAMETERS, BaseMLP
from deltaprop.sklearn.targets import Labels, LabelSets


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    __doc__ = f"""A layered net that classifies, with scikit-learn's interface.

    y (m,) has labels of any kind: two classes are one logistic output, more are a softmax. y
    (m, n) of 0 and 1 has any number of n labels for a sample: logistic outputs. The loss is minus
    the log-likelihood over m: "binary_cross_entropy" or "cross_entropy".
{PARAMETERS}
    classes_
        The labels, sorted; of label sets the numbers of the columns.
    """

    classes_: np.ndarray
    _targets: Labels | LabelSets

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains a new net, or with `warm_start` the one that there is.

        Parameters
        ----------
        X
            Inputs (m, features).
        y
            Labels (m,), or 0 and 1 (m, labels).
        sample_weight
            (m,), not negative: a weight of 0 is no sample, and in full batches a weight of 2 is
            two. Only their ratios matter.
        """
        return self._fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """One epoch over these samples, from where the net and its optimizer are.

        `classes` are all that there will be, needed in the first call for labels (m,). Otherwise
        as `fit`.
        """
        if classes is None and not hasattr(self, "net_") and not is_multilabel(y):
            raise ValueError("classes must be passed on the first call to partial_fit")
        return self._partial_fit(X, y, sample_weight, classes)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class (m, classes); of label sets that of each label."""
        X = self._inputs(X)
        return self._targets.probabilities(self.net_.predict(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of `predict_proba`, from z of the outputs: more exact near 0 and 1."""
        X = self._inputs(X)
        z: Any = self.net_.forward(X).z[-1]
        return self._targets.log_probabilities(z)

    def _checked_y(self, y: Any) -> np.ndarray:
        y = y.toarray() if hasattr(y, "toarray") else y
        if is_multilabel(y):
            return np.asarray(y)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind not in ("binary", "multiclass"):
            raise ValueError(
                f"Unknown label type: {kind}. y must be labels (m,), or 0 and 1 (m, labels)"
            )
        found: np.ndarray = column_or_1d(y, warn=True)
        return found

    def _targets_of(self, y: np.ndarray, classes: Any, again: bool) -> Labels | LabelSets:
        if classes is not None:
            classes = unique_labels(classes)
        if again:
            found = self._targets
        elif y.ndim == 2:
            found = LabelSets(y.shape[1])
        else:
            found = Labels(np.unique(y) if classes is None else classes)
        if classes is not None and not np.array_equal(classes, found.classes):
            raise ValueError(f"classes must be {found.classes}, as before, got {classes}")
        return found

    def _train(self, *args: Any, **options: Any) -> None:
        super()._train(*args, **options)
        self.classes_ = self._targets.classes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
