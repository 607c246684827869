"""Figures that compare many results: score by rank, misidentified rows by label, train beside test."""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from common import grids
from common.results import Result

SIZE = (5.2, 4.2)  # inches
COLORS = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
GREY = "#777777"


def framed(title: str, size: tuple[float, float] = SIZE) -> tuple[Figure, plt.Axes]:
    """Return a figure with one pair of axes, titled."""
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def score_by_rank(title: str, results: Sequence[Result]) -> Figure | None:
    """Test score against LoRA's rank, a line a scale alpha / r, other models as levels; None where no rank varies."""
    found = [grid for grid in grids.find(results) if grids.RANK in grid.keys]
    if not found:
        return None
    key = results[0].score_key
    lines: dict[str, list[tuple[int, Result]]] = {}
    for grid in found:
        for member in grid.members:
            if grids.RANK in member.settings:
                label = _line_label(grid, member, len(found) > 1)
                lines.setdefault(label, []).append((member.settings[grids.RANK], member))
    figure, axes = framed(f"{title}: {key.replace('_', ' ')} by rank of LoRA")
    handles: list[Any] = []
    for index, (label, points) in enumerate(lines.items()):
        values = [[100 * value for value in member.values(key)] for _, member in points]
        deviations = [float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0 for seeds in values]
        color = COLORS[index % len(COLORS)]
        ranks, means = [rank for rank, _ in points], [float(np.mean(seeds)) for seeds in values]
        bars = deviations if any(deviations) else None
        handles.append(axes.errorbar(ranks, means, yerr=bars, marker="o", ms=5, capsize=3, color=color, label=label))
    members = {id(member) for grid in found for member in grid.members}
    others = [result for result in results if not result.baseline and id(result) not in members]
    for result, style in zip(others, itertools.cycle(("--", ":", "-.")), strict=False):
        handles.append(axes.axhline(100 * (result.mean(key) or 0.0), color=GREY, ls=style, lw=1, label=result.name))
    ranks = sorted({rank for points in lines.values() for rank, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(rank) for rank in ranks])
    axes.minorticks_off()
    axes.margins(x=0.08, y=0.12)
    axes.set_xlabel("rank r")
    axes.set_ylabel(f"{key.replace('_', ' ')} (%)")
    figure.legend(handles=handles, fontsize=8, frameon=False, loc="outside lower center", ncols=2)
    return figure


def _line_label(grid: grids.Grid, member: Result, with_job: bool) -> str:
    """Return what the points of one line have in common: their scale, and whatever else varies but the rank."""
    rest = {key: pair for key, *pair in zip(grid.keys, grid.titles(), grid.cells(member), strict=True)}
    rest.pop(grids.RANK)
    words = [f"alpha / r = {grid.scale(member)}"] if rest.pop(grid.alpha or "", None) else []
    words += [f"{title} = {cell}" for title, cell in rest.values()]
    return ", ".join([grid.job, *words] if with_job or not words else words)


def errors_by_label(title: str, results: Sequence[Result]) -> Figure:
    """Share of each label's test rows taken for another label: rows results, columns labels, means over seeds."""
    results = grids.arrange(results)
    names = grids.names(results)
    found = [result.label_errors() for result in results]
    labels = list(found[0])
    shares = np.array([[np.mean(seeds) if seeds else np.nan for seeds in row.values()] for row in found])
    # (R, C); a root spreads the colours over small shares, where good models differ.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    size = max(4.6, 0.075 * max(map(len, names)) + 0.72 * len(labels) + 0.6), 0.34 * len(names) + 1.2
    figure, axes = framed("", size)
    figure.suptitle(f"{title}\nmisidentified test rows of each label (%)", fontsize=10)
    axes.imshow(shares, cmap="Reds", norm=norm, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if norm(share) > 0.65 else "black"
        text = "–" if np.isnan(share) else f"{100 * share:.1f}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def train_and_test(title: str, results: Sequence[Result]) -> Figure | None:
    """Accuracy and loss on train and on test, bars side by side; None where no train rows were scored."""
    results = grids.arrange(results)
    pairs = [(name, whole.with_train()) for name, whole in zip(grids.names(results), results, strict=True)]
    fitted = [(name, result) for name, result in pairs if result]
    if not fitted:
        return None
    size = (7.4 + 0.03 * max(len(name) for name, _ in fitted), 0.46 * len(fitted) + 1.7)
    figure, panels = plt.subplots(1, 2, figsize=size, layout="constrained", sharey=True)
    figure.suptitle(f"{title}: train and test", fontsize=10)
    places = np.arange(len(fitted))
    measures = (("accuracy", "accuracy (%)", 100, "{:.1f}"), ("loss", "cross-entropy (nats)", 1, "{:.3f}"))
    for axes, (measure, label, factor, form) in zip(panels, measures, strict=True):
        for offset, split, color in ((-0.2, "train", "#9ecae1"), (0.2, "test", COLORS[0])):
            values = [factor * (result.mean(f"{split}_{measure}") or 0.0) for _, result in fitted]
            bars = axes.barh(places + offset, values, 0.38, color=color, label=split)
            axes.bar_label(bars, [form.format(value) for value in values], fontsize=7, padding=2)
        axes.set_xlabel(label, fontsize=9)
        axes.margins(x=0.16)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(places, [name for name, _ in fitted])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=2)
    return figure
