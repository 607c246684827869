"""Plots of results: confusion matrix, learning curves, accuracy against trainable parameters, and `comparisons`."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from common.core.files import atomic_path
from common.report import comparison_plots, plot_style, variant_grid
from common.report.plot_style import GREY, framed
from common.report.results import Result

_FEW = 4  # models whose training loss can be told apart beside their validation loss


def draw(dataset: str, results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw the plots of one dataset's results and return their files; a plot without data is left out."""
    results = variant_grid.arrange(results)
    tuned = [result for result in results if not result.baseline]
    if not tuned:
        return []
    title = str(results[0].documents[0]["dataset_title"])
    figures: dict[str, Figure | None] = {}
    if any(result.mean("params_trainable_count") for result in tuned):
        figures["accuracy-parameters"] = accuracy_parameters(title, results)
    if any(document.get("history") for result in tuned for document in result.documents):
        figures["learning-curves"] = learning_curves(title, tuned)
    best = max(tuned, key=lambda result: result.mean(result.score_key) or 0.0)
    figures["confusion"] = _confusion(title, best, variant_grid.names(results)[results.index(best)])
    figures["rank"] = comparison_plots.score_by_rank(title, results)
    figures["errors"] = (
        comparison_plots.error_rate_by_class(title, results) if variant_grid.has_errors_to_show(results) else None
    )
    figures["fit"] = comparison_plots.train_and_test(title, results)
    paths = []
    for name, figure in figures.items():
        if figure is None:
            continue
        path = folder / f"{dataset}.{name}.png"
        with atomic_path(path) as partial:
            # No software version in the file: the same results give the same bytes.
            figure.savefig(partial, dpi=120, metadata={"Software": None})
        plt.close(figure)
        paths.append(path)
    return paths


def _confusion(title: str, result: Result, name: str) -> Figure:
    """Rows gold, columns predicted; counts summed over seeds, colours by row share."""
    counts = np.sum([document["test_confusion"] for document in result.documents], axis=0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [str(label) for label in result.documents[0]["test_labels"]]
    seeds = len(result.documents)
    figure, axes = framed(f"{title}: {name}\n{'test' if seeds == 1 else f'test, {seeds} seeds summed'}", (5.2, 4.2))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{counts[row, column]}\n{share:.0%}"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black", fontsize=9)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, label="share of the gold label", shrink=0.8)
    return figure


def learning_curves(title: str, results: Sequence[Result]) -> Figure:
    """Loss over epochs: on validation, and of few models on train; a line is the mean over seeds, the band their range.

    Training loss is averaged over tenths of an epoch.
    """
    looks, groups = plot_style.assign(results, lines=True)
    is_few = len(results) <= _FEW and not any(style.dash for style in looks)
    figure, axes = framed(f"{title}\n{'loss' if is_few else 'validation loss'} over epochs")
    for result, style in zip(results, looks, strict=True):
        _curve(axes, result, "validation_loss", **style.line())
        if is_few:
            _curve(axes, result, "loss", color=style.color, ls=":", lw=1.3)
    if is_few:
        validation = plot_style.entry("validation", **plot_style.Style(GREY).line())
        groups.append([validation, plot_style.entry("train", color=GREY, ls=":", lw=1.3)])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("cross-entropy (nats)")
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    plot_style.add_legend(figure, groups)
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


def accuracy_parameters(title: str, results: Sequence[Result]) -> Figure:
    """Test score against the number of trainable parameters; baselines near the models as lines, others as numbers."""
    key = results[0].score_key
    figure, axes = framed(f"{title}\n{key.replace('_', ' ')} against trainable parameters")
    tuned = [result for result in results if not result.baseline]
    looks, groups = plot_style.assign(tuned, lines=False)
    low, high = math.inf, -math.inf
    for result, style in zip(tuned, looks, strict=True):
        trainable = result.mean("params_trainable_count")
        if not trainable:
            continue  # unmeasured
        values = [100 * value for value in result.values(key)]
        mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        axes.errorbar(trainable, mean, yerr=deviation or None, capsize=3, **style.point())
        low, high = min(low, mean - deviation), max(high, mean + deviation)
    near = max((high - low) / 2, 2.0)  # a line farther off would press the models together
    levels = []
    for result, dash in zip((r for r in results if r.baseline), itertools.cycle(("--", ":", "-.")), strict=False):
        level = 100 * (result.mean(key) or 0.0)
        look: dict[str, Any] = {"ls": "", "marker": "$\\downarrow$" if level < low else "$\\uparrow$"}
        if low - near <= level <= high + near:
            look = {"ls": dash, "lw": 1}
            axes.axhline(level, color=GREY, **look)
        levels.append(plot_style.entry(f"{result.name}: {level:.1f}", color=GREY, **look))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g} M"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15, y=0.12)
    axes.set_xlabel("trainable parameters")
    axes.set_ylabel(f"{key.replace('_', ' ')} (%)")
    plot_style.add_legend(figure, [*groups, levels])
    return figure
