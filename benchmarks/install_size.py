"""What an installation takes: megabytes to download and on disk, and seconds to import.

python benchmarks/install_size.py --out benchmarks/results/install-<machine>.json

Each library gets a virtual environment of its own. Its wheels, and those of all that it needs, are
collected first: their bytes are the download; what an empty environment grows by, compiled Python
included, is what it takes on disk. The CUDA extra is installed like the others: that needs no GPU.
Imports are timed in processes of their own, all libraries in turn, after one that does not count.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from deltaprop.peers.machine import description
from deltaprop.results import write

ROOT = Path(__file__).resolve().parents[1]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
LIBRARIES = {
    "NumPy": ("numpy", "numpy"),
    "deltaprop": (str(ROOT), "deltaprop"),
    "deltaprop[cuda13]": (f"{ROOT}[cuda13]", "deltaprop"),
    "PyTorch, CPU only": ("{torch}", "torch"),
    "JAX, CPU only": ("jax", "jax"),
}
"""What pip is given, and what is imported."""


def megabytes(folder: Path) -> float:
    """Of the files in a folder, 10^6 bytes each."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def install(requirement: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The interpreter of a new environment that has it, and what it took."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python, wheels = folder / "venv/bin/python", folder / "wheels"
    empty = megabytes(folder / "venv")
    subprocess.run([python, *PIP, "wheel", "--wheel-dir", wheels, requirement], check=True)
    here = sorted(wheels.glob("*.whl"))
    subprocess.run([python, *PIP, "install", "--no-index", "--no-deps", *here], check=True)
    return python, {
        "download": megabytes(wheels),
        "disk": megabytes(folder / "venv") - empty,
        "packages": [path.name.split("-cp")[0].split("-py")[0] for path in here],
    }


def seconds(python: Path, module: str) -> float:
    """Of a process that does nothing but import."""
    start = time.perf_counter()
    subprocess.run([python, "-c", f"import {module}"], check=True, cwd=tempfile.gettempdir())
    return time.perf_counter() - start


def measured(torch: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Of each library: MB of the download and on disk, the median of the seconds of an import."""
    found: dict[str, dict[str, Any]] = {}
    pythons, times = {}, {name: [] for name in LIBRARIES}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (requirement, _) in LIBRARIES.items():
            folder = Path(scratch) / name
            pythons[name], found[name] = install(requirement.format(torch=torch), folder)
        for count in range(1 + rounds):
            for name, (_, module) in LIBRARIES.items():
                spent = seconds(pythons[name], module)
                if count:
                    times[name].append(spent)
    return {name: row | {"import": statistics.median(times[name])} for name, row in found.items()}


def table(libraries: dict[str, dict[str, Any]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| | download, MB | on disk, MB | import, s |", "|---|---|---|---|"]
    for name, row in libraries.items():
        figures = f"{row['download']:,.0f} | {row['disk']:,.0f} | {row['import']:.2f}"
        lines.append(f"| {name} | {figures} |")
    return lines


@click.command()
@click.option("--torch", default="torch==2.13.0", show_default=True, help="What pip installs.")
@click.option("--rounds", default=9, show_default=True, help="Imports of each that are timed.")
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file for the figures.")
def main(torch: str, rounds: int, out: Path | None) -> None:
    """Measure them, and print."""
    libraries = measured(torch, rounds)
    print("\n".join(table(libraries)))
    if out:
        write({"machine": description(), "libraries": libraries}, out)


if __name__ == "__main__":
    main()
