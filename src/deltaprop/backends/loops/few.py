"""A sweep for few samples of a large net: threads share the units of each layer.

Then what takes time is to read the weights, so they are read once each way, by the thread whose
units they lead to, and nothing packed is kept. All wait for each other at every layer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.loops.jit import call, jit, namespace
from deltaprop.backends.loops.layers import layer_of
from deltaprop.backends.loops.outputs import outputs
from deltaprop.backends.loops.products import products, share
from deltaprop.backends.loops.team import barrier
from deltaprop.backends.tiling import shape


@cache
def few(dtype: np.dtype[Any]) -> Any:
    """The functions for one dtype."""
    p, o, size, width = products(dtype), outputs(dtype), dtype.itemsize, shape(dtype).width

    @jit
    def product(plan, layer, x, x_step, samples, K, W, transposed, bias, c, place):  # type: ignore[no-untyped-def]
        """This thread's units of c: where they begin, in bytes, and how many they are."""
        n = layer.units
        first, last = share(p.panels(n), place)
        nodes, leaf = place.own + plan.products_at, place.own + plan.leaf_at
        p.panels_product(
            x, x_step, samples, K, W, transposed, first, last, n, bias, c, layer.step, nodes, leaf
        )
        return first * width * size, min(last * width, n) - first * width

    @jit
    def forward(plan, layers, parameters, place, samples):  # type: ignore[no-untyped-def]
        """z^l = a^{l-1} W^l^T + b^l, a^l = g^l(z^l); a softmax, which takes whole rows, is left."""
        for l in range(1, plan.layers + 1):
            layer, below = layer_of(layers, l), layer_of(layers, l - 1)
            a, W = place.room + layer.a, parameters + layer.W
            z = a if layer.z < 0 else place.room + layer.z
            bias, x = parameters + layer.b if layer.b >= 0 else 0, place.room + below.a
            mine = product(
                plan, layer, x, below.step, samples, layer.inputs, W, True, bias, z, place
            )
            if mine[1] > 0 and not (l == plan.layers and plan.softmax):
                at, step = mine[0], layer.step
                o.along(layer.value, z + at, step, a + at, step, samples, mine[1])
            barrier(plan.team, place.threads)

    @jit
    def softmax(plan, layers, place, first, count):  # type: ignore[no-untyped-def]
        """a^L of some samples, where it is a softmax."""
        last = layer_of(layers, plan.layers)
        at, step = place.room + first * last.step, last.step
        if plan.softmax:
            own = place.own + plan.columns_at
            call(plan.softmax, (at + last.z, step, at + last.a, step, count, last.units, own))

    @jit
    def backward(plan, layers, parameters, place, samples):  # type: ignore[no-untyped-def]
        """delta^l = (delta^{l+1} W^{l+1}) * g^l'(z^l)."""
        for l in range(plan.layers - 1, 0, -1):
            barrier(plan.team, place.threads)
            layer, above = layer_of(layers, l), layer_of(layers, l + 1)
            delta, W = place.room + layer.delta, parameters + above.W
            s = place.room + (layer.z if layer.of_z else layer.a)
            x = place.room + above.delta
            mine = product(
                plan, layer, x, above.step, samples, above.units, W, False, 0, delta, place
            )
            if mine[1] > 0:
                at, step = mine[0], layer.step
                o.along(layer.slope, s + at, step, delta + at, step, samples, mine[1])

    return namespace(forward=forward, softmax=softmax, backward=backward)
