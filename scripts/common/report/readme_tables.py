"""The README's tables, between markers, from published metrics alone.

A block is `<!-- NAME:begin -->` … `<!-- NAME:end -->`; everything between is replaced. `compare` names the first cell
in which a README differs from what the metrics say.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from common.core.errors import ReportError
from common.core.formatting import count, decimal, duration, markdown_table, percent, size
from common.report import variant_grid
from common.report.results import Result
from common.runs.documents import Metrics

Table = tuple[list[str], list[list[str]]]

_METRICS = {"accuracy": "accuracy", "f1_macro": "macro-F1", "f1_weighted": "weighted F1", "matthews_corrcoef": "MCC"}


def datasets(results: Sequence[Result]) -> list[str]:
    """Return the datasets in the order of their results."""
    return list(dict.fromkeys(result.dataset for result in results))


def results_table(results: Sequence[Result]) -> Table:
    """Return the results of one dataset: a row a model or baseline, mean ± standard deviation over seeds, in percent.

    The leading score comes first; micro-F1 is left out, being accuracy for one label a row.
    """
    scores = _score_names(results[0])
    return ["model", "seeds", *scores.values()], [[result.name, *_scores(result, scores)] for result in results]


def grid_table(grid: variant_grid.Grid) -> Table:
    """Return the results of a job's variants: a row a variant, a column a setting that varies, then as the others.

    Where rank and alpha of LoRA vary, their quotient, the scale of the update, has a column, too.
    """
    scores = _score_names(grid.members[0])
    scale = ["alpha / r"] if grid.alpha else []
    rows = []
    for member in grid.members:
        rows.append([*grid.cells(member), *([grid.scale(member)] if scale else []), *_scores(member, scores)])
    return [*grid.titles(), *scale, "seeds", *scores.values()], rows


def result_tables(results: Sequence[Result]) -> list[tuple[str, Table]]:
    """Return the tables of one dataset's results with their titles: "" for the first, the job for those of variants."""
    found = variant_grid.find(results)
    swept = {id(member) for grid in found for member in grid.members}
    others = [result for result in results if id(result) not in swept]
    tables = [("", results_table(others))] if others else []
    return tables + [(grid.job, grid_table(grid)) for grid in found]


def _score_names(result: Result) -> dict[str, str]:
    return {result.score_key: _score_name(result)} | {f"test_{key}": name for key, name in _METRICS.items()}


def _scores(result: Result, keys: Iterable[str]) -> list[str]:
    return [str(len(result.documents)), *(percent(result.values(key)) for key in keys)]


def _score_name(result: Result) -> str:
    name = result.score_key.removeprefix("test_")
    if name == "f1_mean_labels":
        labels = " and ".join(str(label) for label in result.documents[0]["test_f1_mean_labels_of"])
        return f"mean F1 of {labels}"
    return _METRICS.get(name, name)


def cost_table(results: Sequence[Result]) -> Table:
    """Return what each fine-tuned model cost: trainable share, time, memory, on which hardware."""
    header = ["model", "parameters", "trainable", "share", "train time", "examples/s", "peak memory", "on"]
    rows = []
    results = variant_grid.arrange(results)
    for name, result in zip(variant_grid.names(results), results, strict=True):
        if result.baseline:
            continue
        total, trainable = result.mean("params_total_count"), result.mean("params_trainable_count")
        hardware = result.documents[0].get("hardware") or {}
        device = "gpu" if hardware.get("gpu") else "cpu"
        rate = result.mean("train_examples_per_s")
        rows.append(
            [
                name,
                count(total),
                count(trainable),
                _share(result),
                duration(result.mean("train_s")),
                "–" if rate is None else f"{rate:.1f}",
                size(result.mean(f"{device}_memory_peak_bytes")),
                str(hardware.get("gpu") or _cpu(hardware)),
            ]
        )
    return header, rows


def errors_table(results: Sequence[Result]) -> Table:
    """Return the share of each label's test rows that are misidentified (1 - recall), in percent, and of all rows."""
    results = variant_grid.arrange(results)
    rows = []
    for name, result in zip(variant_grid.names(results), results, strict=True):
        of_all = [1 - value for value in result.values("test_accuracy")]
        rows.append([name, *map(percent, [*result.label_errors().values(), of_all])])
    return ["model", *results[0].label_errors(), "all"], rows


def fit_table(results: Sequence[Result]) -> Table:
    """Return accuracy (percent) and loss (nats) on train and test, of the models whose train rows were scored."""
    header = ["model", "train accuracy", "test accuracy", "train loss", "test loss", "trainable share"]
    rows = []
    results = variant_grid.arrange(results)
    for name, whole in zip(variant_grid.names(results), results, strict=True):
        if (result := whole.with_train()) is None:
            continue
        accuracies = [percent(result.values(f"{split}_accuracy")) for split in ("train", "test")]
        losses = [decimal(result.values(f"{split}_loss")) for split in ("train", "test")]
        times = [duration(result.mean(key)) for key in ("train_cpu_s", "train_s")]
        rows.append([name, *accuracies, *losses, _share(result), *times])
    return [*header, "train CPU time", "train time"], rows


def _share(result: Result) -> str:
    total, trainable = result.mean("params_total_count"), result.mean("params_trainable_count")
    return "–" if not total or trainable is None else f"{100 * trainable / total:.2f} %"


def _cpu(hardware: dict[str, Any]) -> str:
    name = re.sub(r"\((R|TM)\)", "", str(hardware.get("cpu") or "CPU"))
    threads = hardware.get("threads", "?")
    return f"{name}, {threads} thread{'' if threads == 1 else 's'}"


def blocks(results: Sequence[Result], plots: dict[str, list[str]]) -> dict[str, str]:
    """Return the text of every README block: results, errors, fit and cost, each with its datasets' tables and plots.

    Args:
        results: all published results.
        plots: dataset → its plots' paths relative to the README.
    """
    parts: dict[str, list[str]] = {"results": [], "errors": [], "fit": [], "cost": []}
    for dataset in datasets(results):
        members = [result for result in results if result.dataset == dataset]
        document = members[0].documents[0]
        head = f"**{document['dataset_title']}** (`{dataset}`)"
        tables = [
            f"`{job}`, by what varies:\n\n{markdown_table(*table)}" if job else markdown_table(*table)
            for job, table in result_tables(members)
        ]
        counted = f"{head[:-1]}, {document['test_n']:,} test rows)"
        shown = [path for path in plots.get(dataset, []) if _caption(path) not in ("errors", "fit")]
        parts["results"].append(_joined(counted, *tables, _images(document, shown)))
        for name, table, is_due in (
            ("errors", errors_table, variant_grid.has_errors_to_show(members)),
            ("fit", fit_table, any(result.with_train() for result in members)),
            ("cost", cost_table, not all(result.baseline for result in members)),
        ):
            if is_due:
                own = [path for path in plots.get(dataset, []) if _caption(path) == name]
                parts[name].append(_joined(head, markdown_table(*table(members)), _images(document, own, 65)))
    return {name: "\n\n".join(found) or _nothing(name, results) for name, found in parts.items()}


def _nothing(name: str, results: Sequence[Result]) -> str:
    """Say why a block is empty."""
    if not results or name in ("results", "cost"):
        return "No results are published yet: `make train`, then `make report`."
    if name == "errors":
        return "No data set with more than two labels, and no sweep, is published yet."
    return "No train rows of a published run are scored yet: `make evaluate MODEL=… SPLIT=train`, then `make report`."


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _images(document: Metrics, paths: Sequence[str], width: int = 32) -> str:
    title = document["dataset_title"]
    return "\n".join(f'<img src="{path}" alt="{title}: {_caption(path)}" width="{width}%">' for path in paths)


def _caption(path: str) -> str:
    return Path(path).stem.split(".")[-1].replace("-", " ")


def _span(text: str, name: str, readme: Path) -> tuple[int, int]:
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    for marker in (begin, end):
        if text.count(marker) != 1:
            raise ReportError(
                f"{readme}: the marker {marker} stands there {text.count(marker)} times; it must be there once."
            )
    start, stop = text.index(begin) + len(begin), text.index(end)
    if start > stop:
        raise ReportError(f"{readme}: {end} comes before {begin}.")
    return start, stop


def insert(text: str, contents: dict[str, str], readme: Path) -> str:
    """Return a README's text with every block replaced.

    Raises:
        ReportError: a marker is missing, repeated or out of order.
    """
    for name, content in contents.items():
        start, stop = _span(text, name, readme)
        text = f"{text[:start]}\n{content}\n{text[stop:]}"
    return text


def compare(text: str, contents: dict[str, str], readme: Path) -> None:
    """Compare a README's blocks with what the metrics say, cell by cell.

    Raises:
        ReportError: they differ; the message names block, row and column of the first difference.
    """
    for name, content in contents.items():
        start, stop = _span(text, name, readme)
        found, wanted = text[start:stop].strip().splitlines(), content.strip().splitlines()
        header: list[str] = []
        for number, (old, new) in enumerate(zip(found, wanted, strict=False)):
            if new.startswith("|") and (number == 0 or not wanted[number - 1].startswith("|")):
                header = _cells(new)
            if old == new:
                continue
            if old.startswith("|") and new.startswith("|"):
                for column, (was, should) in enumerate(zip(_cells(old), _cells(new), strict=False)):
                    if was != should:
                        title = header[column] if column < len(header) else str(column + 1)
                        # Variants are told apart by all their settings, which stand before the number of seeds.
                        row = ", ".join(_cells(new)[: header.index("seeds") if "seeds" in header else 1])
                        raise ReportError(
                            f"{readme}, table '{name}', row '{row}', column '{title}': found '{was}', "
                            f"the published metrics say '{should}'. Run: make report"
                        )
            raise ReportError(
                f"{readme}, block '{name}', line {number + 1}: found '{old}', should be '{new}'. Run: make report"
            )
        if len(found) != len(wanted):
            raise ReportError(
                f"{readme}, block '{name}': {len(found)} lines, should be {len(wanted)}. Run: make report"
            )


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
