"""Make the rows of every published table: the one of README.md, and those of outputs/published/README.md.

`summary_table` is the table of README.md; `page` puts the tables into the two files.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from common.core.formatting import count, decimal, duration, markdown_text, percent, size
from common.report import best_runs, variant_grid
from common.report.results import METRIC_NAMES, Result

Table = tuple[list[str], list[list[str]]]

_UNKNOWN = "–"


def datasets(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the results of every dataset, in their order."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.dataset, []).append(result)
    return found


def summary_table(results: Sequence[Result]) -> Table:
    """Return the table of README.md: of every dataset its baselines and the best variant of each method and head.

    `best_runs` chooses the variants, by validation scores.
    """
    header = ["dataset", "model", "method", "seeds", "score", "trainable", "training time", "peak memory"]
    rows = []
    for members in datasets(results).values():
        members = variant_grid.arrange(members)
        names = {id(result): name for name, result in zip(variant_grid.names(members), members, strict=True)}
        for result in best_runs.best_variants(members):
            cells = [result.documents[0]["dataset_title"], names[id(result)], _method(result)]
            cells += _scores(result, [result.score_key])
            rows.append([*cells, *([_UNKNOWN] * 2 if result.baseline else _cost(result)), size(result.peak_memory())])
    return header, rows


def results_table(results: Sequence[Result]) -> Table:
    """Return the scores of one dataset, a row per result: mean ± standard deviation over seeds, in percent.

    The leading score is the first. Micro-F1 is left out: with one label per row it equals accuracy.
    """
    scores = _score_names(results[0])
    return ["model", "seeds", *scores.values()], [[result.name, *_scores(result, scores)] for result in results]


def grid_table(grid: variant_grid.Grid) -> Table:
    """Return the scores of a job's variants, a row per variant and a column per setting that varies.

    Where rank and alpha of LoRA vary, their quotient, the scale of the update, has a column, too.
    """
    scores = _score_names(grid.members[0])
    scale = ["alpha / r"] if grid.alpha else []
    rows = []
    for member in grid.members:
        rows.append([*grid.cells(member), *([grid.scale(member)] if scale else []), *_scores(member, scores)])
    return [*grid.titles(), *scale, "seeds", *scores.values()], rows


def score_tables(results: Sequence[Result]) -> list[tuple[str, Table]]:
    """Return the score tables of one dataset with their titles: the job for a table of variants, "" for the others."""
    found = variant_grid.find(results)
    swept = {id(member) for grid in found for member in grid.members}
    others = [result for result in results if id(result) not in swept]
    tables = [("", results_table(others))] if others else []
    return tables + [(grid.job, grid_table(grid)) for grid in found]


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
    """Return the error rate per class (1 - recall) and of all test rows, in percent."""
    rows = []
    for name, result in _named(results):
        of_all = [1 - value for value in result.values("test_accuracy")]
        rows.append([name, *map(percent, [*result.error_rates().values(), of_all])])
    return ["model", *map(markdown_text, results[0].error_rates()), "all"], rows


def fit_table(results: Sequence[Result]) -> Table:
    """Return accuracy (percent) and loss (nats) on train and test, for the results whose train rows were scored."""
    header = ["model", "train accuracy", "test accuracy", "train loss", "test loss", "trainable", "training time"]
    rows = []
    for name, whole in _named(results):
        if result := whole.with_train():
            accuracies = [percent(result.values(f"{split}_accuracy")) for split in ("train", "test")]
            losses = [decimal(result.values(f"{split}_loss")) for split in ("train", "test")]
            rows.append([name, *accuracies, *losses, *_cost(result)])
    return header, rows


def _score_names(result: Result) -> dict[str, str]:
    return {result.score_key: markdown_text(result.score_name)} | {
        f"test_{key}": name for key, name in METRIC_NAMES.items()
    }


def _scores(result: Result, keys: Iterable[str]) -> list[str]:
    return [str(len(result.documents)), *(percent(result.values(key)) for key in keys)]


def _named(results: Sequence[Result]) -> Iterable[tuple[str, Result]]:
    results = variant_grid.arrange(results)
    return zip(variant_grid.names(results), results, strict=True)


def _method(result: Result) -> str:
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
