"""Draw the scores of models in each group of the test rows."""

import numpy as np
from matplotlib.figure import Figure

from common.report import drawn_text, plot_style
from common.report.groups import GroupScores
from common.report.plot_style import framed

_MOST_MODELS = 4  # points side by side in one group


def score_by_group(title: str, found: GroupScores) -> Figure:
    """Test score in each group, with 95 % intervals, of the models with the best scores.

    Groups are rows, the one where the best model is worst at the top.
    """
    names, models = list(found.rows), found.models[:_MOST_MODELS]
    step = 0.8 / len(models)  # of the distance between two groups
    height = (0.14 + 0.1 * len(models)) * len(names) + 1.1
    some = f", the {len(names)} worst of {found.all_groups:,}" if len(names) < found.all_groups else ""
    figure, axes = framed("", (6.2, height))
    figure.suptitle(f"{title}\ntest {found.name} by group{some}", fontsize=10)
    entries = []
    for place, (model, color) in enumerate(zip(models, plot_style.colors(len(models)), strict=True)):
        look = plot_style.point(place, color)
        offset = (place - (len(models) - 1) / 2) * step
        for row, name in enumerate(names):
            if (cell := found.cells[name][place]) is None:
                continue
            bar = None if cell.interval is None else _reach(cell.mean, cell.interval.low, cell.interval.high)
            axes.errorbar(100 * cell.mean, row + offset, xerr=bar, capsize=1.5, elinewidth=0.8, **look)
        entries.append(plot_style.entry(model, **look))
    for row in range(0, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="black", alpha=0.04, lw=0)
    shown = drawn_text.groups(names)
    axes.set_yticks(
        range(len(names)), [f"{text} ({found.rows[name]:,})" for text, name in zip(shown, names, strict=True)]
    )
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelsize=8)
    note = drawn_text.explanation_of_groups(names)
    axes.set_xlabel(f"test {found.name} (%); after a group: its number of rows\n{note}".strip(), fontsize=9)
    plot_style.add_legend(figure, entries)
    return figure


def _reach(mean: float, low: float, high: float) -> np.ndarray:
    """Return how far an interval reaches below and above the mean, in percent (2, 1)."""
    return 100 * np.array([[max(0.0, mean - low)], [max(0.0, high - mean)]])
