"""deltaprop's estimators beside scikit-learn's own MLP: the score on data never seen, and the time.

Both have their defaults, which are one hidden layer of 100 relu units, Adam with a rate of 1e-3,
batches of 200, at most 200 epochs; and the same pipeline, folds and seeds. They are fitted in
turn, in one process, with one thread each.

python benchmarks/sklearn_mlp.py > benchmarks/results/sklearn-mlp-<machine>.md
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import numpy as np
from sklearn import datasets, neural_network
from sklearn.base import clone, is_classifier
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import deltaprop as dp
import deltaprop.sklearn
from deltaprop.peers.machine import description, versions

DATA: dict[str, Callable[..., Any]] = {
    "digits": datasets.load_digits,
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}
FOLDS = 5
LIBRARIES = {"scikit-learn": neural_network, "deltaprop": deltaprop.sklearn}


class Fit(NamedTuple):
    score: float
    seconds: float
    epochs: int


def pipeline(library: Any, name: str, seed: int) -> Any:
    """Inputs have the mean 0 and the variance 1, and so have the targets of a regression."""
    if name != "diabetes":
        return make_pipeline(StandardScaler(), library.MLPClassifier(random_state=seed))
    net = make_pipeline(StandardScaler(), library.MLPRegressor(random_state=seed))
    return TransformedTargetRegressor(net, transformer=StandardScaler())


def fitted(model: Any, X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> Fit:
    model = clone(model)
    start = time.perf_counter()
    model.fit(X[train], y[train])
    seconds = time.perf_counter() - start
    steps = getattr(model, "regressor_", model)
    return Fit(model.score(X[test], y[test]), seconds, steps[-1].n_iter_)


def compared(name: str, seeds: int) -> dict[str, list[list[Fit]]]:
    """Of each library, by seed and fold."""
    X, y = DATA[name](return_X_y=True)
    found: dict[str, list[list[Fit]]] = {library: [] for library in LIBRARIES}
    for seed in range(seeds):
        models = {key: pipeline(library, name, seed) for key, library in LIBRARIES.items()}
        kind = StratifiedKFold if is_classifier(models["deltaprop"]) else KFold
        for fits in found.values():
            fits.append([])
        for i, rows in enumerate(kind(FOLDS, shuffle=True, random_state=seed).split(X, y)):
            for key in list(models)[:: 1 if i % 2 else -1]:  # either is first as often
                found[key][-1].append(fitted(models[key], X, y, *rows))
    return found


def line(name: str, found: dict[str, list[list[Fit]]]) -> str:
    theirs, ours = (np.array(found[key]) for key in LIBRARIES)  # (seeds, folds, Fit)
    means = [fits[..., 0].mean() for fits in (theirs, ours)]
    difference = (ours[..., 0] - theirs[..., 0]).mean(axis=1)
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    verdict = "equal or better" if difference.mean() >= -2 * error else "WORSE"
    times = [1e3 * np.median(fits[..., 1]) for fits in (theirs, ours)]
    ratio = statistics.median((theirs[..., 1] / ours[..., 1]).ravel())
    epochs = [int(np.median(fits[..., 2])) for fits in (theirs, ours)]
    cells = [
        name,
        *(f"{mean:.4f}" for mean in means),
        f"{difference.mean():+.4f} ± {error:.4f}",
        verdict,
        *(f"{t:,.0f}" for t in times),
        f"{ratio:.1f}",
        *map(str, epochs),
    ]
    return f"| {' | '.join(cells)} |"


HEAD = f"""\
Accuracy, or R² of diabetes, on {FOLDS} folds; means over folds and seeds, and the standard error of
the difference over the seeds, each of which draws folds, weights and orders anew. "Equal or better"
is a difference not below -2 standard errors. Times are medians of a fit with its pipeline in
milliseconds, "faster" is the median of their ratios, fit by fit; epochs are medians.

| data | score: scikit-learn | deltaprop | difference | score | ms: scikit-learn | deltaprop \
| faster | epochs: scikit-learn | deltaprop |
|---|---|---|---|---|---|---|---|---|---|"""


@click.command()
@click.option("--seeds", default=10, show_default=True)
@click.option("--data", type=click.Choice(list(DATA)), multiple=True, help="All of them without.")
@click.option("--shared", is_flag=True, help="Say that others were using the machine, too.")
def main(seeds: int, data: tuple[str, ...], shared: bool) -> None:
    """Prints a table in Markdown."""
    machine = ", ".join(f"{key} {value}" for key, value in description().items())
    used = ("deltaprop", "numpy", "numba", "scikit-learn")
    named = ", ".join(f"{key} {versions()[key]}" for key in used)
    warnings.simplefilter("ignore", ConvergenceWarning)
    dp.set_num_threads(1)
    click.echo(f"{machine}; one thread{'; others used the machine, too' * shared}  ")
    click.echo(f"{named}; {seeds} seeds\n\n{HEAD}")
    with threadpool_limits(1):
        for name in data or DATA:
            X, y = DATA[name](return_X_y=True)
            fitted(pipeline(deltaprop.sklearn, name, 0), X, y, *[np.arange(len(X))] * 2)  # compiles
            click.echo(line(name, compared(name, seeds)))


if __name__ == "__main__":
    main()
