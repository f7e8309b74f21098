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
    "PyTorch graph": "tab:pink",
    "torch.compile": "tab:orange",
    "compiled graph": "tab:olive",
    "JAX": "tab:green",
    "scikit-learn": "tab:gray",
}
MARKERS = dict(zip(COLOURS, "osv<^>Dx"))

Rows = Sequence[dict[str, Any]]
Place = Callable[[dict[str, Any]], float]
Value = Callable[[dict[str, Any], str], float]


def save(figures: dict[str, Any], path: Path) -> None:
    """Raises ImportError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("no picture: pip install 'deltaprop[plot]'") from error
    if figures["kind"] == "sweep":
        figure = Figure(figsize=(15, 20), layout="constrained")
        _sweep(figure.subplots(4, 2), figures)
    else:
        figure = Figure(figsize=(14, 6.5), layout="constrained")
        _table(figure.subplots(1, 2), figures)
    figure.suptitle(_title(figures))
    shown = next(ax for ax in figure.axes if ax.get_visible())
    handles, labels = shown.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=110)


def _title(figures: dict[str, Any]) -> str:
    case, machine = figures["cases"][0], figures["machine"]
    what = "prediction" if case["inference"] else f"training step, {case['loss']}"
    count = machine["threads"]
    where = f"{count} thread{'s' if count > 1 else ''}, {machine['cpu']}"
    if "gpu" in machine:
        where = machine["gpu"]["name"]
    return f"{what}, {case['activation']}, {case['dtype']}, {where}"


def _table(axes: Any, figures: dict[str, Any]) -> None:
    """Left the time over the best rival's, with the goals; right the speed, with the peak.

    The nets stand side by side, the one of the fewest operations first.
    """
    rows = sorted(figures["cases"], key=lambda row: row["operations"])
    places = {row["name"]: i for i, row in enumerate(rows)}

    def place(row: dict[str, Any]) -> float:
        return places[row["name"]]

    _both(axes, rows, figures, place)
    goals = [row for row in rows if row["goal"] is not None]
    if goals:
        xs, ys = [place(row) for row in goals], [row["goal"] for row in goals]
        axes[0].plot(xs, ys, "_", color="magenta", markersize=22, markeredgewidth=2, label="goal")
    for ax in axes:
        ax.set_xticks(range(len(rows)), [f"{r['name']}\n{r['operations']:.2g}" for r in rows])
        ax.tick_params("x", rotation=30, labelsize=8)
        for label in ax.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")
        ax.set(xlabel="net, batch, and its multiplications and additions")


def _sweep(axes: Any, figures: dict[str, Any]) -> None:
    """The same two, against the width at each batch, and against the batch at one width."""
    for pair, m in zip(axes, WIDTH_BATCHES):
        rows = [row for row in figures["cases"] if row["batch"] == m]
        text = f"width of each of three layers, batch {m}"
        _against(pair, sorted(rows, key=_width), figures, _width, text)
    rows = [row for row in figures["cases"] if _width(row) == BATCHES_WIDTH]
    text = f"batch, three layers of width {BATCHES_WIDTH}"
    _against(axes[-1], sorted(rows, key=_batch), figures, _batch, text)


def _width(row: dict[str, Any]) -> float:
    return float(row["sizes"][0])


def _batch(row: dict[str, Any]) -> float:
    return float(row["batch"])


def _against(pair: Any, rows: Rows, figures: dict[str, Any], x: Place, text: str) -> None:
    if rows:
        _both(pair, rows, figures, x)
    for ax in pair:
        ax.set_visible(bool(rows))
        ax.set(xscale="log", xlabel=text)
        _plain_numbers(ax.xaxis)


def _both(pair: Any, rows: Rows, figures: dict[str, Any], x: Place) -> None:
    """Time over the best rival's, and speed; a cliff is steeper in the first."""
    left, right = pair
    _lines(left, rows, x, lambda row, name: row["seconds"][name] / _best(row))
    left.axhline(1, color="black", linewidth=0.8, linestyle=":")
    left.set(ylabel="time over the best rival's (lower is better)")
    _plain_numbers(left.yaxis)
    _lines(right, rows, x, lambda row, name: row["gflops"][name])
    right.set(ylabel="GFLOP/s (higher is better)")
    _peak(right, figures["peak_gflops"])


def _lines(ax: Any, rows: Rows, x: Place, y: Value) -> None:
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
    ax.set(yscale="log")
    ax.grid(alpha=0.3, which="major")


def _peak(ax: Any, peak: float) -> None:
    if peak:
        ax.axhline(peak, color="magenta", linewidth=0.8, linestyle=":")
        ax.set_ylim(top=3 * peak)
        where = {"xycoords": ("axes fraction", "data"), "fontsize": 8, "va": "bottom"}
        ax.annotate(f"peak {peak:.0f}", (0.01, 1.05 * peak), color="magenta", **where)


def _plain_numbers(axis: Any) -> None:
    """0.5, 1, 2, 5, 10, ..., 1k in place of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=50))
    axis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
    axis.set_minor_locator(LogLocator(base=10, subs=(), numticks=50))


def _short(x: float) -> str:
    return f"{x / 1000:g}k" if x >= 1000 else f"{x:g}"


def _best(row: dict[str, Any]) -> float:
    """The best rival's time; our own where there is no rival."""
    return float(row["seconds"][row["best_rival"] or OURS])
