"""A chain of single units: x -> h1 -> h2 -> y, each logistic.

    forward     z_j = w_ji a_i + b_j        a_j = g(z_j)        E = 1/2 (a_y - t)^2
    output      delta_y  = dE/da_y g'(z_y) = (a_y - t) a_y (1 - a_y)
    hidden      delta_h2 = w_y,h2  delta_y  g'(z_h2)
                delta_h1 = w_h2,h1 delta_h2 g'(z_h1)
    gradients   dE/dw_ji = delta_j a_i      dE/db_j = delta_j

One path leads from each weight to the output, so each gradient is one product.
"""

from __future__ import annotations

from math import exp

import numpy as np

import deltaprop as dp
from beside import beside

x, t = 0.6, 0.9
w1, w2, w3 = 0.8, -1.1, 1.4
b1, b2, b3 = 0.1, 0.3, -0.2


def main() -> None:
    """The gradients by hand and by backpropagation, side by side."""
    g = dp.Graph(["x"], ["y"], dtype="float64")
    g.unit("h1", "logistic", b1)
    g.unit("h2", "logistic", b2)
    g.unit("y", "logistic", b3)
    g.edge("x", "h1", w1)
    g.edge("h1", "h2", w2)
    g.edge("h2", "y", w3)

    X, Y = np.array([[x]]), np.array([[t]])
    beside(by_hand(), g.value_and_grad(X, Y, loss="half_sse")[1])
    print(g.explain(("x", "h1"), X, Y, loss="half_sse"))


def by_hand() -> dict[str, float]:
    """The derivation's formulas, one after the other."""
    a1 = logistic(w1 * x + b1)
    a2 = logistic(w2 * a1 + b2)
    y = logistic(w3 * a2 + b3)

    delta_y = (y - t) * y * (1 - y)
    delta_2 = w3 * delta_y * a2 * (1 - a2)
    delta_1 = w2 * delta_2 * a1 * (1 - a1)
    return {
        "x -> h1": delta_1 * x,
        "h1 -> h2": delta_2 * a1,
        "h2 -> y": delta_y * a2,
        "h1": delta_1,
        "h2": delta_2,
        "y": delta_y,
    }


def logistic(z: float) -> float:
    """g(z) = 1 / (1 + e^-z), g'(z) = g(z) (1 - g(z))."""
    return 1 / (1 + exp(-z))


if __name__ == "__main__":
    main()
