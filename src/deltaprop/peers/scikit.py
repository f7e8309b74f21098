"""The step by scikit-learn: `partial_fit` of an MLP with solver="sgd" and the batch as one.

Momentum 0, a constant learning rate, alpha 0, no shuffling. Its regressor has identity outputs
and no others, so for logistic ones it takes another step: that one is checked, and its time is
told, but not compared.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from deltaprop.peers.by_hand import Runner, flat
from deltaprop.peers.case import Case, Task


def own_case(case: Case) -> Case:
    """What it computes in place of the case: identity outputs for logistic ones."""
    return replace(case, output="identity") if case.output == "logistic" else case


def scikit_learn(task: Task) -> Runner:
    task = Task.of(own_case(task.case), task.rate)
    case, X = task.case, task.X
    model, y, first = _model(task)
    model.partial_fit(X, y, **first)
    layers = list(zip(model.coefs_, model.intercepts_))
    for (W, b), (mine, bias) in zip(layers, task.layers):
        W[...], b[...] = mine.T, bias
    model._optimizer.learning_rate = task.rate

    if case.inference:
        predict = model.predict_proba if case.output == "softmax" else model.predict
        return Runner(lambda: predict(X), lambda a: np.asarray(a).reshape(len(X), -1))

    return Runner(
        lambda: model.partial_fit(X, y),
        lambda _: flat((W.T, b) for W, b in zip(model.coefs_, model.intercepts_)),
    )


def _model(task: Task) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """A model, its targets, and what its first `partial_fit` is told besides."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    case = task.case
    options = {
        "hidden_layer_sizes": case.sizes[1:-1],
        "activation": case.activation,
        "solver": "sgd",
        "alpha": 0.0,
        "batch_size": case.m,
        "learning_rate": "constant",
        "learning_rate_init": 1e-6,
        "momentum": 0.0,
        "nesterovs_momentum": False,
        "shuffle": False,
        "random_state": 0,
    }
    if case.output == "softmax":
        if case.sizes[-1] == 2:
            raise ValueError("two classes are one output there")
        return MLPClassifier(**options), task.labels, {"classes": np.arange(case.sizes[-1])}
    return MLPRegressor(**options), task.Y[:, 0] if case.sizes[-1] == 1 else task.Y, {}
