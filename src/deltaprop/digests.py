"""Fixed nets and graphs, and the SHA-256 of their gradients: is this machine exact?

Parameters and data are made of integers and powers of two alone, so they are the same numbers
everywhere; the digests in digests.json are then a statement about arithmetic only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from deltaprop.graph import Graph
from deltaprop.mlp import MLP
from deltaprop.net import Net
from deltaprop.scalar import DTYPES


@dataclass(frozen=True)
class FixedNet:
    """One net with its batch: m samples, a loss, and perhaps sample weights."""

    sizes: tuple[int, ...]
    m: int
    activation: str | tuple[str, ...]
    output: str
    loss: str
    weighted: bool = False
    bias: bool = True

    @property
    def name(self) -> str:
        hidden = self.activation if isinstance(self.activation, str) else "+".join(self.activation)
        extra = (" weighted" if self.weighted else "") + ("" if self.bias else " no bias")
        sizes = "-".join(map(str, self.sizes))
        return f"{sizes} {hidden} {self.output} {self.loss} m={self.m}{extra}"

    @property
    def ends(self) -> tuple[int, int]:
        """How many inputs and outputs there are."""
        return self.sizes[0], self.sizes[-1]

    def net(self, dtype: str) -> MLP:
        """The net on the reference."""
        options: Any = {"bias": self.bias, "dtype": dtype, "backend": "reference"}
        net = MLP(self.sizes, self.activation, self.output, **options)
        for l, (W, b, _) in enumerate(net.layers):
            W[...] = lattice(W.shape, 2 * l) * shrink(W.shape[1])
            if b is not None:
                b[...] = lattice(b.shape, 2 * l + 1) / 4
        return net


@dataclass(frozen=True)
class FixedGraph:
    """One graph with its batch. Units are numbers, inputs first, outputs by number.

    Unit j has edges from unit j - 1 and from one in `every` of those before it; outputs with a
    softmax have none from each other. The units take turns with `activations`, unless there is
    one for the outputs, `output`. Every third unit has no bias.
    """

    inputs: int
    units: int
    outputs: tuple[int, ...]
    activations: tuple[str, ...]
    output: str | None
    loss: str
    m: int
    every: int = 1
    weighted: bool = False

    @property
    def name(self) -> str:
        names = "+".join(self.activations) + (f" {self.output}" if self.output else "")
        extra = f" 1/{self.every}" if self.every > 1 else ""
        extra += " weighted" if self.weighted else ""
        shape = f"graph {self.inputs}+{self.units} to {len(self.outputs)}"
        return f"{shape} {names} {self.loss} m={self.m}{extra}"

    @property
    def ends(self) -> tuple[int, int]:
        """How many inputs and outputs there are."""
        return self.inputs, len(self.outputs)

    def sources(self, j: int) -> list[int]:
        """The units that lead to unit j."""
        end = min(j, *self.outputs) if self.output == "softmax" else j
        return [i for i in range(end) if i == end - 1 or (i * i + 3 * j) % self.every == 0]

    def net(self, dtype: str) -> Graph:
        """The graph on the reference."""
        units = range(self.inputs, self.inputs + self.units)
        net = Graph(range(self.inputs), self.outputs, dtype=dtype, backend="reference")
        for j, b in zip(units, (lattice(self.units, 1) / 4).tolist()):
            g = self.activations[j % len(self.activations)]
            if self.output and j in self.outputs:
                g = self.output
            net.unit(j, g, bias=None if j % 3 == 0 else b)
        edges = [(i, j) for j in units for i in self.sources(j)]
        for (i, j), w in zip(edges, lattice(len(edges), 0).tolist()):
            net.edge(i, j, w * shrink(len(self.sources(j))))
        return net


FIXED_NETS = (
    FixedNet((1, 1, 1, 1), 1, "logistic", "identity", "half_sse"),
    FixedNet((2, 3, 1), 4, "logistic", "logistic", "half_mse"),
    FixedNet((3, 5, 2), 7, "tanh", "identity", "mse", weighted=True),
    FixedNet((64, 32, 10), 65, "logistic", "softmax", "cross_entropy"),
    FixedNet((64, 33, 10), 128, "relu", "softmax", "cross_entropy", weighted=True),
    FixedNet((17, 31, 13, 3), 63, "gelu", "logistic", "binary_cross_entropy"),
    FixedNet((8, 16, 16, 4), 200, ("gelu_tanh", "silu"), "tanh", "half_mse", bias=False),
    FixedNet((5, 9, 9, 9, 2), 64, ("softplus", "elu", "leaky_relu"), "identity", "half_mse"),
    FixedNet((257, 2, 300, 1), 3, "logistic", "softplus", "half_sse"),
    FixedNet((1000, 7, 513), 2, "tanh", "softmax", "cross_entropy"),
    FixedNet((4, 64, 64, 1), 1000, "logistic", "identity", "half_mse"),
    FixedNet((6, 9, 8, 7, 2), 65, ("mish", "squareplus", "hard_sigmoid"), "sine", "half_mse"),
    FixedNet((2, 3, 2), 4097, "silu", "gelu", "mse", weighted=True),
)
FIXED_GRAPHS = (
    # Outputs that lead on, each with an activation of its own.
    FixedGraph(
        3,
        9,
        (11, 5, 8),
        ("tanh", "gelu", "logistic", "relu", "silu"),
        None,
        "half_mse",
        70,
        every=2,
        weighted=True,
    ),
    # More edges into a unit than a leaf of a sum has, and outputs of several levels.
    FixedGraph(300, 8, (307, 304), ("softplus", "elu"), "logistic", "binary_cross_entropy", 5),
    # More edges out of a unit than a leaf of a sum has.
    FixedGraph(5, 276, tuple(range(11, 281)), ("sine", "mish"), "softmax", "cross_entropy", 65),
)
FIXED: tuple[FixedNet | FixedGraph, ...] = FIXED_NETS + FIXED_GRAPHS


def shrink(fan_in: int) -> float:
    """About 2 / sqrt(fan_in), as a power of two."""
    return 2.0 ** (1 - ((fan_in - 1).bit_length() + 1) // 2)


def lattice(shape: int | tuple[int, ...], seed: int) -> np.ndarray:
    """Numbers k / 2^15, -1 <= x < 1, from the high bits of a multiplicative hash."""
    count = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(1000003 * (seed + 1))
    mixed = (count * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)
    return (mixed.astype(np.float64) / 2**15 - 1).reshape(shape)


def build(
    fixed: FixedNet | FixedGraph, dtype: str, backend: str
) -> tuple[Net[Any], tuple[Any, ...]]:
    """The net, and (X, Y, loss, sample_weight) to call `value_and_grad` with."""
    n_in, n_out = fixed.ends
    X = lattice((fixed.m, n_in), 101).astype(dtype)
    Y: np.ndarray = (lattice((fixed.m, n_out), 102).astype(dtype) + 1) / 2
    if fixed.loss == "cross_entropy":
        Y = np.arange(fixed.m) % n_out
    weights = lattice(fixed.m, 103).astype(dtype) + 1 if fixed.weighted else None
    return fixed.net(dtype).to(backend), (X, Y, fixed.loss, weights)


def gradient_digests(
    backend: str, nets: Sequence[FixedNet | FixedGraph] = FIXED
) -> dict[str, dict[str, str]]:
    """For each dtype, the digest of each net's gradient on a backend."""
    from deltaprop.check import digest

    def one(fixed: FixedNet | FixedGraph, dtype: str) -> str:
        net, given = build(fixed, dtype, backend)
        return digest(net.value_and_grad(*given)[1])

    return {dtype: {fixed.name: one(fixed, dtype) for fixed in nets} for dtype in DTYPES}


def table() -> str:
    """digests.json as the reference backend makes it. To write it anew, in a checkout:

    python -c "from deltaprop import digests; print(digests.table())" > src/deltaprop/digests.json
    """
    return json.dumps(gradient_digests("reference"), indent=2)


def committed_digests() -> dict[str, dict[str, str]]:
    """What every exact backend must give."""
    table: dict[str, dict[str, str]] = json.loads(
        (files("deltaprop") / "digests.json").read_text(encoding="utf-8")
    )
    return table


def check_digests(backend: str) -> Sequence[str]:
    """The fixed nets and graphs whose gradients on a backend have other bits than they must.

    None is right.
    """
    wanted = committed_digests()
    return [
        f"{dtype} {name}"
        for dtype, digests in gradient_digests(backend).items()
        for name, value in digests.items()
        if wanted.get(dtype, {}).get(name) != value
    ]
