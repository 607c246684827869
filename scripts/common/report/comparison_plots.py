"""Draw plots that compare many results: score by rank, error rate per class, train and test."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from common.core.formatting import duration
from common.report import drawn_text, plot_style, variant_grid
from common.report.comparisons import compare
from common.report.plot_style import COLORS, GREY, framed
from common.report.result import Result


def score_by_rank(title: str, results: Sequence[Result]) -> Figure | None:
    """Leading test score by the rank of LoRA, a line per scale alpha / r; None where no rank varies.

    Bars are 95 % intervals; a ring marks what is not distinguishable from the best. Other models are grey lines.
    """
    grids = [grid for grid in variant_grid.find(results) if variant_grid.RANK in grid.keys]
    if not grids:
        return None
    key = results[0].score_key
    lines = _rank_lines(grids)
    figure, axes = framed(f"{title}\ntest {results[0].score_name} by rank of LoRA")
    equals = compare(results).equals()
    entries: list[Any] = []
    for (names, members), style in zip(lines.items(), plot_style.line_styles(list(lines)), strict=True):
        ranks, means = [_rank(member) for member in members], [100 * (member.mean(key) or 0.0) for member in members]
        bars = [plot_style.error_bar(member) for member in members]
        known = np.hstack([bar for bar in bars if bar is not None]) if all(bar is not None for bar in bars) else None
        label = ", ".join(filter(None, names))
        entries.append(axes.errorbar(ranks, means, yerr=known, capsize=2, elinewidth=0.5, label=label, **style))
        for rank, mean, member in zip(ranks, means, members, strict=True):
            if id(member) in equals:
                plot_style.ring(axes, rank, mean)
    in_lines = {id(member) for members in lines.values() for member in members}
    entries += _other_levels(axes, results, in_lines)
    entries += [plot_style.ring_entry()] if equals & in_lines else []
    ranks = sorted({_rank(member) for members in lines.values() for member in members})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(rank) for rank in ranks])
    axes.minorticks_off()
    axes.margins(x=0.08, y=0.12)
    axes.set_xlabel("rank r")
    axes.set_ylabel(f"test {results[0].score_name} (%)")
    plot_style.add_legend(figure, entries)
    return figure


def _rank(member: Result) -> int:
    return int(member.settings[variant_grid.RANK])


def _rank_lines(grids: Sequence[variant_grid.Grid]) -> dict[tuple[str, str], list[Result]]:
    """Return the variants that have a rank by the two names of their line, sorted by the second name."""
    lines: dict[tuple[str, str], list[Result]] = {}
    for grid in grids:
        for member in grid.members:
            if variant_grid.RANK in member.settings:
                lines.setdefault(_line(grid, member, len(grids) > 1), []).append(member)
    order = list(dict.fromkeys(second for _, second in lines))
    return dict(sorted(lines.items(), key=lambda item: order.index(item[0][1])))  # stable: scales stay in order


def _other_levels(axes: plt.Axes, results: Sequence[Result], in_lines: set[int]) -> list[Any]:
    """Draw the fine-tuned results that are in no line as horizontal lines, and return their legend entries."""
    key = results[0].score_key
    tuned = [pair for pair in zip(variant_grid.names(results), results, strict=True) if not pair[1].baseline]
    is_mixed = len({variant_grid.epochs(result) for _, result in tuned}) > 1
    others = [(name, result) for name, result in tuned if id(result) not in in_lines]
    entries = []
    for (name, result), dash in zip(others, itertools.cycle((":", "-.", "--")), strict=False):
        label = f"{name}, epochs = {variant_grid.epochs(result)}" if is_mixed and "epochs=" not in name else name
        level = 100 * (result.mean(key) or 0.0)
        entries.append(axes.axhline(level, color=GREY, ls=dash, lw=1.3, label=label))
    return entries


def _line(grid: variant_grid.Grid, member: Result, with_job: bool) -> tuple[str, str]:
    """Return what the points of one line share: the scale alpha / r, and the other settings that vary."""
    facts = grid.facts(member)
    facts.pop(variant_grid.RANK)
    scale = facts.pop(grid.alpha or "", "")
    words = list(facts.values())
    return scale, ", ".join([grid.job, *words] if with_job or not (scale or words) else words)


def error_rate_by_class(title: str, results: Sequence[Result]) -> Figure:
    """Error rate per class (1 - recall) on test: rows are results, columns are labels, cells are means over seeds."""
    results = variant_grid.arrange(results)
    names = variant_grid.names(results)
    found = [result.error_rates() for result in results]
    all_labels = list(found[0])
    shares = np.array([[np.mean(seeds) if seeds else np.nan for seeds in row.values()] for row in found])
    shown = plot_style.worst([np.nanmean(column) if not np.isnan(column).all() else 0.0 for column in shares.T])
    labels, shares = [drawn_text.labels(all_labels)[place] for place in shown], shares[:, shown]
    # (R, C); a root spreads the colours over small shares, where good models differ.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    size = (
        max(4.6, 0.075 * min(max(map(len, names)), drawn_text.TITLE) + 0.72 * len(labels) + 0.6),
        0.34 * len(names) + 1.2,
    )
    figure, axes = framed("", size)
    note = f"; the {len(labels)} worst of {len(all_labels)} labels" if len(labels) < len(all_labels) else ""
    figure.suptitle(f"{title}\nerror rate per class on test (%){note}", fontsize=10)
    axes.imshow(shares, cmap="Reds", norm=norm, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if norm(share) > 0.65 else "black"
        text = "–" if np.isnan(share) else f"{100 * share:.1f}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_xlabel(drawn_text.explanation(all_labels), fontsize=8)
    axes.set_yticks(range(len(names)), [drawn_text.cut(name, drawn_text.TITLE) for name in names], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def train_and_test(title: str, results: Sequence[Result]) -> Figure | None:
    """Accuracy and loss on train and on test, trainable share and time; None where no train rows were scored."""
    results = variant_grid.arrange(results)
    pairs = [(name, whole.with_train()) for name, whole in zip(variant_grid.names(results), results, strict=True)]
    fitted = {name: result for name, result in pairs if result}
    if not fitted:
        return None
    members = list(fitted.values())
    row = 0.24 * len(fitted)  # inches of one bar per model
    heights = (2 * row + 0.3, row + 0.3)
    size = (6.8, sum(heights) + 1.6)
    figure, grid = plt.subplots(2, 2, figsize=size, layout="constrained", sharey=True, height_ratios=heights)
    figure.suptitle(f"{title}: train and test, and the cost of training", fontsize=10)
    (accuracy, loss), (share, time) = grid
    for split, color, offset in (("train", "#9ecae1", -0.2), ("test", COLORS[0], 0.2)):
        look: dict[str, Any] = {"color": color, "offset": offset, "width": 0.38, "label": split}
        _bars(accuracy, [_scaled(result.mean(f"{split}_accuracy"), 100) for result in members], "{:.1f}".format, **look)
        _bars(loss, [result.mean(f"{split}_loss") for result in members], "{:.3f}".format, **look)
    _bars(share, [_scaled(result.trainable_share(), 100) for result in members], "{:.2f}".format)
    minutes = [_scaled(result.training_time(), 1 / 60) for result in members]
    _bars(time, minutes, lambda value: duration(60 * value))
    labels = ("accuracy (%)", "cross-entropy (nats)", "trainable share of the parameters (%)", _time_label(members))
    for axes, label in zip(grid.flat, labels, strict=True):
        axes.set_xlabel(label, fontsize=9)
        axes.margins(x=0.4 if axes is time else 0.2)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[:, 0]:
        axes.set_yticks(range(len(fitted)), list(fitted))
    accuracy.invert_yaxis()  # the other axes share it
    figure.legend(*accuracy.get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside lower center", ncols=2)
    return figure


def _time_label(results: Sequence[Result]) -> str:
    on_gpu = {result.on_gpu for result in results}
    kind = "wall-clock time" if on_gpu == {True} else "CPU time" if on_gpu == {False} else "wall-clock or CPU time"
    return f"{kind} of training (minutes)"


def _bars(
    axes: plt.Axes,
    values: Sequence[float | None],
    text: Callable[[float], str],
    color: Any = GREY,
    offset: float = 0.0,
    width: float = 0.55,
    label: str | None = None,
) -> None:
    """Draw a bar per value with its text; an unmeasured value has a dash and no bar."""
    lengths = [value or 0.0 for value in values]
    bars = axes.barh(np.arange(len(values)) + offset, lengths, width, color=color, label=label)
    axes.bar_label(bars, ["–" if value is None else text(value) for value in values], fontsize=7.5, padding=2)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value
