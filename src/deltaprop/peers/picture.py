"""What `Figures.as_json` returns, drawn: rivals as lines, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deltaprop.peers.case import BATCHES_WIDTH, WIDTH_BATCHES
from deltaprop.peers.rivals import OURS

COLOURS = {
    OURS: "black",
    "NumPy": "tab:blue",
    "PyTorch": "tab:red",
    "torch.compile": "tab:orange",
    "JAX": "tab:green",
    "scikit-learn": "tab:gray",
}
MARKERS = dict(zip(COLOURS, "osv^Dx"))

Rows = Sequence[dict[str, Any]]
Value = Callable[[dict[str, Any], str], float]


def save(figures: dict[str, Any], path: Path) -> None:
    """Raises ImportError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("no picture: pip install 'deltaprop[plot]'") from error
    if figures["kind"] == "sweep":
        figure = Figure(figsize=(14, 9), layout="constrained")
        _sweep(figure.subplots(2, 2).flat, figures)
    else:
        figure = Figure(figsize=(14, 6.5), layout="constrained")
        _table(figure.subplots(1, 2), figures)
    figure.suptitle(_title(figures))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=110)


def _title(figures: dict[str, Any]) -> str:
    case, machine = figures["cases"][0], figures["machine"]
    what = "prediction" if case["inference"] else f"training step, {case['loss']}"
    count = machine["threads"]
    return (
        f"{what}, {case['activation']}, {case['dtype']}, "
        f"{count} thread{'s' if count > 1 else ''}, {machine['cpu']}"
    )


def _table(axes: Any, figures: dict[str, Any]) -> None:
    """Left the time over the best rival's, with the goals; right the speed, with the peak."""
    rows = sorted(figures["cases"], key=lambda row: row["operations"])

    def operations(row: dict[str, Any]) -> float:
        return float(row["operations"])

    left, right = axes
    _lines(left, rows, operations, lambda row, name: row["seconds"][name] / _best(row))
    left.axhline(1, color="black", linewidth=0.8, linestyle=":")
    goals = [row for row in rows if row["goal"] is not None]
    if goals:
        xs, ys = [operations(row) for row in goals], [row["goal"] for row in goals]
        left.plot(xs, ys, "_", color="magenta", markersize=16, markeredgewidth=2, label="goal")
    left.set(ylabel="time over the best rival's (lower is better)")
    _ticks(left, "y")
    _lines(right, rows, operations, lambda row, name: row["gflops"][name])
    right.set(ylabel="GFLOP/s (higher is better)")
    _peak(right, figures)
    for ax in axes:
        ax.set_xticks([operations(row) for row in rows], [_net(row) for row in rows])
        ax.xaxis.minorticks_off()
        ax.tick_params("x", rotation=40, labelsize=8)
        for label in ax.get_xticklabels():
            label.set_horizontalalignment("right")
        ax.set(xlabel="net and batch, by multiplications and additions")


def _sweep(axes: Any, figures: dict[str, Any]) -> None:
    """GFLOP/s against the width at each batch, and against the batch at one width."""
    *panels, last = axes
    for ax, m in zip(panels, WIDTH_BATCHES):
        rows = [row for row in figures["cases"] if row["batch"] == m]
        rows.sort(key=lambda row: int(row["sizes"][0]))
        _speed(ax, rows, figures, lambda row: float(row["sizes"][0]))
        ax.set(xlabel=f"width of each of three layers, batch {m}")
    rows = [row for row in figures["cases"] if row["sizes"][0] == BATCHES_WIDTH]
    rows.sort(key=lambda row: int(row["batch"]))
    _speed(last, rows, figures, lambda row: float(row["batch"]))
    last.set(xlabel=f"batch, three layers of width {BATCHES_WIDTH}")


def _speed(
    ax: Any, rows: Rows, figures: dict[str, Any], x: Callable[[dict[str, Any]], float]
) -> None:
    _lines(ax, rows, x, lambda row, name: row["gflops"][name])
    ax.set(ylabel="GFLOP/s")
    _ticks(ax, "x")
    _peak(ax, figures)


def _lines(ax: Any, rows: Rows, x: Callable[[dict[str, Any]], float], y: Value) -> None:
    """One line a rival, ours on top; dashed where it computes something else."""
    for name, colour in COLOURS.items():
        here = [row for row in rows if name in row["seconds"]]
        if not here:
            continue
        ours, other = name == OURS, any(name in row["own_case"] for row in here)
        ax.plot(
            [x(row) for row in here],
            [y(row, name) for row in here],
            marker=MARKERS[name],
            markersize=5 if ours else 3.5,
            linewidth=2 if ours else 1.2,
            linestyle="--" if other else "-",
            color=colour,
            zorder=3 if ours else 2,
            label=f"{name} ({here[0]['own_case'][name]})" if other else name,
        )
    ax.set(xscale="log", yscale="log")
    ax.grid(alpha=0.3, which="major")


def _peak(ax: Any, figures: dict[str, Any]) -> None:
    if figures["peak_gflops"]:
        ax.axhline(figures["peak_gflops"], color="magenta", linewidth=0.8, linestyle=":")
        text = f"fma peak {figures['peak_gflops']:.0f}"
        where = {"xycoords": ("axes fraction", "data"), "fontsize": 8, "va": "bottom"}
        ax.annotate(text, (0.01, figures["peak_gflops"]), color="magenta", **where)


def _ticks(ax: Any, which: str) -> None:
    """Plain numbers, 0.5 and 2 between the powers of ten too."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=50))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axis.set_minor_locator(LogLocator(base=10, subs=(), numticks=50))


def _best(row: dict[str, Any]) -> float:
    """The best rival's time; our own where there is no rival."""
    return float(row["seconds"][row["best_rival"] or OURS])


def _net(row: dict[str, Any]) -> str:
    sizes = row["sizes"]
    net = "-".join(map(str, sizes)) if len(sizes) < 8 else f"{sizes[0]} x {len(sizes) - 1}"
    return f"{net}, {row['batch']}"
