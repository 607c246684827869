"""Write the generated text of README.md (one table) and of outputs/published/README.md (all tables and plots)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.core.formatting import markdown_table, markdown_text
from common.report import best_runs, hardware, readme_tables, speed, variant_grid
from common.report.notes import DatasetNotes
from common.report.results import Result

BLOCK = "results"  # the marked part of README.md

_HEAD = """\
<!-- `make report` writes this file from the metrics in this folder; change notes.yaml instead. -->

# Published results

All numbers are computed from the `metrics*.json` files in this folder. `make report` writes this page and the table of
the main README, and `make report CHECK=1` compares both with the metrics. Sentences that are not generated, and scores
published elsewhere, are in `notes.yaml`.
"""
_SCORES = "Test scores in percent, mean ± standard deviation (n - 1) over seeds. The first score is the leading one."
_CHOICE = (
    "Where a job has several variants with the same method and head, the one with the best validation score is shown; "
    "test scores choose nothing."
)
_COST = (
    "Training time includes the evaluations on validation. It is wall-clock time on a GPU, and CPU time of all threads "
    "together without one. Peak memory is that of the GPU, or of the whole process without one. "
    "A dash: not measured."
)
_CARDS = (
    "Measured by `make test-gpu` with random weights of the true shape, rows of the job's max_length, and at most "
    "14.5e9 bytes of the card's memory unless the job's name says otherwise."
)
_CAPTIONS = {
    "accuracy-parameters": "score by trainable parameters",
    "confusion": "confusion matrix",
    "errors": "error rate per class",
    "fit": "scores on train and test",
    "rank": "score by rank",
}
_NOTHING = "No results are published yet: `make train`, then `make report`."


def readme_block(results: Sequence[Result]) -> str:
    """Return the generated part of README.md: the summary table, and how to read it."""
    if not results:
        return _NOTHING
    found = readme_tables.datasets(results)
    leads = {dataset: markdown_text(members[0].score_name) for dataset, members in found.items()}
    others = [f"{name} for `{dataset}`" for dataset, name in leads.items() if name != "accuracy"]
    rows = ", ".join(f"{_title(members)} {_test_rows(members):,}" for members in found.values())
    lines = [
        f"Score: {', '.join([*others, 'accuracy for the others' if others else 'accuracy'])}; on test, in percent, "
        f"mean ± standard deviation over seeds. Test rows: {rows}. {_CHOICE} {_COST}"
    ]
    return "\n\n".join([markdown_table(*readme_tables.summary_table(results), left=3), *lines])


def published_page(
    results: Sequence[Result],
    plots: Mapping[str, Sequence[str]],
    notes: Mapping[str, DatasetNotes],
    cards: Sequence[dict[str, Any]] = (),
    compared: Sequence[dict[str, Any]] = (),
) -> str:
    """Return the text of outputs/published/README.md.

    Args:
        results: all published results.
        plots: the paths of each dataset's plots, relative to the page.
        notes: the notes of each dataset; a dataset may have none.
        cards: what was measured on graphics cards (`hardware.read`).
        compared: what was measured beside plain scripts (`speed.read`).
    """
    parts = [_HEAD, "\n".join([f"- {_SCORES}", f"- {_CHOICE}", f"- {_COST}"])] if results else [_HEAD, _NOTHING]
    for dataset, members in readme_tables.datasets(results).items():
        parts += _section(dataset, members, plots.get(dataset, ()), notes.get(dataset, DatasetNotes()))
    if compared:
        parts += ["## Speed beside plain scripts", speed.ABOUT, markdown_table(*speed.table(compared), left=4)]
        parts.append("\n".join(speed.how_measured(compared)))
    if cards:
        parts += ["## Graphics cards", _CARDS, markdown_table(*hardware.table(cards), left=3)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(dataset: str, results: Sequence[Result], plots: Sequence[str], notes: DatasetNotes) -> list[str]:
    """Return the parts of one dataset: notes, then a heading, a table and plots for scores, errors, fit and cost."""
    parts = [f"## {_title(results)}", f"`data/{dataset}.yaml`, {_uncertainty(results)}"]
    if notes.notes:
        parts.append("\n".join(f"- {note}" for note in notes.notes))
    parts.append("### Scores")
    for job, table in readme_tables.score_tables(results):
        parts += [f"Variants of `{job}`:"] if job else []
        parts.append(markdown_table(*table))
    by_name = {Path(path).stem.split(".")[-1]: path for path in plots}
    beside = [path for name, path in by_name.items() if name not in ("errors", "fit")]
    parts += _images(results, beside, 45)
    if notes.elsewhere:
        header = ["published elsewhere", markdown_text(results[0].score_name), "source"]
        scores = [[entry.model, f"{entry.score}", entry.source] for entry in notes.elsewhere]
        parts += ["### Scores published elsewhere", markdown_table(header, scores)]
    for name, heading, make_table, is_due in (
        ("errors", "Error rate per class (%)", readme_tables.errors_table, variant_grid.has_errors_to_show(results)),
        ("fit", "Train and test", readme_tables.fit_table, any(result.with_train() for result in results)),
        ("cost", "Cost", readme_tables.cost_table, not all(result.baseline for result in results)),
    ):
        if is_due:
            own = [by_name[name]] if name in by_name else []
            parts += [f"### {heading}", markdown_table(*make_table(results)), *_images(results, own, 65)]
    return parts


def _title(results: Sequence[Result]) -> str:
    return str(results[0].documents[0]["dataset_title"])


def _test_rows(results: Sequence[Result]) -> int:
    return int(results[0].documents[0]["test_n"])


def _uncertainty(results: Sequence[Result]) -> str:
    """Say how many test rows there are, and how far an accuracy lies off by chance."""
    rows, best = _test_rows(results), best_runs.best_model(results)
    accuracy = best.mean("test_accuracy") if best else None
    if accuracy is None:
        return f"{rows:,} test rows."
    error = 100 * math.sqrt(accuracy * (1 - accuracy) / rows)
    return f"{rows:,} test rows: one standard error of an accuracy of {100 * accuracy:.1f} % is {error:.1f} points."


def _images(results: Sequence[Result], paths: Sequence[str], width: int) -> list[str]:
    """Return one part with an image per line; no part without images."""
    lines = [f'<img src="{path}" alt="{_title(results)}: {_caption(path)}" width="{width}%">' for path in paths]
    return ["\n".join(lines)] if lines else []


def _caption(path: str) -> str:
    name = Path(path).stem.split(".")[-1]
    return _CAPTIONS.get(name, name.replace("-", " "))
