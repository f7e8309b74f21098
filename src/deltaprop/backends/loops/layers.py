"""Layers: their weights in panels, and the way of a few samples through them and back."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from deltaprop.backends.loops.jit import call, jit, namespace, record_at
from deltaprop.backends.loops.outputs import outputs
from deltaprop.backends.loops.products import products, share
from deltaprop.backends.records import LAYER
from deltaprop.backends.tiling import shape

layer_of = record_at(LAYER)


@cache
def packing(dtype: np.dtype[Any]) -> Any:
    p, size, width = products(dtype), dtype.itemsize, shape(dtype).width

    @jit
    def pack(plan, layers, parameters, place):  # type: ignore[no-untyped-def]
        """This thread's units' rows of every W: in panels of W^T, and of W on delta's way down.

        Each panel's rows go both ways while they are in the cache.
        """
        for l in range(1, plan.layers + 1):
            layer = layer_of(layers, l)
            W, n_in, n = parameters + layer.W, layer.inputs, layer.units
            first, last = share(p.panels(n), place)
            for panel in range(first, last):
                P = place.panels + layer.forward + panel * n_in * width * size
                p.pack_transposed(W, n_in * size, n_in, n, panel, P)
                if l > 1 and layer.backward >= 0:
                    unit, end = panel * width, min((panel + 1) * width, n)
                    p.pack(W, n_in * size, unit, end, n_in, n, place.panels + layer.backward)

    return pack


@cache
def chunks(dtype: np.dtype[Any]) -> Any:
    """Forward and backward for a few samples, which begin at sample `i` of the part."""
    p, o, size = products(dtype), outputs(dtype), dtype.itemsize

    @jit
    def copy_inputs(layer, X, room, i, count):  # type: ignore[no-untyped-def]
        """a^0 = X."""
        n = layer.units
        o.copy(X, n * size, room + layer.a + i * layer.step, layer.step, count, n)

    @jit
    def forward(plan, layers, parameters, place, i, count):  # type: ignore[no-untyped-def]
        """z^l = a^{l-1} W^l^T + b^l, a^l = g^l(z^l)."""
        for l in range(1, plan.layers + 1):
            layer, below = layer_of(layers, l), layer_of(layers, l - 1)
            a = place.room + layer.a + i * layer.step
            z = a if layer.z < 0 else place.room + layer.z + i * layer.step
            p.rows_product(
                place.room + below.a + i * below.step,
                below.step,
                count,
                layer.inputs,
                place.panels + layer.forward,
                layer.units,
                parameters + layer.b if layer.b >= 0 else 0,
                z,
                layer.step,
                place.own + plan.products_at,
            )
            if l == plan.layers and plan.softmax:
                scratch = place.own + plan.columns_at
                call(plan.softmax, (z, layer.step, a, layer.step, count, layer.units, scratch))
            else:
                o.along(layer.value, z, layer.step, a, layer.step, count, layer.units)

    @jit
    def backward(plan, layers, place, i, count):  # type: ignore[no-untyped-def]
        """delta^l = (delta^{l+1} W^{l+1}) * g^l'(z^l)."""
        for l in range(plan.layers - 1, 0, -1):
            layer, above = layer_of(layers, l), layer_of(layers, l + 1)
            delta = place.room + layer.delta + i * layer.step
            s = place.room + (layer.z if layer.of_z else layer.a) + i * layer.step
            p.rows_product(
                place.room + above.delta + i * above.step,
                above.step,
                count,
                above.units,
                place.panels + above.backward,
                layer.units,
                0,
                delta,
                layer.step,
                place.own + plan.products_at,
            )
            o.along(layer.slope, s, layer.step, delta, layer.step, count, layer.units)

    return namespace(copy_inputs=copy_inputs, forward=forward, backward=backward)
