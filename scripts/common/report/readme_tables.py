"""Make the rows of every published table: the one of README.md, and those of outputs/published/README.md.

`summary_table` is the table of README.md; `page` puts the tables into the two files.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

from common.core.formatting import count, decimal, duration, markdown_text, percent, percent_range, size
from common.evaluation.intervals import Interval
from common.evaluation.label_counts import ERROR_RATE
from common.report import best_runs, variant_grid
from common.report.comparisons import Comparisons, compare
from common.report.result import METRIC_NAMES, Result

Table = tuple[list[str], list[list[str]]]

_UNKNOWN = "–"


def datasets(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the results of every dataset, in their order."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.dataset, []).append(result)
    return found


def whole(results: Sequence[Result]) -> list[Result]:
    """Return the results of one dataset that are no ablations, which have a table of their own; all if there are none.

    An ablation stands in no other table, so none is the best row, and no test is corrected for it.
    """
    return [result for result in results if not result.ablation] or list(results)


def summary_table(results: Sequence[Result]) -> Table:
    """Return the table of README.md: of every dataset its baselines and the best variant of each method and head.

    `best_runs` chooses the variants, by validation scores. Each row is compared with the best row shown.
    """
    header = ["dataset", "model", "method", "seeds", "score", "vs best", "trainable", "training time", "peak memory"]
    rows = []
    for members in datasets(results).values():
        members = variant_grid.arrange(whole(members))
        names = {id(result): name for name, result in zip(variant_grid.names(members), members, strict=True)}
        shown = best_runs.best_variants(members)
        compared = compare(shown)
        for result in shown:
            cells = [result.documents[0]["dataset_title"], names[id(result)], method_name(result)]
            cells += [*_scores(result, [result.score_key]), compared.mark(result)]
            rows.append([*cells, *([_UNKNOWN] * 2 if result.baseline else _cost(result)), size(result.peak_memory())])
    return header, rows


def results_table(results: Sequence[Result], compared: Comparisons) -> Table:
    """Return the scores of some results of one dataset, a row per result, in percent, with 95 % intervals.

    The leading score is the first. Micro-F1 is left out: with one label per row it equals accuracy.

    Args:
        results: the rows.
        compared: all results of the dataset; their best one is marked, and those not distinguishable from it.
    """
    scores = _score_names(results[0])
    rows = [[result.name, *_scores(result, scores), compared.mark(result)] for result in results]
    return ["model", "seeds", *scores.values(), "vs best"], rows


def grid_table(grid: variant_grid.Grid, compared: Comparisons) -> Table:
    """Return the scores of a job's variants, a row per variant and a column per setting that varies.

    Where rank and alpha of LoRA vary, their quotient, the scale of the update, has a column, too. `compared` as in
    `results_table`.
    """
    scores = _score_names(grid.members[0])
    scale = ["alpha / r"] if grid.alpha else []
    rows = []
    for member in grid.members:
        settings = [*grid.cells(member), *([grid.scale(member)] if scale else [])]
        rows.append([*settings, *_scores(member, scores), compared.mark(member)])
    return [*grid.titles(), *scale, "seeds", *scores.values(), "vs best"], rows


def score_tables(results: Sequence[Result]) -> list[tuple[str, Table]]:
    """Return the score tables of one dataset with their titles: the job for a table of variants, "" for the others."""
    found, compared = variant_grid.find(results), compare(results)
    swept = {id(member) for grid in found for member in grid.members}
    others = [result for result in results if id(result) not in swept]
    tables = [("", results_table(others, compared))] if others else []
    return tables + [(grid.job, grid_table(grid, compared)) for grid in found]


def cost_table(results: Sequence[Result]) -> Table:
    """Return the cost of each fine-tuned model: parameters, training time, memory, and the hardware."""
    header = ["model", "parameters", "trainable", "share", "training time", "peak memory", "hardware"]
    rows = []
    for name, result in _named(results):
        if not result.baseline:
            counts = [count(result.mean(f"params_{which}_count")) for which in ("total", "trainable")]
            hardware = result.documents[0].get("hardware") or {}
            device = str(hardware["gpu"]) if result.on_gpu else _cpu(hardware)
            rows.append([name, *counts, *_cost(result), size(result.peak_memory()), device])
    return header, rows


def errors_table(results: Sequence[Result]) -> Table:
    """Return the error rate per class (1 - recall) and of all test rows, in percent, with 95 % intervals."""
    rows = []
    for name, result in _named(results):
        rates = result.error_rates().values()
        cells = [with_interval(values, result.interval(f"{ERROR_RATE}{place}")) for place, values in enumerate(rates)]
        of_all, interval = [1 - value for value in result.values("test_accuracy")], result.interval("test_accuracy")
        if interval is not None:
            interval = dataclasses.replace(interval, low=1 - interval.high, high=1 - interval.low)
        rows.append([name, *cells, with_interval(of_all, interval)])
    return ["model", *map(markdown_text, results[0].error_rates()), "all"], rows


def fit_table(results: Sequence[Result]) -> Table:
    """Return accuracy (percent) and loss (nats) on train and test, for the results whose train rows were scored."""
    header = ["model", "train accuracy", "test accuracy", "train loss", "test loss", "trainable", "training time"]
    rows = []
    for name, whole in _named(results):
        if result := whole.with_train():
            accuracies = [percent(result.values("train_accuracy")), score(result, "test_accuracy")]
            losses = [decimal(result.values(f"{split}_loss")) for split in ("train", "test")]
            rows.append([name, *accuracies, *losses, *_cost(result)])
    return header, rows


def _score_names(result: Result) -> dict[str, str]:
    return {result.score_key: markdown_text(result.score_name)} | {
        f"test_{key}": name for key, name in METRIC_NAMES.items()
    }


def _scores(result: Result, keys: Iterable[str]) -> list[str]:
    return [str(len(result.documents)), *(score(result, key) for key in keys)]


def score(result: Result, key: str) -> str:
    """Return a test score with its 95 % interval: "69.5 ± 1.8 [63.2, 75.1]"."""
    return with_interval(result.values(key), result.interval(key))


def with_interval(values: Sequence[float], interval: Interval | None) -> str:
    """Return a mean with its standard deviation over seeds and its interval; "–" in place of an unknown interval."""
    if not values:
        return _UNKNOWN
    return f"{percent(values)} {percent_range(interval.low, interval.high) if interval else f'[{_UNKNOWN}]'}"


def _named(results: Sequence[Result]) -> Iterable[tuple[str, Result]]:
    results = variant_grid.arrange(results)
    return zip(variant_grid.names(results), results, strict=True)


def method_name(result: Result) -> str:
    """Return the name of a result's method in tables: "baseline", or the fine-tuning method and the prompt head."""
    if result.baseline:
        return "baseline"
    return f"{result.method}, prompt head" if result.head == "prompt" else result.method or _UNKNOWN


def _cost(result: Result) -> list[str]:
    """Return the trainable share and the training time as text."""
    share = result.trainable_share()
    return [_UNKNOWN if share is None else f"{100 * share:.2f} %", duration(result.training_time())]


def _cpu(hardware: dict[str, Any]) -> str:
    name = re.sub(r"\((R|TM)\)", "", str(hardware.get("cpu") or "CPU"))
    threads = hardware.get("threads", "?")
    return f"{name}, {threads} thread{'' if threads == 1 else 's'}"
