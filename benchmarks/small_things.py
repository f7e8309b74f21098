"""How long small things take: many small nets at once, and the first gradient of a process.

python benchmarks/small_things.py --out benchmarks/results/small-<machine>.json
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

import deltaprop as dp
from deltaprop.peers.machine import description, versions
from deltaprop.peers.rounds import in_turns

NETS = (((2, 3, 1), 4), ((4, 8, 2), 16), ((8, 16, 16, 4), 32))
MEMBERS = 256
SECONDS = 4.0
FIRST = """
import time
start = time.perf_counter()
import deltaprop as dp
imported = time.perf_counter()
import numpy as np
net = dp.MLP([784, 256, 10], backend="cpu")
net.value_and_grad(np.ones((128, 784), "float32"), np.ones((128, 10), "float32"))
print(imported - start, time.perf_counter() - start)
"""


def ensemble(sizes: tuple[int, ...], m: int) -> dict[str, Any]:
    """A gradient of all members in one call, and in a loop over them; the bits are compared."""
    random = np.random.default_rng(0)
    X = random.standard_normal((MEMBERS, m, sizes[0])).astype(np.float32)
    Y = random.random((MEMBERS, m, sizes[-1])).astype(np.float32)
    together = dp.MLP(sizes, "tanh", ensemble=MEMBERS, backend="cpu")
    nets = [together.member(e) for e in range(MEMBERS)]  # type: ignore[attr-defined]

    def one_by_one() -> list[Any]:
        return [net.value_and_grad(x, y)[1].flat for net, x, y in zip(nets, X, Y)]

    gradients = together.value_and_grad(X, Y)[1].flat
    if gradients.tobytes() != np.stack(one_by_one()).tobytes():
        raise click.ClickException("a member's gradient is not that of the net alone")
    calls = {"ensemble": lambda: together.value_and_grad(X, Y), "loop": one_by_one}
    times = {name: statistics.median(spent) for name, spent in in_turns(calls, SECONDS).items()}
    return {"sizes": sizes, "batch": m, **times}


def first_gradient(rounds: int = 7) -> dict[str, float]:
    """Seconds from the start of Python's imports, with nothing kept and with all kept."""
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"DELTAPROP_CACHE": folder}

        def run() -> tuple[float, float]:
            command = [sys.executable, "-c", FIRST]
            done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
            imported, first = map(float, done.stdout.split())
            return imported, first

        _, cold = run()
        warm = [run() for _ in range(rounds)]
    imported, first = (statistics.median(times) for times in zip(*warm))
    return {"cold": cold, "warm": first, "import": imported}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file for the figures.")
def main(out: Path | None) -> None:
    """Measure them, and print."""
    start = first_gradient()
    print("  ".join(f"{name} {seconds:.3f} s" for name, seconds in start.items()))
    cases = [ensemble(sizes, m) for sizes, m in NETS]
    for case in cases:
        ratio = case["loop"] / case["ensemble"]
        shape = "-".join(map(str, case["sizes"]))
        print(
            f"{MEMBERS} x {shape}, batch {case['batch']}: {case['ensemble'] * 1e6:.0f} us, "
            f"one by one {case['loop'] * 1e6:.0f} us, {ratio:.1f} times"
        )
    if out:
        figures = {"machine": description(), "versions": versions(), "members": MEMBERS}
        text = json.dumps({**figures, "first_gradient": start, "ensembles": cases}, indent=1)
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
