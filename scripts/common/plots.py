"""Plots of results: confusion matrix, learning curves, accuracy against trainable parameters, and `comparisons`."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from common import comparisons, grids
from common.comparisons import COLORS, GREY, SIZE, framed
from common.files import atomic_path
from common.results import Result

_FEW = 6  # entries of a legend for which a figure of the usual size has room


def _size(more: int) -> tuple[float, float]:
    """Return a figure's size with room for so many more lines of a legend."""
    return SIZE[0], SIZE[1] + 0.16 * max(more, 0)


def draw(dataset: str, results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw the plots of one dataset's results and return their files; a plot without data is left out."""
    results = grids.arrange(results)
    tuned = [result for result in results if not result.baseline]
    if not tuned:
        return []
    title = str(results[0].documents[0]["dataset_title"])
    figures: dict[str, Figure | None] = {}
    if any(result.mean("params_trainable_count") for result in tuned):
        figures["accuracy-parameters"] = _accuracy_parameters(title, results)
    if any(document.get("history") for result in tuned for document in result.documents):
        figures["learning-curves"] = _learning_curves(title, tuned)
    best = max(tuned, key=lambda result: result.mean(result.score_key) or 0.0)
    figures["confusion"] = _confusion(title, best, grids.names(results)[results.index(best)])
    figures["rank"] = comparisons.score_by_rank(title, results)
    figures["errors"] = comparisons.errors_by_label(title, results) if grids.has_errors_to_show(results) else None
    figures["fit"] = comparisons.train_and_test(title, results)
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
    figure, axes = framed(f"{title}: {name}\n{'test' if seeds == 1 else f'test, {seeds} seeds summed'}")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{counts[row, column]}\n{share:.0%}"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black", fontsize=9)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, label="share of the gold label", shrink=0.8)
    return figure


def _learning_curves(title: str, results: Sequence[Result]) -> Figure:
    """Training loss and validation loss over epochs; a line is the mean over seeds, the band their range."""
    many = len(results) > _FEW  # their legend would hide the curves, so it stands below
    figure, axes = framed(f"{title}: loss over epochs", _size(len(results) if many else 0))
    for index, (name, result) in enumerate(zip(grids.names(results), results, strict=True)):
        color = COLORS[index % len(COLORS)]
        for key, style in (("validation_loss", "-"), ("loss", ":")):
            curves = [
                [(entry["epoch"], entry[key]) for entry in document.get("history", []) if key in entry]
                for document in result.documents
            ]
            curves = [curve for curve in curves if curve]
            if not curves:
                continue
            # Seeds may stop early at different epochs; the mean runs as far as the shortest.
            length = min(map(len, curves))
            epochs = [epoch for epoch, _ in curves[0][:length]]
            values = np.array([[value for _, value in curve[:length]] for curve in curves])
            label = name if key == "validation_loss" else None
            axes.plot(
                epochs, values.mean(axis=0), style, color=color, label=label, marker="o" if style == "-" else None, ms=3
            )
            if len(curves) > 1:
                axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, lw=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("cross-entropy (nats); solid validation, dotted train")
    axes.set_ylim(bottom=0)
    if many:
        figure.legend(fontsize=7, frameon=False, loc="outside lower center")
    else:
        axes.legend(fontsize=8, frameon=False)
    return figure


def _accuracy_parameters(title: str, results: Sequence[Result]) -> Figure:
    """Test score against the number of trainable parameters; baselines as lines."""
    key = results[0].score_key
    # Below the axes, where it hides no line; names of variants are long, and two columns of them would be cut off.
    columns = 2 if max(map(len, grids.names(results))) < 32 else 1
    size = _size(len(results) - _FEW if columns == 1 else 0)
    figure, axes = framed(f"{title}: {key.replace('_', ' ')} against trainable parameters", size)
    tuned = [result for result in results if not result.baseline]
    for index, (name, result) in enumerate(zip(grids.names(tuned), tuned, strict=True)):
        trainable = result.mean("params_trainable_count")
        if not trainable:
            continue  # unmeasured
        values = [100 * value for value in result.values(key)]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        axes.errorbar(
            trainable,
            np.mean(values),
            yerr=deviation,
            fmt="o",
            color=COLORS[index % len(COLORS)],
            capsize=3,
            label=name,
        )
    for result, style in zip((r for r in results if r.baseline), itertools.cycle(("--", ":", "-.")), strict=False):
        axes.axhline(100 * (result.mean(key) or 0.0), color=GREY, ls=style, lw=1, label=result.name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g} M"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15, y=0.12)
    axes.set_xlabel("trainable parameters")
    axes.set_ylabel(f"{key.replace('_', ' ')} (%)")
    figure.legend(fontsize=8 if columns == 2 else 7, frameon=False, loc="outside lower center", ncols=columns)
    return figure
