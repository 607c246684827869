"""Write the tables in another format, for papers and spreadsheets: Markdown, LaTeX, csv or xlsx.

Markdown and LaTeX have the tables of outputs/published/README.md, one file each. csv and xlsx have numbers instead:
one row per result, per label and per run, in fractions, seconds and bytes.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from common.core.files import atomic_folder
from common.core.formatting import markdown_table, mean_sd
from common.data.table_writer import write_table
from common.report import (
    ablations,
    comparison_tables,
    curve_tables,
    groups,
    latex,
    readme_tables,
    records,
    transfer,
    variant_grid,
)
from common.report.curves import Curve
from common.report.readme_tables import Table
from common.report.records import Standing
from common.report.result import Result

FORMATS = ("markdown", "latex", "csv", "xlsx")
_COST = "Training time is wall-clock time on a GPU and CPU time without one; peak memory that of GPU or process."


class NamedTable(NamedTuple):
    """A table with the name of its file, its caption, and the number of columns that are aligned to the left."""

    name: str
    caption: str
    table: Table
    left: int = 1


def write(
    form: str,
    found: Sequence[Result],
    folder: Path,
    standings: Mapping[int, Standing],
    curves: Sequence[Curve] = (),
) -> list[str]:
    """Write the tables of all results into a folder, which is replaced, and return notes for the user.

    Args:
        form: one of `FORMATS`.
        found: the results.
        folder: receives one file per table.
        standings: intervals and marks, by `id(result)`.
        curves: the learning curves.
    """
    notes = []
    with atomic_folder(folder) as place:
        if form in ("csv", "xlsx"):
            for name, frame in (frames(found, standings) | curve_frames(curves)).items():
                write_table(place / f"{name}.{form}", frame)
        for one in [*text_tables(found), *text_tables_of_curves(curves)] if form in _RENDERERS else ():
            ending, render = _RENDERERS[form]
            text = render(one)
            if form == "latex" and (unknown := latex.unknown_characters(text)):
                notes.append(f"{one.name}.tex: compile it with lualatex or xelatex, pdflatex cannot print {unknown}")
            (place / f"{one.name}.{ending}").write_text(text, encoding="utf-8")
    return notes


def text_tables(found: Sequence[Result]) -> list[NamedTable]:
    """Return the tables of outputs/published/README.md, and the one of README.md as "summary"."""
    score = "Scores on test in percent, mean ± standard deviation over seeds, with 95 % intervals."
    tables = [NamedTable("summary", f"{score} {_COST}", readme_tables.summary_table(found), 3)]
    for dataset, every in readme_tables.datasets(found).items():
        members = readme_tables.whole(every)
        title = members[0].documents[0]["dataset_title"]
        for job, table in readme_tables.score_tables(members):
            name, variants = (f"{dataset}-scores-{job}", f", variants of {job}") if job else (f"{dataset}-scores", "")
            tables.append(NamedTable(name, f"{title}{variants}. {score}", table))
        if compared := comparison_tables.comparison_table(members):
            caption = f"{title}. Paired tests on the test rows; differences in points of percent, with 95 % intervals."
            tables.append(NamedTable(f"{dataset}-tests", caption, compared))
        if used := ablations.table(every):
            caption = f"{title}. Scores with all texts, and differences to them in points, with 95 % intervals."
            tables.append(NamedTable(f"{dataset}-ablations", caption, used))
        if gaps := transfer.table(members):
            about = "scores in percent, gaps in points, with 95 % intervals"
            caption = " ".join([f"{title}. In-group and held-out groups: {about}.", *transfer.sentences(members)])
            tables.append(NamedTable(f"{dataset}-gaps", caption, gaps, 2))
        if by_group := groups.find(members):
            about = f"{title}. {by_group.name} by group on test, in percent, with 95 % intervals."
            caption = " ".join([about, *groups.sentences(by_group)])
            tables.append(NamedTable(f"{dataset}-groups", caption, groups.table(by_group)))
        if variant_grid.has_errors_to_show(members):
            caption = f"{title}. Error rate per class (1 - recall) on test, in percent."
            tables.append(NamedTable(f"{dataset}-errors", caption, readme_tables.errors_table(members)))
        if any(result.with_train() for result in members):
            caption = f"{title}. Train and test: accuracy in percent, loss in nats."
            tables.append(NamedTable(f"{dataset}-fit", caption, readme_tables.fit_table(members)))
        if not all(result.baseline for result in members):
            tables.append(NamedTable(f"{dataset}-cost", f"{title}. {_COST}", readme_tables.cost_table(members)))
    return tables


def text_tables_of_curves(curves: Sequence[Curve]) -> list[NamedTable]:
    """Return the table of each dataset's learning curves."""
    tables = []
    for (dataset, per_label), members in curve_tables.by_dataset(curves).items():
        title, kind = members[0].lead.documents[0]["dataset_title"], "few" if per_label else "more"
        caption = f"{title}. {members[0].lead.score_name} on test in percent by train rows, with 95 % intervals."
        tables.append(NamedTable(f"{dataset}-{kind}-labels", caption, curve_tables.table(members)))
    return tables


def curve_frames(curves: Sequence[Curve]) -> dict[str, pd.DataFrame]:
    """Return the points of learning curves as the data frame "curves"; nothing without curves."""
    rows = []
    for curve in curves:
        for point in curve.points:
            interval, key = point.result.interval(point.result.score_key), point.result.score_key
            about = {"dataset": point.result.dataset, "model": curve.name, "balanced": curve.per_label}
            low, high = (interval.low, interval.high) if interval else (None, None)
            scores = {"train_rows": point.rows, "seeds": len(point.result.documents), "score": key}
            rows.append(about | scores | {"score_mean": point.result.mean(key), "score_low": low, "score_high": high})
    return {"curves": pd.DataFrame(rows)} if rows else {}


def frames(found: Sequence[Result], standings: Mapping[int, Standing]) -> dict[str, pd.DataFrame]:
    """Return numbers as data frames: "results", "labels" (error rates) and "runs"; unmeasured cells are empty."""
    rows: dict[str, list[dict[str, Any]]] = {"results": [], "labels": [], "runs": []}
    for dataset, members in readme_tables.datasets(found).items():
        described = records.models(members, standings)
        labels = [str(label) for label in members[0].documents[0]["test_labels"]]
        for record, result in zip(described, variant_grid.arrange(members), strict=True):
            about = {"dataset": dataset, "model": record["name"]}
            rows["results"].append({**about, **_numbers(record, result)})
            rates = zip(labels, record["errors"], strict=True)
            rows["labels"] += [{**about, "label": label, "test_error_rate": rate} for label, rate in rates]
            for document in result.documents:
                scores = {key: document.get(key) for key in (*records.score_names(result), "test_loss", "test_n")}
                rows["runs"].append({**about, "seed": document["seed"], **scores})
    return {name: pd.DataFrame(found_rows) for name, found_rows in rows.items()}


def _numbers(record: Mapping[str, Any], result: Result) -> dict[str, Any]:
    """Return one row of "results" without its names: mean and standard deviation of each score, interval and cost."""
    low, high = record["interval"] or (None, None)
    scores: dict[str, float | None] = {}
    for key, values in record["scores"].items():
        scores |= dict(zip((f"{key}_mean", f"{key}_sd"), mean_sd(values) if values else (None, None), strict=True))
    return {
        "method": record["method"],
        "ablation": record["ablation"],
        "seeds": len(record["runs"]),
        "score": result.score_key,
        "score_low": low,
        "score_high": high,
        "mark": record["mark"] or None,
        "validation_score": record["validation"],
        **scores,
        "params_total_count": record["total"],
        "params_trainable_count": record["trainable"],
        "train_s": record["time_s"],
        "memory_peak_bytes": record["memory_bytes"],
        "on_gpu": record["on_gpu"],
    }


def _markdown(one: NamedTable) -> str:
    return f"{one.caption}\n\n{markdown_table(*one.table, left=one.left)}\n"


def _latex(one: NamedTable) -> str:
    header, rows = one.table
    return latex.table(one.name, one.caption, [html.unescape(cell) for cell in header], rows, one.left)


_RENDERERS: dict[str, tuple[str, Callable[[NamedTable], str]]] = {
    "markdown": ("md", _markdown),
    "latex": ("tex", _latex),
}
