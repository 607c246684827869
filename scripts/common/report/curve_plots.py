"""Draw the learning curves of one dataset: score by the number of train rows, with the fitted power laws."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from common.evaluation.power_law import MOST_TIMES
from common.report import curve_tables, drawn_text, plot_style
from common.report.curves import Curve, score_range
from common.report.plot_style import GREY, framed

FOLDER = "curves"  # below the folder of plots


def file_of(folder: Path, dataset: str, per_label: bool) -> Path:
    """Return the file of a dataset's plot below the folder of all plots."""
    return folder / FOLDER / f"{dataset}.{'few' if per_label else 'more'}-labels.png"


def files(folder: Path) -> list[Path]:
    """Return the plots that are there below the folder of all plots."""
    return sorted((folder / FOLDER).glob("*-labels.png"))


def of_page(published: Path) -> dict[tuple[str, bool], str]:
    """Return the plots that are there, relative to the page, by the keys of `curve_tables.by_dataset`."""
    found = {}
    for file in files(published / "plots"):
        dataset, _, kind = file.stem.rpartition(".")
        found[dataset, kind == "few-labels"] = file.relative_to(published).as_posix()
    return found


def draw(curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Draw the curves of each dataset below a folder, and return the files."""
    paths = []
    for (dataset, per_label), members in curve_tables.by_dataset(curves).items():
        document = members[0].lead.documents[0]
        drawn_text.choose_fonts([document["dataset_title"], *(curve.name for curve in members)])
        figure = score_by_rows(drawn_text.title(document["dataset_title"]), members)
        paths.append(file_of(folder, dataset, per_label))
        plot_style.save(figure, paths[-1])
    return paths


def score_by_rows(title: str, curves: Sequence[Curve]) -> Figure:
    """Leading test score by train rows; bars are 95 % intervals of the scores, bands those of scores by the law.

    A line is dashed beyond the present rows. A band that is very wide goes on beyond the axes.
    """
    unit, per_label = curves[0].unit, curves[0].per_label
    name = f"test {curves[0].lead.score_name}"
    figure, axes = framed(f"{title}\n{name} by train rows{' of each label' if per_label else ''}")
    entries, sizes = [], set()
    for place, (curve, color) in enumerate(zip(curves, plot_style.colors(len(curves)), strict=True)):
        look = plot_style.point(place, color)
        for point in curve.points:
            bar = plot_style.error_bar(point.result)
            mean = 100 * (point.result.mean(point.result.score_key) or 0.0)
            axes.errorbar(point.rows / unit, mean, yerr=bar, capsize=2, elinewidth=0.8, **look)
            sizes.add(point.rows // unit)
        _law(axes, curve, color)
        entries.append(plot_style.entry(curve.name, **look))
    if any(curve.forecast for curve in curves):
        entries.append(plot_style.entry("fitted power law; dashed: forecast; band: 95 % interval", color=GREY, ls="--"))
    axes.set_xscale("log")
    axes.set_xticks(_apart(sorted(sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.05)
    low, high = score_range(curves)
    margin = 0.05 * (high - low) or 0.01
    axes.set_ylim(100 * (low - margin), 100 * (high + margin))
    axes.set_xlabel("train rows of each label" if per_label else "train rows")
    axes.set_ylabel(f"{name} (%)")
    plot_style.add_legend(figure, entries)
    return figure


def _law(axes: Any, curve: Curve, color: Any) -> None:
    found = curve.forecast
    if found is None:
        return
    rows, score = np.array(found.rows), 100 * np.array(found.score)
    known = rows <= curve.points[-1].rows
    beyond = ~known | np.append(~known[1:], False)  # the dashed part begins where the other ends
    for part, style in ((known, "-"), (beyond, "--")):
        axes.plot(rows[part] / curve.unit, score[part], color=color, ls=style, lw=1.2)
    low, high = 100 * np.array(found.low), 100 * np.array(found.high)
    axes.fill_between(rows / curve.unit, low, high, color=color, alpha=0.12, lw=0)


def _apart(sizes: Sequence[int]) -> list[int]:
    """Return the sizes whose numbers do not overlap on a logarithmic axis, the largest first of all."""
    kept: list[int] = []
    least = (MOST_TIMES * max(sizes) / min(sizes)) ** 0.11  # a number is about a tenth of the axis wide
    for size in sorted(sizes, reverse=True):
        if not kept or kept[-1] >= least * size:
            kept.append(size)
    return kept
