"""Draw the plots of one dataset: score by trainable parameters, learning curves, confusion matrix, and comparisons."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from common.core import signals
from common.report import (
    best_runs,
    comparison_plots,
    drawn_text,
    group_plots,
    groups,
    plot_style,
    probability_plots,
    readme_tables,
    variant_grid,
)
from common.report.comparisons import compare
from common.report.plot_style import GREY, framed
from common.report.result import Result


def draw(dataset: str, results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw the plots of one dataset's results and return their files; a plot without data is left out."""
    results = variant_grid.arrange(readme_tables.whole(results))
    best = best_runs.best_model(results)
    if best is None:
        return []
    names = dict(zip(map(id, results), variant_grid.names(results), strict=True))
    title, labels = best.documents[0]["dataset_title"], best.documents[0].get("test_labels", [])
    by_group = groups.find(results)
    drawn_text.choose_fonts([title, *labels, *names.values(), *(by_group.rows if by_group else ())])
    title = drawn_text.title(title)
    makers: dict[str, Callable[[], Figure | None]] = {
        "accuracy-parameters": lambda: score_by_parameters(title, results),
        "learning-curves": lambda: learning_curves(title, results),
        "confusion": lambda: confusion(title, best, names[id(best)]),
        "rank": lambda: comparison_plots.score_by_rank(title, results),
        "errors": lambda: (
            comparison_plots.error_rate_by_class(title, results) if variant_grid.has_errors_to_show(results) else None
        ),
        "groups": lambda: group_plots.score_by_group(title, by_group) if by_group else None,
        "fit": lambda: comparison_plots.train_and_test(title, results),
        "reliability": lambda: probability_plots.reliability(title, results),
    }
    paths = []
    for name, make in makers.items():
        signals.check()
        if (figure := make()) is None:
            continue
        paths.append(folder / f"{dataset}.{name}.png")
        plot_style.save(figure, paths[-1])
    return paths


def confusion(title: str, result: Result, name: str) -> Figure:
    """Gold by predicted label: counts over all seeds, colours by row share; of many labels those with most errors."""
    counts = np.sum([document["test_confusion"] for document in result.documents], axis=0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = plot_style.worst(counts.sum(axis=1) - counts.diagonal())
    counts, shares = counts[np.ix_(shown, shown)], shares[np.ix_(shown, shown)]
    all_labels = drawn_text.labels(result.documents[0]["test_labels"])
    labels = [all_labels[place] for place in shown]
    note = drawn_text.explanation(result.documents[0]["test_labels"])
    side = max(4.2, 0.42 * len(labels) + 1)
    seeds = len(result.documents)
    scored = "test" if seeds == 1 else f"test, {seeds} seeds summed"
    if len(labels) < len(all_labels):
        scored += f"; the {len(labels)} of {len(all_labels)} labels with most errors"
    figure, axes = framed(f"{title}: {drawn_text.cut(name, drawn_text.TITLE)}\n{scored}", (side + 1, side))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{counts[row, column]}\n{share:.0%}"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black", fontsize=9)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_xlabel(f"predicted\n{note}".strip())
    axes.set_ylabel("gold")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, label="share of the gold label", shrink=0.8)
    return figure


def learning_curves(title: str, results: Sequence[Result]) -> Figure | None:
    """Loss on validation and on train over epochs, of the best variant of each method and head; None without a history.

    A line is the mean over seeds, a band their range. The loss on train is averaged over tenths of an epoch.
    """
    names = dict(zip(map(id, results), variant_grid.names(results), strict=True))
    shown = [
        result
        for result in best_runs.best_variants(results)
        if not result.baseline and any(document.get("history") for document in result.documents)
    ]
    if not shown:
        return None
    figure, axes = framed(f"{title}\nloss over epochs")
    entries = []
    for place, (result, color) in enumerate(zip(shown, plot_style.colors(len(shown)), strict=True)):
        look = plot_style.point(place, color) | {"ls": "-"}
        _curve(axes, result, "validation_loss", **look)
        _curve(axes, result, "loss", color=color, ls=":", lw=1.3)
        entries.append(plot_style.entry(names[id(result)], **look))
    entries.append(plot_style.entry("validation", color=GREY, ls="-", marker="o", ms=5))
    entries.append(plot_style.entry("train", color=GREY, ls=":", lw=1.3))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("cross-entropy (nats)")
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    plot_style.add_legend(figure, entries)
    return figure


def _curve(axes: plt.Axes, result: Result, key: str, **look: Any) -> None:
    curves = [
        [(entry["epoch"], entry[key]) for entry in document.get("history", []) if key in entry]
        for document in result.documents
    ]
    curves = [_averaged(curve) if key == "loss" else curve for curve in curves if curve]
    if not curves:
        return
    # Seeds may stop early at different epochs; the mean runs as far as the shortest.
    length = min(map(len, curves))
    epochs = [epoch for epoch, _ in curves[0][:length]]
    values = np.array([[value for _, value in curve[:length]] for curve in curves])
    axes.plot(epochs, values.mean(axis=0), **look)
    if len(curves) > 1:
        axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=look["color"], alpha=0.15, lw=0)


def _averaged(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the means over tenths of an epoch, each where its tenth was last measured."""
    tenths: dict[int, list[tuple[float, float]]] = {}
    for epoch, value in curve:
        tenths.setdefault(math.ceil(round(10 * epoch, 6)), []).append((epoch, value))
    return [(points[-1][0], float(np.mean([value for _, value in points]))) for points in tenths.values()]


def score_by_parameters(title: str, results: Sequence[Result]) -> Figure | None:
    """Leading test score by the number of trainable parameters; None where no such number is known.

    Bars are 95 % intervals; a ring marks what is not distinguishable from the best.
    Baselines near the models are lines, the others are numbers in the legend.
    """
    if not any(result.mean("params_trainable_count") for result in results if not result.baseline):
        return None
    name = f"test {results[0].score_name}"
    figure, axes = framed(f"{title}\n{name} by trainable parameters")
    entries, low, high = _model_points(axes, results)
    entries += _baseline_levels(axes, results, low, high)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g} M"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15, y=0.12)
    axes.set_xlabel("trainable parameters")
    axes.set_ylabel(f"{name} (%)")
    plot_style.add_legend(figure, entries)
    return figure


def _model_points(axes: plt.Axes, results: Sequence[Result]) -> tuple[list[Any], float, float]:
    """Draw the fine-tuned results, and return legend entries, the lowest and the highest value.

    A job has one colour and marker; of several variants the one with the best validation score is filled.
    """
    chosen = set(map(id, best_runs.best_variants(results)))
    groups, equals = best_runs.groups(results), compare(results).equals()
    entries, low, high = [], math.inf, -math.inf
    for place, ((name, members), color) in enumerate(zip(groups.items(), plot_style.colors(len(groups)), strict=True)):
        look = plot_style.point(place, color)
        for member in members:
            if not (trainable := member.mean("params_trainable_count")):
                continue  # unmeasured
            mean, bar = 100 * (member.mean(member.score_key) or 0.0), plot_style.error_bar(member)
            fill = "full" if id(member) in chosen else "none"
            axes.errorbar(trainable, mean, yerr=bar, capsize=2, elinewidth=0.8, fillstyle=fill, **look)
            below, above = (0.0, 0.0) if bar is None else bar[:, 0]
            low, high = min(low, mean - below), max(high, mean + above)
            if id(member) in equals:
                plot_style.ring(axes, trainable, mean)
        note = " (filled: best validation score)" if len(members) > 1 else ""
        entries.append(plot_style.entry(f"{name}{note}", **look))
    return [*entries, *([plot_style.ring_entry()] if equals else [])], low, high


def _baseline_levels(axes: plt.Axes, results: Sequence[Result], low: float, high: float) -> list[Any]:
    """Draw the baselines that lie near `low` to `high` as lines, and return a legend entry for every baseline."""
    key = results[0].score_key
    near = max((high - low) / 2, 2.0)  # a line farther away would squeeze the models together
    entries = []
    baselines = [result for result in results if result.baseline]
    for result, dash in zip(baselines, itertools.cycle(("--", ":", "-.")), strict=False):
        level = 100 * (result.mean(key) or 0.0)
        look: dict[str, Any] = {"ls": "", "marker": "$\\downarrow$" if level < low else "$\\uparrow$"}
        if low - near <= level <= high + near:
            look = {"ls": dash, "lw": 1}
            axes.axhline(level, color=GREY, **look)
        entries.append(plot_style.entry(f"{result.name}: {level:.1f}", color=GREY, **look))
    return entries
