"""The gradient of a sparse net by a graph of units, and by what else there is for it.

    python benchmarks/graph_peers.py --out benchmarks/results/graph-<machine>.json

Layers of equal width, every unit with the same number of edges from the layer before; logistic
hidden layers, identity output, half_mse, float32. Each rival computes the loss and all gradients;
its answer is checked, within the error bound, against float64, then all of them run in turn, round
by round: medians of times taken side by side. Rivals that are not installed are left out.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import numpy as np

import deltaprop as dp
from deltaprop.check import error_bounds

Gradient = Callable[[], np.ndarray]
"""Computes the loss and the gradient: weights layer by layer, row by row; then biases."""


@dataclass(frozen=True)
class Case:
    """`layers` layers of `width` units with `edges` edges into each unit, batches of m."""

    width: int
    layers: int
    edges: int
    m: int

    @property
    def density(self) -> float:
        return self.edges / self.width

    @property
    def name(self) -> str:
        many = self.width * self.edges * self.layers
        return f"{self.layers} x {self.width} units, {many} edges, batch {self.m}"


@dataclass
class Task:
    """The net and the batch of a case; columns[l] (width, edges) are the sources, ascending."""

    case: Case
    columns: list[np.ndarray]
    weights: list[np.ndarray]
    biases: list[np.ndarray]
    X: np.ndarray
    Y: np.ndarray

    @staticmethod
    def of(case: Case) -> Task:
        random = np.random.default_rng(0)

        def normal(*shape: int) -> np.ndarray:
            return random.standard_normal(shape).astype(np.float32)

        columns = []
        for _ in range(case.layers):
            # Every source is used: a random permutation, then steps from it.
            first = random.permutation(case.width)[:, None]
            steps = np.sort(
                np.stack(
                    [
                        np.append(0, 1 + random.choice(case.width - 1, case.edges - 1, False))
                        for _ in range(case.width)
                    ]
                )
            )
            columns.append(np.sort((first + steps) % case.width))
        return Task(
            case,
            columns,
            [normal(case.width, case.edges) / np.float32(case.edges**0.5) for _ in columns],
            [normal(case.width) / 4 for _ in columns],
            normal(case.m, case.width),
            normal(case.m, case.width),
        )

    def graph(self, backend: str) -> dp.Graph:
        n, layers = self.case.width, self.case.layers
        unit = np.arange(n)[:, None] + np.zeros(self.case.edges, int)
        return dp.Graph.from_arrays(
            np.concatenate([(l * n + c).reshape(-1) for l, c in enumerate(self.columns)]),
            np.concatenate([((l + 1) * n + unit).reshape(-1) for l in range(layers)]),
            np.concatenate([w.reshape(-1) for w in self.weights]),
            inputs=n,
            outputs=range(layers * n, (layers + 1) * n),
            bias=np.concatenate([np.zeros(n), *self.biases]),
            backend=backend,
        )


def deltaprop(task: Task) -> Gradient:
    g = task.graph("numba")
    return lambda: g.value_and_grad(task.X, task.Y)[1].flat


def torch_csr(task: Task) -> Gradient:
    import torch

    n, edges = task.case.width, task.case.edges
    starts = torch.arange(n + 1) * edges
    W = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "beta state"
        for c, w in zip(task.columns, task.weights):
            ends, values = torch.tensor(c.reshape(-1)), torch.tensor(w.reshape(-1))
            W.append(torch.sparse_csr_tensor(starts, ends, values, (n, n)).requires_grad_())
    return _torch(task, W, torch.sparse.mm, lambda l, gradient: gradient.values())


def torch_dense(task: Task) -> Gradient:
    import torch

    n = task.case.width
    columns, W = [torch.tensor(c) for c in task.columns], []
    for c, w in zip(columns, task.weights):
        W.append(torch.zeros(n, n).scatter_(1, c, torch.tensor(w)))
    masks = [x != 0 for x in W]

    def masked(l: int, gradient: Any) -> Any:
        gradient *= masks[l]
        return gradient.gather(1, columns[l]).reshape(-1)

    return _torch(task, [x.requires_grad_() for x in W], torch.mm, masked)


def _torch(
    task: Task,
    W: list[Any],
    product: Callable[[Any, Any], Any],
    values: Callable[[int, Any], Any],
) -> Gradient:
    """By autograd; units are rows and samples columns, as a sparse matrix wants them."""
    import torch

    b = [torch.tensor(x[:, None]).requires_grad_() for x in task.biases]
    X, Y = (torch.tensor(np.ascontiguousarray(x.T)) for x in (task.X, task.Y))

    def gradient() -> np.ndarray:
        for x in (*W, *b):
            x.grad = None
        a = X
        for l in range(len(W)):
            z = product(W[l], a) + b[l]
            a = torch.sigmoid(z) if l + 1 < len(W) else z
        (((a - Y) ** 2).sum() / (2 * len(task.X))).backward()
        parts = [values(l, x.grad) for l, x in enumerate(W)] + [x.grad.reshape(-1) for x in b]
        return torch.cat(parts).numpy()

    return gradient


def jax_bcoo(task: Task) -> Gradient:
    import jax
    import jax.numpy as jnp
    from jax.experimental import sparse

    n = task.case.width
    rows = np.repeat(np.arange(n), task.case.edges)
    indices = [jnp.asarray(np.stack([rows, c.reshape(-1)], axis=1)) for c in task.columns]
    X, Y = (jnp.asarray(x.T) for x in (task.X, task.Y))

    def error(parameters: Any) -> Any:
        a = X
        for l, (w, b) in enumerate(parameters):
            W = sparse.BCOO((w, indices[l]), shape=(n, n), indices_sorted=True, unique_indices=True)
            z = W @ a + b[:, None]
            a = jax.nn.sigmoid(z) if l + 1 < len(parameters) else z
        return jnp.sum((a - Y) ** 2) / (2 * len(task.X))

    step = jax.jit(jax.value_and_grad(error))
    pairs = zip(task.weights, task.biases)
    parameters = [(jnp.asarray(w.reshape(-1)), jnp.asarray(b)) for w, b in pairs]

    def gradient() -> np.ndarray:
        _, g = step(parameters)
        return np.concatenate([*(np.asarray(w) for w, _ in g), *(np.asarray(b) for _, b in g)])

    return gradient


def scipy_csr(task: Task) -> Gradient:
    """The sweeps by hand, the products by SciPy; dE/dw edge by edge, some at a time."""
    from scipy.sparse import csr_array

    n, edges = task.case.width, task.case.edges
    starts = np.arange(n + 1) * edges
    both = zip(task.columns, task.weights)
    W = [csr_array((w.reshape(-1), c.reshape(-1), starts), (n, n)) for c, w in both]
    WT = [w.T.tocsr() for w in W]
    some = max(1, (1 << 20) // (edges * task.case.m))
    X, Y = (np.ascontiguousarray(x.T) for x in (task.X, task.Y))

    def gradient() -> np.ndarray:
        a = [X]
        for l in range(len(W)):
            z = W[l] @ a[-1] + task.biases[l][:, None]
            a.append(1 / (1 + np.exp(-z)) if l + 1 < len(W) else z)
        delta = (a[-1] - Y) / np.float32(task.case.m)
        dW, db = [], []
        for l in reversed(range(len(W))):
            parts = [
                np.einsum("ji,jei->je", delta[j : j + some], a[l][task.columns[l][j : j + some]])
                for j in range(0, n, some)
            ]
            dW.insert(0, np.concatenate(parts).reshape(-1))
            db.insert(0, delta.sum(axis=1))
            if l > 0:
                delta = (WT[l] @ delta) * (a[l] * (1 - a[l]))
        return np.concatenate([*dW, *db])

    return gradient


RIVALS = {
    "deltaprop": (deltaprop, "deltaprop"),
    "torch sparse CSR": (torch_csr, "torch"),
    "JAX BCOO": (jax_bcoo, "jax"),
    "SciPy CSR": (scipy_csr, "scipy"),
    "torch dense, masked": (torch_dense, "torch"),
}
CASES = (
    Case(10_000, 10, 10, 64),
    *(Case(1024, 4, edges, 64) for edges in (5, 10, 31, 102, 307, 1023)),
    *(Case(1024, 4, edges, 1024) for edges in (10, 102)),
)


@dataclass
class Row:
    """Median seconds of each rival, and how often each ran."""

    case: Case
    seconds: dict[str, float] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)


def measure(case: Case, seconds: float) -> Row:
    """All rivals in turn until each has run at least three times, and for about that long."""
    task = Task.of(case)
    gradients = {}
    for name, (rival, package) in RIVALS.items():
        if _version(package):
            gradients[name] = rival(task)
    _check(task, gradients)
    times: dict[str, list[float]] = {name: [] for name in gradients}
    while waiting := [n for n, t in times.items() if len(t) < 3 or sum(t) < seconds]:
        for name in waiting:
            start = time.perf_counter()
            gradients[name]()
            times[name].append(time.perf_counter() - start)
    return Row(
        case,
        {name: statistics.median(t) for name, t in times.items()},
        {name: len(t) for name, t in times.items()},
    )


def _check(task: Task, gradients: dict[str, Gradient]) -> None:
    """Every answer against float64, each element within the error bound. Compiles, too."""
    net = task.graph("numpy")
    wide = net.to("numba", "float64")
    wanted = wide.value_and_grad(task.X.astype(float), task.Y.astype(float))[1].flat
    bounds = error_bounds(net, task.X, task.Y, None, None).flat
    for name, gradient in gradients.items():
        error = np.abs(gradient() - wanted)
        assert np.all(error <= bounds), f"{name} is off: {np.max(error / bounds)} of the bound"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (x.partition(":")[2].strip() for x in lines if "model name" in x)
    return next(names, platform.machine())


@click.command(help=__doc__)
@click.option("--out", type=click.Path(dir_okay=False), help="Where the figures go, as JSON.")
@click.option("--seconds", default=5.0, show_default=True, help="For each rival and case.")
@click.option("--edges-up-to", default=10**9, help="Leave out cases with more edges a unit.")
def main(out: str | None, seconds: float, edges_up_to: int) -> None:
    rows = []
    for case in CASES:
        if case.edges > edges_up_to:
            continue
        row = measure(case, seconds)
        rows.append(row)
        print(f"\n{case.name} (density {100 * case.density:.2g}%)")
        ours = row.seconds["deltaprop"]
        for name, t in sorted(row.seconds.items(), key=lambda item: item[1]):
            print(
                f"  {name:<22}{1e3 * t:>12.2f} ms{t / ours:>9.2f} x{row.rounds[name]:>8} runs",
                flush=True,
            )
    if out:
        machine = {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version()}
        packages = {p: _version(p) for p in dict.fromkeys(p for _, p in RIVALS.values())}
        figures = {"machine": machine, "versions": packages, "cases": [asdict(r) for r in rows]}
        Path(out).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
