"""What both estimators share: their parameters, their samples, and training by `net.fit`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from numbers import Integral
from typing import Any, NamedTuple, Self
from warnings import warn

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from deltaprop.arrays import check_count, check_rate, float_dtype
from deltaprop.errors import find
from deltaprop.foreign import to_numpy
from deltaprop.mlp import MLP
from deltaprop.optimizers import OPTIMIZERS, Optimizer
from deltaprop.scalar import DTYPES
from deltaprop.sklearn.targets import Targets
from deltaprop.training import History

PARAMETERS = """
    Parameters
    ----------
    hidden_layer_sizes
        Units of each hidden layer, or of the only one; () for none.
    activation
        Of the hidden layers: one of deltaprop's, or a list with one for each.
    optimizer
        "sgd", "momentum", "rmsprop", "adam" or "adamw", or a value, as deltaprop.Adam(1e-3).
    learning_rate_init
        Of an optimizer that is named: a number or a schedule; None for its default, Adam's 1e-3.
    weight_decay
        Of an optimizer that is named; None for its default, 0 but for "adamw". It is lambda of
        deltaprop's optimizers, not scikit-learn's alpha, which is divided by the batch's size.
    batch_size
        Samples of a step; "auto" is 200, or all if there are fewer.
    max_iter
        The most epochs of a `fit`.
    shuffle
        Whether the samples are in a new order in every epoch.
    random_state
        Of the initial weights, the order and the samples to validate with: as scikit-learn's.
    tol, n_iter_no_change
        The training ends when so many epochs have not lowered the loss by more than tol; None,
        it does not end before max_iter.
    early_stopping, validation_fraction
        Whether that loss is the one of so large a part of the samples, which is not trained on;
        the weights of the best epoch come back.
    warm_start
        Whether `fit` goes on with the net that there is, its activations, dtype and backend.
    verbose
        Whether a bar shows how far the training is.
    dtype
        "float32" or "float64": of the net, and what X and y are converted to. None: that of X in
        the first fit, float64 unless it is float32.
    backend
        As of `deltaprop.MLP`.

    Attributes
    ----------
    net_
        The `deltaprop.MLP`. A pickle has its weights, but not what its optimizer remembers.
    history_
        The `deltaprop.History` of the last fit.
    loss_
        The loss of the last epoch, the mean over its batches.
    loss_curve_
        That of every epoch since the weights were drawn.
    n_iter_
        Epochs of the last fit.
    n_features_in_
        Columns of X.
    feature_names_in_
        Their names, where X has any."""

NAMED = {name.lower(): kind for name, kind in OPTIMIZERS.items()}
AUTO_BATCH = 200


class _Samples(NamedTuple):
    """Those whose weight is not 0; weights have the mean 1."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None


class BaseMLP(BaseEstimator, ABC):  # type: ignore[misc]
    """A layered net with scikit-learn's interface; see `MLPClassifier` and `MLPRegressor`."""

    net_: MLP
    history_: History
    loss_: float
    loss_curve_: list[float]
    n_iter_: int
    _random: np.random.RandomState

    def __init__(
        self,
        *,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        optimizer: str | Optimizer = "adam",
        learning_rate_init: Any = None,
        weight_decay: float | None = None,
        batch_size: Any = "auto",
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        n_iter_no_change: float | None = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        verbose: bool = False,
        dtype: Any = None,
        backend: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.verbose = verbose
        self.dtype = dtype
        self.backend = backend

    @abstractmethod
    def _checked_y(self, y: Any) -> np.ndarray:
        """y (m,) or (m, n), or an error that says what it should be."""

    @abstractmethod
    def _targets_of(self, y: np.ndarray, classes: Any, again: bool) -> Targets:
        """What kind of y it is, or was in the first fit."""

    # ------------------------------------------------------------------------ training

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        epochs, patience = check_count("max_iter", self.max_iter), self._patience()
        options: dict[str, Any] = {"tolerance": check_rate("tol", self.tol, DTYPES["float64"])}
        if self.early_stopping:
            options["validation"] = self.validation_fraction
            options["patience"] = patience or epochs  # with one, the best weights come back
        else:
            options["patience"] = patience
        with self._as_it_was_after_errors():
            again = self.warm_start and hasattr(self, "net_")
            old = copy(self.net_) if again else None
            self._train(old, X, y, sample_weight, epochs=epochs, **options)
        if patience is not None and self.history_.stopped == "epochs":
            warn(
                f"after max_iter={self.max_iter} epochs the loss still falls by more than "
                f"tol={self.tol} within n_iter_no_change={self.n_iter_no_change}",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        if self.early_stopping:
            raise ValueError("partial_fit is one epoch: it takes no early_stopping=True")
        with self._as_it_was_after_errors():
            old = getattr(self, "net_", None)
            self._train(old, X, y, sample_weight, classes, epochs=1)
        return self

    @contextmanager
    def _as_it_was_after_errors(self) -> Iterator[None]:
        """Also what scikit-learn remembers of X while it checks it."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def _train(
        self,
        old: MLP | None,
        X: Any,
        y: Any,
        sample_weight: Any,
        classes: Any = None,
        **options: Any,
    ) -> None:
        """Trains `old`, or a new net, and takes it over if all went well."""
        again = old is not None
        X, y, weights = self._samples(X, y, sample_weight, again)
        targets = self._targets_of(y, classes, again)
        random = self._random if again else check_random_state(self.random_state)
        net = self._net(old, X, targets, random)
        before = net.parameters.copy()
        history = net.fit(
            X,
            targets.encode(y, X.dtype),
            targets.loss,
            batch_size=self._batch_size(len(X)),
            optimizer=self._optimizer(),
            sample_weight=weights,
            seed=_drawn(random) if self.shuffle else None,
            progress=bool(self.verbose),
            **options,
        )
        if not np.isfinite(to_numpy(net.parameters)).all():
            net.parameters[...] = before
            net.reset_optimizer()
            raise ValueError("the training diverged: scale X and y, or take a lower learning rate")
        self.loss_curve_ = (self.loss_curve_ if again else []) + history.loss
        self.loss_, self.n_iter_ = history.loss[-1], len(history.loss)
        self.net_, self.history_, self._targets, self._random = net, history, targets, random

    def _net(
        self, old: MLP | None, X: np.ndarray, targets: Targets, random: np.random.RandomState
    ) -> MLP:
        """`old`, which must have the hidden layers that are wanted, or a new net."""
        sizes = self.hidden_layer_sizes
        sizes = [sizes] if isinstance(sizes, Integral) else list(sizes)
        hidden = [check_count(f"hidden_layer_sizes[{i}]", n) for i, n in enumerate(sizes)]
        if old is None:
            sizes = [X.shape[1], *hidden, targets.outputs]
            return MLP(
                sizes,
                self.activation,
                targets.activation,
                seed=_drawn(random),
                dtype=X.dtype,
                backend=self.backend,
            )
        there = list(old.sizes[1:-1])
        if hidden != there:
            raise ValueError(f"hidden_layer_sizes must be {there}, as before, got {hidden}")
        return old

    def _optimizer(self) -> Optimizer:
        given = {"learning_rate": self.learning_rate_init, "weight_decay": self.weight_decay}
        given = {name: value for name, value in given.items() if value is not None}
        if not isinstance(self.optimizer, Optimizer):
            return find("optimizer", self.optimizer, NAMED)(**given)
        if given:
            raise TypeError(f"{' and '.join(given)} are those of {self.optimizer}: pass no others")
        return self.optimizer

    def _patience(self) -> int | None:
        if self.n_iter_no_change in (None, np.inf):
            return None
        return check_count("n_iter_no_change", self.n_iter_no_change)  # type: ignore[arg-type]

    def _batch_size(self, m: int) -> int:
        if isinstance(self.batch_size, str) and self.batch_size == "auto":
            return min(AUTO_BATCH, m)
        return check_count("batch_size", self.batch_size)

    # ------------------------------------------------------------------------- samples

    def _samples(self, X: Any, y: Any, sample_weight: Any, again: bool) -> _Samples:
        """All checked, without those of weight 0."""
        X, y = validate_data(
            self,
            X,
            y,
            reset=not again,
            dtype=self._dtypes(again),
            multi_output=True,
            y_numeric=is_regressor(self),
        )
        y = self._checked_y(y)
        if sample_weight is None:
            return _Samples(X, y, None)
        w = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
        if w.shape != (len(X),):
            raise ValueError(f"sample_weight must have shape ({len(X)},), got {w.shape}")
        if w.min() < 0 or not w.any():
            raise ValueError("sample_weight must not be negative, nor zero for all samples")
        taken = w > 0
        w = w[taken]
        return _Samples(X[taken], y[taken], (w * (len(w) / w.sum())).astype(X.dtype))

    def _dtypes(self, again: bool) -> list[type]:
        """Those that X may have; it is converted to the first if it has another."""
        if again:
            return [self.net_.dtype.type]
        return [np.float64, np.float32] if self.dtype is None else [float_dtype(self.dtype).type]

    def _inputs(self, X: Any) -> np.ndarray:
        """X (m, features) of the net's dtype, checked."""
        check_is_fitted(self)
        found: np.ndarray = validate_data(self, X, reset=False, dtype=self._dtypes(again=True))
        return found

    def predict(self, X: Any) -> np.ndarray:
        """y of each sample, in the shape that it had in `fit`."""
        X = self._inputs(X)
        return self._targets.decode(self.net_.predict(X))


def _drawn(random: np.random.RandomState) -> int:
    """A seed for a net or for the order of its samples."""
    return int(random.randint(np.iinfo(np.int32).max))
