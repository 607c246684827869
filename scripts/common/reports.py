"""The README's tables, between markers, from published metrics alone.

A block is `<!-- NAME:begin -->` … `<!-- NAME:end -->`; everything between is replaced. `compare` names the first cell
in which a README differs from what the metrics say.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import ReportError
from common.results import Result
from common.stats import count, duration, percent, size
from common.tables import markdown_table

Table = tuple[list[str], list[list[str]]]

_METRICS = {"accuracy": "accuracy", "f1_macro": "macro-F1", "f1_weighted": "weighted F1", "matthews_corrcoef": "MCC"}


def datasets(results: Sequence[Result]) -> list[str]:
    """Return the datasets in the order of their results."""
    return list(dict.fromkeys(result.dataset for result in results))


def results_table(results: Sequence[Result]) -> Table:
    """Return the results of one dataset: a row a model or baseline, mean ± standard deviation over seeds, in percent.

    The leading score comes first; micro-F1 is left out, being accuracy for one label a row.
    """
    leading = results[0].score_key
    names = {leading: _score_name(results[0])} | {f"test_{key}": name for key, name in _METRICS.items()}
    header = ["model", "seeds", *names.values()]
    rows = []
    for result in results:
        rows.append([result.name, str(len(result.documents)), *(percent(result.values(key)) for key in names)])
    return header, rows


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
    for result in results:
        if result.baseline:
            continue
        total, trainable = result.mean("params_total_count"), result.mean("params_trainable_count")
        hardware = result.documents[0].get("hardware") or {}
        device = "gpu" if hardware.get("gpu") else "cpu"
        rate = result.mean("train_examples_per_s")
        rows.append(
            [
                result.name,
                count(total),
                count(trainable),
                "–" if not total or trainable is None else f"{100 * trainable / total:.2f} %",
                duration(result.mean("train_s")),
                "–" if rate is None else f"{rate:.1f}",
                size(result.mean(f"{device}_memory_peak_bytes")),
                str(hardware.get("gpu") or _cpu(hardware)),
            ]
        )
    return header, rows


def _cpu(hardware: dict[str, Any]) -> str:
    name = re.sub(r"\((R|TM)\)", "", str(hardware.get("cpu") or "CPU"))
    threads = hardware.get("threads", "?")
    return f"{name}, {threads} thread{'' if threads == 1 else 's'}"


def blocks(results: Sequence[Result], plots: dict[str, list[str]]) -> dict[str, str]:
    """Return the text of every README block.

    Args:
        results: all published results.
        plots: dataset → its plots' paths relative to the README.
    """
    result_parts, cost_parts = [], []
    for dataset in datasets(results):
        members = [result for result in results if result.dataset == dataset]
        title = members[0].documents[0]["dataset_title"]
        pictures = "\n".join(
            f'<img src="{path}" alt="{title}: {_caption(path)}" width="32%">' for path in plots.get(dataset, [])
        )
        n = members[0].documents[0]["test_n"]
        table = markdown_table(*results_table(members))
        result_parts.append(f"**{title}** (`{dataset}`, {n:,} test rows)\n\n{table}\n\n{pictures}".rstrip())
        cost = cost_table(members)
        if cost[1]:
            cost_parts.append(f"**{title}** (`{dataset}`)\n\n{markdown_table(*cost)}")
    return {
        "results": "\n\n".join(result_parts) or "No results are published yet: `make train`, then `make report`.",
        "cost": "\n\n".join(cost_parts) or "No results are published yet.",
    }


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
                        raise ReportError(
                            f"{readme}, table '{name}', row '{_cells(new)[0]}', column '{title}': found '{was}', "
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
