"""A unit that feeds several outputs: x1, x2 -> h -> y1, y2, each logistic.

    forward     z_j = sum_i w_ji a_i + b_j      a_j = g(z_j)
                E = 1/2 (a_y1 - t1)^2 + 1/2 (a_y2 - t2)^2
    outputs     delta_yk = dE/da_yk g'(z_yk) = (a_yk - tk) a_yk (1 - a_yk)
    hidden      dE/da_h = w_y1,h delta_y1 + w_y2,h delta_y2
                delta_h = dE/da_h g'(z_h)
    gradients   dE/dw_ji = delta_j a_i          dE/db_j = delta_j

a_h moves both outputs, so E changes on two paths, and dE/da_h is the sum over them.
"""

from __future__ import annotations

from math import exp

import numpy as np

import deltaprop as dp
from beside import beside

x1, x2, t1, t2 = 0.05, 0.10, 0.01, 0.99
w_h1, w_h2, b_h = 0.15, 0.20, 0.35
w_1h, w_2h, b_y = 0.40, 0.50, 0.60


def main() -> None:
    """The gradients by hand and by backpropagation, side by side."""
    g = dp.Graph(["x1", "x2"], ["y1", "y2"], dtype="float64")
    g.unit("h", "logistic", b_h)
    g.unit("y1", "logistic", b_y)
    g.unit("y2", "logistic", b_y)
    g.edge("x1", "h", w_h1)
    g.edge("x2", "h", w_h2)
    g.edge("h", "y1", w_1h)
    g.edge("h", "y2", w_2h)

    X, Y = np.array([[x1, x2]]), np.array([[t1, t2]])
    beside(by_hand(), g.value_and_grad(X, Y, loss="half_sse")[1])
    print(g.explain(("x1", "h"), X, Y, loss="half_sse"))


def by_hand() -> dict[str, float]:
    """The derivation's formulas, one after the other."""
    a_h = logistic(w_h1 * x1 + w_h2 * x2 + b_h)
    y1 = logistic(w_1h * a_h + b_y)
    y2 = logistic(w_2h * a_h + b_y)

    delta_1 = (y1 - t1) * y1 * (1 - y1)
    delta_2 = (y2 - t2) * y2 * (1 - y2)
    dE_da_h = w_1h * delta_1 + w_2h * delta_2
    delta_h = dE_da_h * a_h * (1 - a_h)
    return {
        "x1 -> h": delta_h * x1,
        "x2 -> h": delta_h * x2,
        "h -> y1": delta_1 * a_h,
        "h -> y2": delta_2 * a_h,
        "h": delta_h,
        "y1": delta_1,
        "y2": delta_2,
    }


def logistic(z: float) -> float:
    """g(z) = 1 / (1 + e^-z), g'(z) = g(z) (1 - g(z))."""
    return 1 / (1 + exp(-z))


if __name__ == "__main__":
    main()
