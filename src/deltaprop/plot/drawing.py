"""Pictures of nets with matplotlib: sizes, colours, lines, dots and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from deltaprop.graphs.topology import Integers, Topology
from deltaprop.plot.layout import routes, spots

BLUE, GREY, ORANGE = "#0b559f", "#cfcfcf", "#c8500a"
"""Below, at and above 0: told apart with any colour vision."""

INK, FADED = "#222222", "#555555"
MOST_LABELLED = (16, 40)
"""Units and edges of the largest graph that is labelled unless one asks for it."""

MANY = 1500
"""Of more edges, lines are thinner."""

MOST_NAMED = 60
"""Units of the largest graph whose inputs and outputs are named."""


@dataclass(frozen=True)
class Style:
    """Sizes in points, of lines from the weakest to the strongest."""

    dot: float
    thin: float
    thick: float
    faint: float
    room: tuple[float, float]
    steps: int


LABELLED = Style(1000, 0.8, 4.5, 0.75, (0.36, 0.5), 12)
NAMED = Style(90, 0.5, 2.6, 0.3, (0.3, 0.3), 8)
BARE = Style(14, 0.2, 1.6, 0.08, (0.25, 0.25), 5)


@dataclass(frozen=True)
class Picture:
    """What is drawn: edges in the order of the parameters, deltas by unit; NaN for none."""

    source: Integers
    target: Integers
    value: np.ndarray
    bias: np.ndarray
    delta: np.ndarray | None

    def strongest(self, most: int) -> Integers:
        """The edges to draw, the strongest last; NaN is the strongest of all."""
        order: Integers = np.argsort(np.abs(self.value), kind="stable")[-most:]
        return order


def style_of(graph: Topology, labels: bool | None) -> Style:
    """How a graph of that size is drawn; `labels` as of `network`."""
    few = graph.units <= MOST_LABELLED[0] and len(graph.source) <= MOST_LABELLED[1]
    if few if labels is None else labels:
        return LABELLED
    return NAMED if graph.units <= MOST_NAMED else BARE


def inches(xy: np.ndarray, style: Style) -> tuple[float, float]:
    """Inches that a picture wants."""
    columns, height = xy[:, 0].max(), np.ptp(xy[:, 1]) + 1
    if style is LABELLED:
        return max(5.5, 1.9 * columns + 2.6), max(3.2, 1.2 * height + 1)
    return float(np.clip(1.3 * columns + 2.5, 6, 14)), float(np.clip(0.32 * height + 1, 4, 8))


def draw(
    ax: Any,
    graph: Topology,
    xy: np.ndarray,
    picture: Picture,
    style: Style,
    most_edges: int,
    colorbar: bool,
) -> None:
    """All of the picture, for units at xy (units, 2)."""
    chosen = picture.strongest(most_edges)
    ends, values = (picture.source[chosen], picture.target[chosen]), picture.value[chosen]
    ways = routes(xy, *ends, style.room, style.steps, share=style is not BARE)
    prepare(ax, xy, ways, style)
    scale = Scale.of(picture.value)
    lines = draw_edges(ax, ways, values, scale, style)
    draw_units(ax, graph, xy, picture.delta, style)
    if style is LABELLED:
        label_units(ax, graph, xy, picture)
        label_edges(ax, lines, ways, values, xy)
    elif style is NAMED:
        name_ends(ax, graph, xy)
    caption(ax, graph, len(chosen))
    if colorbar:
        name = "weight" if picture.delta is None else "dE/dw"
        add_colorbar(ax, lines, scale, name)
        if picture.delta is not None and style is not LABELLED:
            add_colorbar(ax, None, Scale.of(picture.delta), "delta, summed over samples")


def prepare(ax: Any, xy: np.ndarray, ways: list[np.ndarray], style: Style) -> None:
    """Room for units and edges, and no frame."""
    columns = xy[:, 0].max()
    side = 0.45 if style is not BARE else 0.2
    y = np.concatenate([way[:, 1] for way in ways])
    bottom = min(xy[:, 1].min() - 0.75, y.min() - 0.2)
    top = max(xy[:, 1].max() + 0.5, y.max() + 0.2)
    ax.set(xlim=(-side, columns + side), ylim=(bottom, top))
    ax.spines[:].set_visible(False)
    ax.set_yticks([])


class Scale(NamedTuple):
    """Colours for numbers from -end to end; `beyond` if some are further from 0."""

    end: float
    beyond: bool

    @staticmethod
    def of(values: np.ndarray) -> Scale:
        """To the largest number, or of many to one that 99 of 100 keep."""
        sizes = np.abs(values[np.isfinite(values)])
        most = float(sizes.max(initial=0)) or 1.0
        end = float(np.quantile(sizes, 0.99)) if sizes.size > 200 else most
        return Scale(end, True) if 0 < end < most else Scale(most, False)

    @property
    def norm(self) -> Any:
        """As matplotlib has it."""
        from matplotlib.colors import Normalize

        return Normalize(-self.end, self.end)


def _colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("deltaprop", [BLUE, GREY, ORANGE]).with_extremes(
        bad="black"
    )


def draw_edges(
    ax: Any, ways: list[np.ndarray], value: np.ndarray, scale: Scale, style: Style
) -> Any:
    """The lines, the last on top; NaN is black."""
    from matplotlib.collections import LineCollection

    crowded = min(1.0, (MANY / len(value)) ** 0.5)
    strength = np.minimum(np.abs(np.nan_to_num(value, nan=scale.end)) / scale.end, 1)
    lines = LineCollection(
        ways,
        array=np.ma.masked_invalid(value),
        cmap=_colours(),
        norm=scale.norm,
        linewidths=(style.thin + (style.thick - style.thin) * strength) * crowded,
        alpha=style.faint + (1 - style.faint) * strength,
        capstyle="round",
        zorder=1,
    )
    return ax.add_collection(lines, autolim=False)


def draw_units(
    ax: Any, graph: Topology, xy: np.ndarray, delta: np.ndarray | None, style: Style
) -> None:
    """A dot for each unit, with a dark ring for outputs."""
    is_output = np.isin(np.arange(graph.units), graph.outputs)
    fullest = np.bincount(graph.levels).max()
    ring = np.array([0.8, 2.4 if style is LABELLED else 1.2])[is_output.astype(int)]
    if fullest > 150:
        ring *= 0.4
    ax.scatter(
        *xy.T,
        s=np.clip((350 / fullest) ** 2, 1, style.dot),
        c=_faces(graph, delta, style),
        edgecolors=np.where(is_output, INK, "#777777"),
        linewidths=ring,
        zorder=2,
    )


def _faces(graph: Topology, delta: np.ndarray | None, style: Style) -> np.ndarray:
    """The colour of each unit (units, 3): its delta, lighter where text is on it."""
    faces = np.ones((graph.units, 3))
    if delta is not None:
        known = np.isfinite(delta)
        colours = _colours()(Scale.of(delta).norm(delta[known]))[:, :3]
        faces[known] = 1 - (1 - colours) * (0.45 if style is LABELLED else 1)
    return faces


def label_units(ax: Any, graph: Topology, xy: np.ndarray, picture: Picture) -> None:
    """Name and activation on each unit, bias and delta below it."""
    for i, (x, y) in enumerate(xy):
        name, centred = str(graph.names[i]), {"ha": "center", "color": INK, "parse_math": False}
        short = name if len(name) <= 10 else f"{name[:9]}…"
        size = 10 if len(short) <= 5 else 7
        if i < graph.inputs:
            ax.text(x, y, short, size=size, va="center", **centred)
            continue
        ax.text(x, y, short, size=size, va="bottom", **centred)
        ax.text(x, y, graph.activations[i - graph.inputs].name, size=6, va="top", **centred)
        lines = [] if np.isnan(picture.bias[i]) else [f"b {picture.bias[i]:.2g}"]
        if picture.delta is not None and not np.isnan(picture.delta[i]):
            lines.append(f"δ {picture.delta[i]:.2g}")
        ax.annotate(
            "\n".join(lines),
            (x, y),
            (0, -18),
            textcoords="offset points",
            size=7.5,
            va="top",
            **centred,
        )


def label_edges(
    ax: Any, lines: Any, ways: list[np.ndarray], value: np.ndarray, xy: np.ndarray
) -> None:
    """The number of each edge on it."""
    box = ax.get_window_extent()
    scale = np.array([box.width, box.height]) / ax.figure.dpi
    scale /= [np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())]
    texts = [f"{x:.2g}" for x in value]
    sizes = np.array([[0.075 * len(text) + 0.06, 0.15] for text in texts]).reshape(-1, 2)
    taken = np.column_stack([xy * scale - [0.28, 0.55], xy * scale + [0.28, 0.28]])
    colours = lines.to_rgba(value)[:, :3] * 0.75
    for text, (x, y), colour in zip(texts, spots(ways, sizes, taken, scale), colours):
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        ax.text(x, y, text, size=7.5, ha="center", va="center", color=colour, bbox=white)


def name_ends(ax: Any, graph: Topology, xy: np.ndarray) -> None:
    """Names beside inputs and outputs."""
    for side, units in ((-1, range(graph.inputs)), (1, graph.outputs)):
        for i in units:
            ax.annotate(
                str(graph.names[i])[:12],
                xy[i],
                (7 * side, 0),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                va="center",
                size=8,
                color=INK,
                parse_math=False,
            )


def caption(ax: Any, graph: Topology, drawn: int) -> None:
    """Levels below the columns, as many as can be read, and how much is to be seen."""
    levels, edges = int(graph.levels.max()), len(graph.source)
    step = 1 + levels // 20
    shown = range(step, levels + 1, step)
    ax.set_xticks([0, *shown])
    ax.set_xticklabels(["inputs", *(f"level {i}" if i == step else str(i) for i in shown)])
    ax.tick_params(length=0, labelsize=8, colors=FADED)
    part = f"the strongest {drawn:,} of " if drawn < edges else ""
    units = f"{_count(graph.inputs, 'input')}, {_count(graph.units - graph.inputs, 'unit')}"
    ax.set_xlabel(f"{units}, {part}{_count(edges, 'edge')}", size=8, color=FADED)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' if n != 1 else ''}"


def add_colorbar(ax: Any, lines: Any, scale: Scale, name: str) -> None:
    """The scale of the lines' colours, or where there are none of these colours."""
    from matplotlib.cm import ScalarMappable

    colours = ScalarMappable(scale.norm, _colours()) if lines is None else lines
    extend = "both" if scale.beyond else "neither"
    bar = ax.figure.colorbar(colours, ax=ax, extend=extend, shrink=0.7, aspect=30, pad=0.02)
    bar.set_label(name, size=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    bar.solids.set_alpha(1)
