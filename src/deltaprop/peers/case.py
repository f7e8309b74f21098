"""What is computed: a net, a batch and a loss, or a prediction alone; the nets that are timed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from deltaprop.bench import NETS, operations
from deltaprop.mlp import MLP

GOALS: dict[tuple[tuple[int, ...], int], float] = {
    ((2, 3, 1), 4): 0.33,
    ((16, 32, 32, 4), 32): 0.35,
    ((64, 64, 64, 10), 32): 0.5,
    ((784, 256, 10), 128): 0.7,
    ((3, 64, 64, 64, 64, 1), 65536): 0.4,
    ((64,) * 17, 256): 0.35,
    ((1024,) * 5, 1024): 1.0,
    ((2048,) * 4, 256): 1.0,
}
"""Our time over the best rival's that is aimed at, for a step of a logistic net in float32."""

GPU_GOALS = ((128, 0.5), (1024, 0.8))
"""The same on a GPU, for nets whose widest layer has at most so many units; 1 for wider ones."""

DEEP, WIDER = (3, 64, 64, 64, 64, 1), (16, 128, 128, 128, 4)
GPU_NETS: tuple[tuple[tuple[int, ...], int], ...] = (
    *((DEEP, 65_536), ((784, 256, 10), 128), ((1024,) * 5, 1024), ((2048,) * 4, 256)),
    *(((64,) * 17, 256), ((64, 64, 64, 10), 32), ((16, 32, 32, 4), 32), ((2, 3, 1), 4)),
    *((WIDER, 65_536), (DEEP, 1 << 20), ((4096,) * 4, 4096), (DEEP, 1 << 10), (DEEP, 1 << 14)),
    *((WIDER, 1 << 20), ((256,) * 4, 4096), ((512,) * 4, 4096), ((2048,) * 4, 2048)),
    *((WIDER, 1 << 10), (WIDER, 1 << 14), (DEEP, 1 << 17), (DEEP, 1 << 21)),
)
"""The nets of `deltaprop bench` and more, the most telling ones first: time may run out."""

ACTIVATIONS = ("logistic", "tanh", "relu", "identity")
LOSSES = ("half_mse", "cross_entropy")

WIDTHS = (
    *(1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129),
    *(192, 255, 256, 257, 384, 511, 512, 513, 768, 1000, 1024, 1025, 1536, 2048, 2049, 3072, 4096),
)
"""Powers of two, their neighbours, and some between: where a block is full, or begins."""
WIDTH_BATCHES = (1, 32, 256)
BATCHES = (
    *(1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129),
    *(200, 256, 257, 400, 512, 800, 1000, 1024, 1025, 2000, 4096, 4097, 8192, 10_000, 16_384),
    *(20_000, 32_768, 50_000, 65_536, 100_000),
)
BATCHES_WIDTH = 64
SWEEP_LAYERS = 3

DISTINCT = 1021
"""Samples of a batch that differ: a larger one repeats them, so that it is checked by them alone.

A prime: what a block of samples confuses with another one's is not the same again.
"""


@dataclass(frozen=True)
class Case:
    """A training step, or with `inference` the outputs alone, of a net for a batch of m.

    `device` is where everybody computes and has all arrays: "cpu" or "cuda".
    """

    sizes: tuple[int, ...]
    m: int
    activation: str = "logistic"
    output: str = "logistic"
    loss: str = "half_mse"
    dtype: str = "float32"
    inference: bool = False
    device: str = "cpu"

    @property
    def net(self) -> str:
        """The units of each layer; "64 x 3" are three layers of 64 units and as many inputs."""
        if len(self.sizes) > 3 and len(set(self.sizes)) == 1:
            return f"{self.sizes[0]} x {len(self.sizes) - 1}"
        return "-".join(map(str, self.sizes))

    @property
    def name(self) -> str:
        return f"{self.net}, batch {self.m}"

    @property
    def operations(self) -> int:
        """Additions and multiplications of the products: of both sweeps, or of the forward one."""
        if self.inference:
            return 2 * self.m * sum(n_in * n for n_in, n in pairwise(self.sizes))
        return operations(self.sizes, self.m)

    @property
    def goal(self) -> float | None:
        """Our time over the best rival's that is aimed at; None where nothing is promised."""
        if self != Case(self.sizes, self.m, device=self.device):
            return None
        if self.device == "cpu":
            return GOALS.get((self.sizes, self.m))
        return next((goal for width, goal in GPU_GOALS if max(self.sizes) <= width), 1.0)


def like(activation: str, loss: str, dtype: str, inference: bool, device: str = "cpu") -> Case:
    """A case of that kind: its output is softmax for cross_entropy, and logistic or identity."""
    output = "logistic" if activation == "logistic" else "identity"
    if loss == "cross_entropy":
        output = "softmax"
    return Case((1, 1), 1, activation, output, loss, dtype, inference, device)


def table(kind: Case) -> Iterator[Case]:
    """The nets of `deltaprop bench`, on a GPU more; a single output has no cross-entropy."""
    for sizes, m in NETS if kind.device == "cpu" else GPU_NETS:
        if kind.output != "softmax" or sizes[-1] > 1:
            yield replace(kind, sizes=sizes, m=m)


def sweep(kind: Case) -> Iterator[Case]:
    """Three layers of each width at a few batches, then each batch at one width."""
    seen = set()
    sides = [(n, m) for m in WIDTH_BATCHES for n in WIDTHS]
    sides += [(BATCHES_WIDTH, m) for m in BATCHES]
    for n, m in sides:
        if (n, m) not in seen and (kind.output != "softmax" or n > 1):
            seen.add((n, m))
            yield replace(kind, sizes=(n,) * (SWEEP_LAYERS + 1), m=m)


@dataclass(frozen=True)
class Task:
    """A case with its numbers: initial parameters, a batch, and the learning rate of a step."""

    case: Case
    net: MLP
    X: np.ndarray
    Y: np.ndarray
    rate: float

    @staticmethod
    def of(case: Case, rate: float) -> Task:
        """The same numbers whenever it is called, in the same arrays."""
        return Task(case, *_numbers(case), rate)

    @property
    def labels(self) -> np.ndarray:
        """For cross-entropy: which output is wanted (m,)."""
        return np.asarray(np.argmax(self.Y, axis=1))

    @property
    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Copies of W (n, n_in) and b (n,) of every layer."""
        return [
            (layer.W.copy(), layer.b.copy()) for layer in self.net.layers if layer.b is not None
        ]


@lru_cache(2)
def _numbers(case: Case) -> tuple[MLP, np.ndarray, np.ndarray]:
    """A net, X and Y; nobody changes them."""
    random = np.random.default_rng(0)
    net = MLP(case.sizes, case.activation, case.output, dtype=case.dtype, backend="numpy")
    m = min(case.m, DISTINCT)
    X = random.standard_normal((m, case.sizes[0])).astype(case.dtype)
    if case.output == "softmax":
        Y = np.eye(case.sizes[-1], dtype=case.dtype)[random.integers(case.sizes[-1], size=m)]
    else:
        Y = random.random((m, case.sizes[-1])).astype(case.dtype)
    return net, _repeated(X, case.m), _repeated(Y, case.m)


def _repeated(rows: np.ndarray, m: int) -> np.ndarray:
    """m rows: these again and again."""
    return rows if m == len(rows) else np.resize(rows, (m, rows.shape[1]))
