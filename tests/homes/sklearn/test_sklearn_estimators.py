"""deltaprop's estimators: what they compute, what they refuse, and scikit-learn's tools around."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
from typing import Any

import numpy as np
import pytest
import sklearn
from joblib.externals.loky import get_reusable_executor
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deltaprop as dp
from deltaprop.sklearn import MLPClassifier, MLPRegressor

X = np.random.default_rng(0).standard_normal((60, 3))
LABELS = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
SETS = (X[:, :2] > 0).astype(int)
VALUES = X[:, :2] * X[:, 1:]
TINY: dict[str, Any] = {"hidden_layer_sizes": 4, "random_state": 0, "n_iter_no_change": None}


def seeds(count: int) -> list[int]:
    """What is drawn with random_state 0: for the weights first, then for the order."""
    random = np.random.RandomState(0)
    return [int(random.randint(np.iinfo(np.int32).max)) for _ in range(count)]


def same_bits(got: Any, wanted: Any) -> bool:
    return np.array_equal(np.asarray(got), np.asarray(wanted))


KINDS = {
    "values": (MLPRegressor, VALUES, VALUES, "identity", "half_mse"),
    "flat": (MLPRegressor, VALUES[:, 0], VALUES[:, :1], "identity", "half_mse"),
    "labels": (MLPClassifier, np.array(list("abc"))[LABELS], LABELS, "softmax", "cross_entropy"),
    "two": (
        MLPClassifier,
        np.array(["no", "yes"])[SETS[:, 0]],
        SETS[:, :1].astype(float),
        "logistic",
        "binary_cross_entropy",
    ),
    "sets": (MLPClassifier, SETS, SETS.astype(float), "logistic", "binary_cross_entropy"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_net_that_fit_trains(kind: str) -> None:
    estimator, y, Y, output, loss = KINDS[kind]
    weights = 1 + np.arange(60) % 3
    first, second = seeds(2)
    outputs = 3 if kind == "labels" else Y.shape[1]
    net = dp.MLP([3, 5, 4, outputs], ["tanh", "silu"], output, seed=first, dtype="float64")
    history = net.fit(
        X,
        Y,
        loss,
        epochs=20,
        batch_size=16,
        optimizer=dp.AdamW(dp.schedules.CosineDecay(0.1, 60), weight_decay=0.1),
        sample_weight=weights * (60 / weights.sum()),
        seed=second,
        validation=0.25,
        patience=3,
        tolerance=1e-3,
    )
    got = estimator(
        hidden_layer_sizes=(5, 4),
        activation=("tanh", "silu"),
        optimizer="adamw",
        learning_rate_init=dp.schedules.CosineDecay(0.1, 60),
        weight_decay=0.1,
        batch_size=16,
        max_iter=20,
        tol=1e-3,
        n_iter_no_change=3,
        early_stopping=True,
        validation_fraction=0.25,
        random_state=0,
    )
    if history.stopped == "epochs":
        with pytest.warns(ConvergenceWarning, match="max_iter=20 epochs"):
            got.fit(X, y, weights)
    else:
        got.fit(X, y, weights)
    assert same_bits(got.net_.parameters, net.parameters)
    assert got.loss_curve_ == history.loss
    assert got.history_.validation_loss == history.validation_loss
    assert (got.loss_, got.n_iter_) == (history.loss[-1], len(history.loss))
    assert got.predict(X).shape == y.shape
    assert got.predict(X).dtype.kind == y.dtype.kind


def test_the_best_weights_come_back_without_patience_too() -> None:
    options = {**TINY, "early_stopping": True, "optimizer": dp.SGD(0.3), "batch_size": 8}
    got = MLPRegressor(**options, max_iter=20).fit(X, VALUES)
    best = got.history_.best_epoch
    assert got.n_iter_ == 20 > best
    wanted = MLPRegressor(**options, max_iter=best).fit(X, VALUES)
    assert same_bits(got.net_.parameters, wanted.net_.parameters)


def test_without_shuffling_the_samples_stay_in_order() -> None:
    net = dp.MLP([3, 4, 1], "relu", seed=seeds(1)[0], dtype="float64")
    net.fit(X, VALUES[:, :1], epochs=2, batch_size=16, optimizer=dp.SGD(), seed=None)
    got = MLPRegressor(**TINY, optimizer="sgd", batch_size=16, max_iter=2, shuffle=False)
    assert same_bits(got.fit(X, VALUES[:, 0]).net_.parameters, net.parameters)


@pytest.mark.parametrize("kind", ["labels", "two", "sets"])
def test_probabilities_are_those_of_the_outputs(kind: str) -> None:
    _, y, _, _, _ = KINDS[kind]
    got = MLPClassifier(**TINY, max_iter=5).fit(X, y)
    a = got.net_.predict(X)
    wanted = {"labels": a, "two": np.hstack([1 - a, a]), "sets": a}[kind]
    assert same_bits(got.predict_proba(X), wanted)
    np.testing.assert_allclose(got.predict_log_proba(X), np.log(wanted), rtol=1e-12)
    if kind == "sets":
        assert same_bits(got.classes_, [0, 1])
        assert same_bits(got.predict(X), a > 0.5)
    else:
        assert same_bits(got.classes_, np.unique(y))
        assert same_bits(got.predict(X), got.classes_[wanted.argmax(axis=1)])


@pytest.mark.parametrize("kind", ["labels", "two", "sets"])
def test_logarithms_are_finite_where_probabilities_are_0(kind: str) -> None:
    got = MLPClassifier(**TINY, max_iter=50, optimizer=dp.Adam(0.05)).fit(X, KINDS[kind][1])
    far = 1e5 * X
    assert (got.predict_proba(far) == 0).any()
    logarithms = got.predict_log_proba(far)
    assert np.isfinite(logarithms).all()
    assert logarithms.min() < np.log(np.finfo(float).tiny)


def test_one_class_is_certain() -> None:
    got = MLPClassifier(**TINY, max_iter=2).fit(X, np.full(60, "only"))
    assert same_bits(got.predict_proba(X), np.ones((60, 1)))
    assert set(got.predict(X)) == {"only"}


# ------------------------------------------------------------------------- sample weights


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_full_batch_repeat_and_remove(kind: str) -> None:
    estimator, y, _, _, _ = KINDS[kind]
    times = np.arange(60) % 4
    weighted = estimator(**TINY, max_iter=30).fit(X, y, 0.1 * times)
    repeated = estimator(**TINY, max_iter=30).fit(X.repeat(times, axis=0), y.repeat(times, axis=0))
    np.testing.assert_allclose(weighted.net_.parameters, repeated.net_.parameters, rtol=1e-9)


def test_a_sample_of_weight_0_is_none_whatever_the_batches() -> None:
    weights = np.where(LABELS == 1, 0.0, 2.0)
    options = {**TINY, "max_iter": 3, "batch_size": 8}
    got = MLPClassifier(**options).fit(X, LABELS, weights)
    wanted = MLPClassifier(**options).fit(X[LABELS != 1], LABELS[LABELS != 1])
    assert same_bits(got.classes_, [0, 2])
    assert same_bits(got.net_.parameters, wanted.net_.parameters)


# ---------------------------------------------------------------------------- partial fits


@pytest.mark.parametrize("kind", KINDS)
def test_partial_fits_are_the_epochs_of_a_fit(kind: str) -> None:
    estimator, y, _, _, _ = KINDS[kind]
    options = {**TINY, "shuffle": False, "batch_size": 16}
    whole = estimator(**options, max_iter=4).fit(X, y)
    parts = estimator(**options)
    parts.partial_fit(X, y, **({"classes": np.unique(y)} if kind in ("labels", "two") else {}))
    for _ in range(3):
        parts.partial_fit(X, y)
    assert same_bits(parts.net_.parameters, whole.net_.parameters)
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.n_iter_ == 1


def test_partial_fits_shuffle_anew() -> None:
    parts = MLPRegressor(**TINY, batch_size=16).partial_fit(X, VALUES).partial_fit(X, VALUES)
    first, *orders = seeds(3)
    net = dp.MLP([3, 4, 2], "relu", seed=first, dtype="float64")
    for seed in orders:
        net.fit(X, VALUES, epochs=1, batch_size=16, optimizer=dp.Adam(), seed=seed)
    assert same_bits(parts.net_.parameters, net.parameters)


def test_classes_of_partial_fits() -> None:
    got = MLPClassifier(**TINY)
    with pytest.raises(ValueError, match="classes must be passed"):
        got.partial_fit(X, LABELS)
    assert not hasattr(got, "n_features_in_")
    some = LABELS < 2
    got.partial_fit(X[some], LABELS[some], classes=[2, 1, 0])
    assert same_bits(got.partial_fit(X, LABELS).classes_, [0, 1, 2])
    with pytest.raises(ValueError, match=r"classes must be \[0 1 2\]"):
        got.partial_fit(X, LABELS, classes=[0, 1])
    with pytest.raises(ValueError, match=r"labels \[3\]"):
        got.partial_fit(X, LABELS + 1)
    with pytest.raises(ValueError, match=r"classes must be \[0 1\]"):
        MLPClassifier(**TINY).partial_fit(X, SETS, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="early_stopping"):
        got.set_params(early_stopping=True).partial_fit(X, LABELS)


def test_a_warm_start_goes_on_from_the_weights() -> None:
    options = {**TINY, "shuffle": False, "optimizer": "sgd", "warm_start": True}
    got = MLPRegressor(**options, max_iter=3).fit(X, VALUES)
    first = got.net_
    before = first.parameters.copy()
    got.fit(X, VALUES)
    wanted = MLPRegressor(**options, max_iter=6).fit(X, VALUES)
    assert same_bits(got.net_.parameters, wanted.net_.parameters)
    assert got.loss_curve_ == wanted.loss_curve_
    assert got.n_iter_ == 3
    assert same_bits(first.parameters, before)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes must be \[4\], as before, got \[5\]"):
        got.set_params(hidden_layer_sizes=5).fit(X, VALUES)


# ------------------------------------------------------------------------------- parameters


def test_dtypes() -> None:
    small = X.astype("float32")
    for x, dtype, wanted in (
        (X, None, "float64"),
        (small, None, "float32"),
        (X, "float32", "float32"),
    ):
        got = MLPRegressor(**TINY, max_iter=1, dtype=dtype).fit(x, VALUES)
        assert got.net_.dtype == wanted
        assert got.predict(X).dtype == wanted
    assert (
        MLPRegressor(**TINY, max_iter=1).fit(np.arange(6).reshape(3, 2), [1, 2, 3]).net_.dtype
        == "float64"
    )


def test_the_backend_is_that_of_the_net() -> None:
    got = MLPRegressor(**TINY, max_iter=2, backend="numpy").fit(X, VALUES)
    assert got.net_.backend == "numpy"
    wanted = MLPRegressor(**TINY, max_iter=2, backend="reference").fit(X, VALUES)
    np.testing.assert_allclose(got.predict(X), wanted.predict(X), rtol=1e-10)


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_names_and_defaults_are_scikit_learns(estimator: type) -> None:
    theirs = inspect.signature(getattr(neural_network, estimator.__name__)).parameters
    mine = inspect.signature(estimator).parameters
    own = {"optimizer", "weight_decay", "dtype", "backend"}
    assert set(mine) - set(theirs) == own
    unlike = {name for name in set(mine) - own if mine[name].default != theirs[name].default}
    assert unlike == {"learning_rate_init"}  # each optimizer has its own
    assert all(f"    {name}" in estimator.__doc__.replace(", ", "\n    ") for name in mine)


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "sizes": ({"hidden_layer_sizes": (4, 0)}, ValueError, r"hidden_layer_sizes\[1\] must be at l"),
    "activation": ({"activation": "rely"}, ValueError, "did you mean 'relu'"),
    "optimizer": ({"optimizer": "Adam"}, ValueError, "did you mean 'adam'"),
    "rate": ({"learning_rate_init": -1.0}, ValueError, "learning_rate must be finite"),
    "two rates": (
        {"optimizer": dp.Adam(), "learning_rate_init": 0.1},
        TypeError,
        "learning_rate are those of Adam",
    ),
    "batch": ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    "epochs": ({"max_iter": 0}, ValueError, "max_iter must be at least 1, got 0"),
    "patience": ({"n_iter_no_change": 1.5}, TypeError, "n_iter_no_change must be an integer"),
    "tol": ({"tol": -1}, ValueError, "tol must be finite"),
    "dtype": ({"dtype": "float16"}, ValueError, "choose from float32, float64"),
    "fraction": ({"early_stopping": True, "validation_fraction": 1.0}, ValueError, "validation"),
    "diverges": ({"optimizer": dp.SGD(1e300)}, ValueError, "diverged"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_after_an_error_all_is_as_it_was(what: str) -> None:
    parameters, error, message = REFUSED[what]
    got = MLPRegressor(**TINY, max_iter=3).fit(X, VALUES)
    before, answer = dict(vars(got)), got.predict(X)
    got.set_params(**parameters)
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        got.fit(X[:, :2], VALUES)
    got.set_params(**{name: before[name] for name in parameters})
    assert vars(got) == before
    assert same_bits(got.predict(X), answer)


def test_a_partial_fit_that_diverges_leaves_the_net_as_it_was() -> None:
    got = MLPRegressor(**TINY).partial_fit(X, VALUES)
    before = got.net_.parameters.copy()
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="diverged"):
        got.set_params(optimizer=dp.Adam(1e300), batch_size=1).partial_fit(X, VALUES)
    assert same_bits(got.net_.parameters, before)
    got.set_params(optimizer=dp.Adam(1e-3), batch_size=60).partial_fit(X, VALUES)
    assert np.abs(got.net_.parameters - before).max() <= 1.001e-3  # the first step of an Adam


@pytest.mark.parametrize(
    ("y", "weights", "message"),
    [
        (VALUES[:, :1], None, r"y must have shape \(m, 2\), as before, got \(60, 1\)"),
        (VALUES, -np.ones(60), "must not be negative"),
        (VALUES, np.ones((60, 1)), r"sample_weight must have shape \(60,\), got \(60, 1\)"),
    ],
)
def test_samples_that_do_not_fit(y: Any, weights: Any, message: str) -> None:
    got = MLPRegressor(**TINY).partial_fit(X, VALUES)
    with pytest.raises(ValueError, match=message):
        got.partial_fit(X, y, weights)


def test_labels_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"must be 0 or 1, got \[0 2\]"):
        MLPClassifier(**TINY).fit(X, 2 * SETS)
    with pytest.raises(ValueError, match="Unknown label type: multiclass-multioutput"):
        MLPClassifier(**TINY).fit(X, np.stack([LABELS, LABELS], axis=1))


def test_a_warning_tells_that_it_has_not_converged() -> None:
    with pytest.warns(ConvergenceWarning, match="max_iter=2 epochs") as caught:
        MLPRegressor(max_iter=2).fit(X, VALUES)
    assert caught[0].filename == __file__


# ---------------------------------------------------------------------- scikit-learn's tools


def test_pipelines_searches_and_copies() -> None:
    net = MLPClassifier(**{**TINY, "max_iter": 40}, learning_rate_init=0.05)
    pipeline = make_pipeline(StandardScaler(), net)
    grid = {"mlpclassifier__hidden_layer_sizes": [(), (4, 3)]}
    try:
        search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, LABELS)
    finally:
        get_reusable_executor().shutdown(wait=True)
    alone = GridSearchCV(pipeline, grid, cv=2).fit(X, LABELS)
    for key in ("mean_test_score", "params"):
        assert list(search.cv_results_[key]) == list(alone.cv_results_[key])
    assert search.score(X, LABELS) > 0.8
    assert cross_val_score(clone(search.best_estimator_), X, LABELS, cv=3).mean() > 0.8
    copy = pickle.loads(pickle.dumps(search))
    assert same_bits(copy.predict_proba(X), search.predict_proba(X))


def test_names_of_features() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(**TINY, max_iter=1))
    pipeline.set_output(transform="pandas").fit(frame, VALUES)
    assert list(pipeline[-1].feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        pipeline[-1].predict(frame[["c", "b", "a"]])
    with pytest.raises(ValueError, match="feature names"):
        pipeline[-1].partial_fit(frame[["c", "b", "a"]], VALUES)


def test_weights_are_routed() -> None:
    weights = 1 + np.arange(60) % 3
    net = MLPRegressor(**TINY, max_iter=2)
    with sklearn.config_context(enable_metadata_routing=True):
        asking = clone(net).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        routed = make_pipeline(scaler, asking).fit(X, VALUES, sample_weight=weights)
        asking.set_score_request(sample_weight=True)
        found = cross_validate(asking, X, VALUES, params={"sample_weight": weights}, cv=KFold(2))
    scaled = StandardScaler().fit(X, sample_weight=weights).transform(X)
    wanted = clone(net).fit(scaled, VALUES, weights)
    assert same_bits(routed[-1].net_.parameters, wanted.net_.parameters)
    scores = [
        clone(net).fit(X[a], VALUES[a], weights[a]).score(X[b], VALUES[b], weights[b])
        for a, b in KFold(2).split(X)
    ]
    assert list(found["test_score"]) == scores


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("deltaprop.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'deltaprop\[sklearn\]'"):
        importlib.import_module("deltaprop.sklearn")
