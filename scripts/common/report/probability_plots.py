"""Draw what probabilities are worth: the reliability plot."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from common.report import best_runs, plot_style, variant_grid
from common.report.plot_style import GREY, framed
from common.report.result import Result
from common.runs.documents import value


def reliability(title: str, results: Sequence[Result]) -> Figure | None:
    """Accuracy on test by confidence, in bins of equally many rows; None where no result has probabilities measured.

    The best variant of each method and head, and the best baseline. Below the diagonal a model is overconfident. Where
    seeds have the same number of bins, a point is the mean over seeds.
    """
    names = dict(zip(map(id, results), variant_grid.names(results), strict=True))
    chosen = [result for result in best_runs.best_variants(results) if not result.baseline]
    baselines = [result for result in results if result.baseline and len(_bins(result)) > 1]
    chosen += sorted(baselines, key=lambda result: result.mean(result.score_key) or 0.0)[-1:]
    shown = [result for result in chosen if len(_bins(result))]
    if not any(not result.baseline for result in shown):
        return None
    figure, axes = framed(f"{title}\nreliability on test", (4.6, 4.2))
    axes.plot([0, 100], [0, 100], color=GREY, lw=0.8)
    entries = []
    for place, (result, color) in enumerate(zip(shown, plot_style.colors(len(shown)), strict=True)):
        look = plot_style.point(place, color) | {"ls": "-", "lw": 1}
        confidence, accuracy = 100 * _bins(result).T
        axes.plot(confidence, accuracy, **look)
        entries.append(plot_style.entry(f"{names[id(result)]}: {_error(result)}", **look))
    lowest = min(float(_bins(result).min()) for result in shown)
    axes.set_xlim(100 * lowest - 3, 102)
    axes.set_ylim(100 * lowest - 3, 102)
    axes.set_xlabel("mean probability of the predicted label (%)")
    axes.set_ylabel("of these rows are right (%)")
    plot_style.add_legend(figure, entries)
    return figure


def _bins(result: Result) -> np.ndarray:
    """Return (bins, 2) confidence and accuracy: means over the seeds with as many bins as the first, or none."""
    seeds = [value(document, "test_reliability") or [] for document in result.documents]
    same = [bins for bins in seeds if len(bins) == len(seeds[0])]
    points = np.array([[[one["confidence"], one["accuracy"]] for one in bins] for bins in same])
    return points.mean(axis=0) if points.size else np.empty((0, 2))


def _error(result: Result) -> str:
    names = [f"test_expected_calibration_error{end}" for end in ("", "_by_chance")]
    error, by_chance = (100 * (result.mean(name) or 0.0) for name in names)
    return f"calibration error {error:.1f} %, of which by chance {by_chance:.1f}"
