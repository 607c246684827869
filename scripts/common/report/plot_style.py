"""How plots tell results apart: a colour, a dash and a marker each, no two the same, and the legend that names them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from common.report import variant_grid
from common.report.results import Result

COLORS = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
GREY = "#777777"
DASHES = ("-", "--", ":", "-.")
_FILLS = ("full", "none", "left", "bottom")  # of the markers: where no line is drawn, they stand for its dash
_MARKERS = ("o", "^", "D", "v", "P", "X", "*")  # no square: in legends it stands for all
_BESIDE_RAMP = [COLORS[place] for place in (3, 1, 6, 5, 7, 9, 8)]  # far from the blues and greens of a grid

Groups = list[list[Line2D]]


@dataclasses.dataclass(frozen=True)
class Style:
    """How one result looks, in every plot of its dataset."""

    color: Any
    dash: int = 0
    marker: int = 0

    def line(self) -> dict[str, Any]:
        """Return the keywords of a line with markers."""
        return self.point() | {"ls": DASHES[self.dash]}

    def point(self) -> dict[str, Any]:
        """Return the keywords of a marker alone."""
        fill = _FILLS[self.dash]
        return {"color": self.color, "ls": "", "marker": _MARKERS[self.marker], "fillstyle": fill, "ms": 5}


def assign(results: Sequence[Result], lines: bool) -> tuple[list[Style], Groups]:
    """Return the style of every result, and the groups of entries that a legend of lines, or of points, needs.

    A job has a colour. Variants of one have a colour a value of the first setting that varies, the rank if it does, and
    a dash a value of the others; where the epochs vary, a marker tells them. So few entries name many variants. Where a
    setting has more values than there are dashes or markers, every result has a colour and an entry of its own.
    """
    found = variant_grid.find(results)
    grid_of = {id(member): grid for grid in found for member in grid.members}
    has_markers = any(variant_grid.EPOCHS in grid.keys for grid in found)
    hues, dashes, markers = [], [], []
    for result in results:
        grid = grid_of.get(id(result))
        facts = grid.facts(result) if grid else {}
        facts.pop(variant_grid.EPOCHS, None)
        first, *rest = [*facts.values()] or [""]
        hues.append((result.job if grid else result.name, first))
        dashes.append(", ".join(rest))
        markers.append(f"epochs = {variant_grid.epochs(result)}" if has_markers else "")
    looks = [*zip(hues, _indices(dashes), _indices(markers), strict=True)]
    fits = len(_places(dashes)) <= len(DASHES) and len(_places(markers)) <= len(_MARKERS)
    if not fits or len(set(looks)) < len(looks):
        hues = [(name, "") for name in variant_grid.names(results)]
        dashes = markers = [""] * len(hues)
        looks = [(hue, 0, 0) for hue in hues]
    colors = _colors(hues)
    styles = [Style(colors[hue], dash, marker) for hue, dash, marker in looks]
    return styles, _groups(colors, _places(dashes), _places(markers), lines)


def _groups(
    colors: dict[tuple[str, str], Any], dash_of: dict[str, int], marker_of: dict[str, int], lines: bool
) -> Groups:
    """Return the entries of the grids, of dashes and markers, and of other models; a square stands for every marker."""
    any_marker = {"marker": "s", "ms": 6} if marker_of else {}
    line = {} if lines else {"ls": ""}
    groups: Groups = []
    for grid in dict.fromkeys(job for job, value in colors if value):
        values = {value: color for (job, value), color in colors.items() if job == grid and value}
        square = {"marker": "s", "ms": 6, "ls": ""}
        groups.append([entry(grid, ls=""), *(entry(value, color=color, **square) for value, color in values.items())])
    dashed = {text: Style(GREY, dash=place).line() | any_marker | line for text, place in dash_of.items()}
    marked = {text: Style(GREY, marker=place).point() for text, place in marker_of.items()}
    groups.append([entry(text, **look) for found in (dashed, marked) if len(found) > 1 for text, look in found.items()])
    models = {job: color for (job, value), color in colors.items() if not value}
    groups.append([entry(job, **Style(color).line() | any_marker | line) for job, color in models.items()])
    return groups


def of_lines(lines: Sequence[tuple[str, str]]) -> list[Style]:
    """Return the styles of lines, each told by two words: the first is their dash, the second colour and marker."""
    dashes, rest = _places([dash for dash, _ in lines]), list(dict.fromkeys(rest for _, rest in lines))
    if len(dashes) > len(DASHES) or len(rest) > len(_MARKERS):
        return [Style(color) for color in _spread(len(lines))]
    return [Style(COLORS[rest.index(word)], dashes.get(dash, 0), rest.index(word)) for dash, word in lines]


def entry(label: str, **look: Any) -> Line2D:
    """Return an entry of a legend."""
    return Line2D([], [], label=label, **look)


def add_legend(figure: Figure, groups: Groups) -> None:
    """Name everything below the axes, a column a group while there is room; the figure grows by what that needs."""
    columns = [list(group) for group in groups if group]
    width, height = figure.get_size_inches()
    while (needed := sum(map(_inches, columns))) > 1.1 * width and len(columns) > 1:
        columns[-2:] = [columns[-2] + columns[-1]]
    rows = max(map(len, columns))
    handles = [line for column in columns for line in [*column, *[entry("", ls="")] * (rows - len(column))]]
    figure.set_size_inches(max(width, needed), height + 0.17 * rows)
    figure.legend(
        handles=handles, fontsize=8, frameon=False, loc="outside lower center", ncols=len(columns), columnspacing=1
    )


def _inches(column: list[Line2D]) -> float:
    """Return the width of a legend's column: its longest label, and the handle with the room around it."""
    widths = [TextPath((0, 0), str(line.get_label()) or " ", size=8).get_extents().width for line in column]
    return 1.06 * max(widths) / 72 + 0.45  # drawn text is rounded to whole pixels a letter


def _colors(hues: list[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    """Return a colour for each: a ramp for the values of a grid, so that more looks like more, others far from it."""
    values = [hue for hue in dict.fromkeys(hues) if hue[1]]
    others = [hue for hue in dict.fromkeys(hues) if not hue[1]]
    palette = _BESIDE_RAMP if values and len(others) <= len(_BESIDE_RAMP) else _spread(len(others))
    ramp = plt.get_cmap("viridis")(np.linspace(0, 0.88, len(values)))
    return dict(zip(values, ramp, strict=True)) | dict(zip(others, palette, strict=False))


def _spread(count: int) -> list[Any]:
    return list(COLORS[:count] if count <= len(COLORS) else plt.get_cmap("turbo")(np.linspace(0.05, 0.95, count)))


def _places(texts: Sequence[str]) -> dict[str, int]:
    """Return the place of every text, by the number at its end if it has one."""
    found = sorted({*texts} - {""}, key=lambda text: (_number(text), texts.index(text)))
    return {text: place for place, text in enumerate(found)}


def _indices(texts: Sequence[str]) -> list[int]:
    places = _places(texts)
    return [places.get(text, 0) for text in texts]


def _number(text: str) -> float:
    try:
        return float(text.rsplit(" ", 1)[-1])
    except ValueError:
        return math.inf


SIZE = (5.2, 3.6)  # inches


def framed(title: str, size: tuple[float, float] = SIZE) -> tuple[Figure, plt.Axes]:
    """Return a figure with one pair of axes, titled."""
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
