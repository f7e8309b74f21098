"""A unit with several inputs: x1, x2, x3 -> h -> y; h is tanh, y the identity.

    forward     z_h = w_h1 a_1 + w_h2 a_2 + w_h3 a_3 + b_h      a_h = tanh(z_h)
                a_y = z_y = w_y,h a_h + b_y                     E = 1/2 (a_y - t)^2
    output      delta_y = dE/da_y = a_y - t
    hidden      delta_h = w_y,h delta_y g'(z_h)                 g'(z_h) = 1 - a_h^2
    gradients   dE/dw_hi = delta_h dz_h/dw_hi = delta_h a_i     dE/db_h = delta_h

All weights into h share one delta: only the other factor, what arrives on the edge, differs.
"""

from __future__ import annotations

from math import tanh

import numpy as np

import deltaprop as dp
from beside import beside

x, t = (0.5, -1.2, 2.0), 0.4
w, b_h = (0.7, 0.2, -0.3), 0.05
w_y, b_y = 1.5, -0.1


def main() -> None:
    """The gradients by hand and by backpropagation, side by side."""
    g = dp.Graph(["x1", "x2", "x3"], ["y"], dtype="float64")
    g.unit("h", "tanh", b_h)
    g.unit("y", "identity", b_y)
    for i in range(3):
        g.edge(f"x{i + 1}", "h", w[i])
    g.edge("h", "y", w_y)

    X, Y = np.array([x]), np.array([[t]])
    beside(by_hand(), g.value_and_grad(X, Y, loss="half_sse")[1])
    print(g.explain(("x2", "h"), X, Y, loss="half_sse"))


def by_hand() -> dict[str, float]:
    """The derivation's formulas, one after the other."""
    z_h = w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + b_h
    a_h = tanh(z_h)
    a_y = w_y * a_h + b_y

    delta_y = a_y - t
    delta_h = w_y * delta_y * (1 - a_h**2)
    return {
        "x1 -> h": delta_h * x[0],
        "x2 -> h": delta_h * x[1],
        "x3 -> h": delta_h * x[2],
        "h -> y": delta_y * a_h,
        "h": delta_h,
        "y": delta_y,
    }


if __name__ == "__main__":
    main()
