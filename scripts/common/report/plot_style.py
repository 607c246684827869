"""What all plots share: colours, dashes and markers, figures with a title, and the legend below the axes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from common.core.files import atomic_path
from common.report import drawn_text
from common.report.result import Result

COLORS = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
GREY = "#777777"
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "^", "D", "v", "P", "X", "*")
SIZE = (5.2, 3.6)  # inches
MOST_LABELS = 20  # in a plot with a row or a column per label


def colors(count: int) -> list[Any]:
    """Return that many different colours."""
    return list(COLORS[:count] if count <= len(COLORS) else plt.get_cmap("turbo")(np.linspace(0.05, 0.95, count)))


def point(place: int, color: Any) -> dict[str, Any]:
    """Return the keywords of a marker without a line; `place` selects the marker."""
    return {"color": color, "ls": "", "marker": MARKERS[place % len(MARKERS)], "ms": 5}


def line_styles(lines: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the keywords of lines that have two names each: the first selects the dash, the second colour and marker.

    Where there are more first names than dashes, each line has a colour of its own and no dash.
    """
    first, second = (list(dict.fromkeys(names)) for names in zip(*lines, strict=True))
    if len(first) > len(DASHES):
        return [point(place, color) | {"ls": "-"} for place, color in enumerate(colors(len(lines)))]
    palette = colors(len(second))
    return [
        point(second.index(two), palette[second.index(two)]) | {"ls": DASHES[first.index(one)]} for one, two in lines
    ]


def worst(values: Sequence[float]) -> list[int]:
    """Return the places of the `MOST_LABELS` highest values, in order; a plot of more labels cannot be read."""
    highest = np.argsort(-np.nan_to_num(np.asarray(values, dtype=float)), kind="stable")[:MOST_LABELS]
    return sorted(int(place) for place in highest)


def entry(label: str, **look: Any) -> Line2D:
    """Return an entry of a legend."""
    return Line2D([], [], label=drawn_text.cut(label, drawn_text.TITLE), **look)


def error_bar(result: Result) -> np.ndarray | None:
    """Return how far the 95 % interval of the leading score reaches below and above it, in percent (2, 1), or None."""
    found = result.interval(result.score_key)
    if found is None:
        return None
    return 100 * np.array([[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]])


def ring(axes: plt.Axes, place: float, height: float) -> None:
    """Draw a ring around a point: the result is the best one, or not distinguishable from it."""
    axes.plot(place, height, color="black", ls="", marker="o", ms=10, mew=0.8, fillstyle="none", zorder=4)


def ring_entry() -> Line2D:
    """Return the legend's entry of rings."""
    look: dict[str, Any] = {"color": "black", "ls": "", "marker": "o", "ms": 8, "mew": 0.8, "fillstyle": "none"}
    return entry("the best, or not distinguishable from it", **look)


def add_legend(figure: Figure, entries: Sequence[Any]) -> None:
    """Add the legend below the axes, one entry per line, and make the figure higher by that."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.17 * len(entries))
    figure.legend(handles=list(entries), fontsize=8, frameon=False, loc="outside lower center")


def show_as_typed(figure: Figure) -> None:
    """Draw all texts of a figure as they are: a label such as "$50 to $100" is no mathematics."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as an image, with its texts as they are, and close it."""
    show_as_typed(figure)
    with atomic_path(path) as partial:
        # Without the software's version, the same results give the same bytes.
        figure.savefig(partial, dpi=120, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def framed(title: str, size: tuple[float, float] = SIZE) -> tuple[Figure, plt.Axes]:
    """Return a figure with one pair of axes and a title."""
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
