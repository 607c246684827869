"""Write the generated text of README.md (one table) and of outputs/published/README.md (all tables and plots)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.core.formatting import markdown_list, markdown_table, markdown_text
from common.evaluation.resampling import MIN_GROUPS
from common.report import (
    ablations,
    comparison_tables,
    groups,
    hardware,
    readme_tables,
    speed,
    transfer,
    variant_grid,
)
from common.report.notes import DatasetNotes
from common.report.result import Result

BLOCK = "results"  # the marked part of README.md

_HEAD = """\
<!-- `make report` writes this file from the metrics in this folder; change notes.yaml instead. -->

# Published results

All numbers are computed from the `metrics*.json` files in this folder. `make report` writes this page and the table of
the main README, and `make report CHECK=1` compares both with the metrics. Sentences that are not generated, and scores
published elsewhere, are in `notes.yaml`.
"""
_SCORES = (
    "Test scores in percent, mean ± standard deviation (n - 1) over seeds [95 % interval]. "
    "The first score is the leading one."
)
_INTERVALS = (
    "Intervals: BCa bootstrap of the test rows (percentile where BCa is not defined), or of their groups where there "
    f"are at least {MIN_GROUPS}. What seeds differ in beyond their rows is part of an interval. An interval of one "
    "seed holds for that trained model alone. [–]: the predictions of the rows were not published."
)
_MARKS = (
    "vs best: the row with the highest leading score, and how the others stand to it by a paired test on the same test "
    "rows. ≈ best: not distinguishable from it. The test is McNemar's exact one for accuracy of one seed, else a "
    "permutation test with 9,999 permutations or more; worse: p ≤ 0.05 after Holm's correction for all pairs of rows. "
    "–: cannot be tested, because predictions were not published. Other rows: scored on other test rows than the best."
)
_COMPARED = (
    "Differences of the leading score in points [95 % interval]. Right alone: test rows that only this model judges "
    "right : rows that only the other one does, with McNemar's exact test. p: the test of the leading score; Holm p: "
    "corrected for all pairs of the table, or for all pairs of a fine-tuned model and a baseline."
)
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
    "Measured by `make test-gpu` with random weights of the true shape, rows of up to the job's max_length, and at "
    "most 14.5e9 bytes of the card's memory unless the job's name says otherwise. FLOP/s: the model's own work as a "
    "share of the card's dense bfloat16 peak. Peak memory is compared with the estimate of `make check`."
)
_CAPTIONS = {
    "accuracy-parameters": "score by trainable parameters",
    "confusion": "confusion matrix",
    "errors": "error rate per class",
    "fit": "scores on train and test",
    "groups": "score by group",
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
    scores = ", ".join([*others, "else accuracy" if others else "accuracy"])
    rows = ", ".join(f"{_title(members)} {_test_rows(members)}{_folds(members)}" for members in found.values())
    lines = [
        f"Test scores in percent ({scores}), mean ± standard deviation over seeds [95 % interval]. ≈ best: not "
        f"distinguishable from the best row (paired tests, Holm's correction). –: not measured, or predictions not "
        f"published. Test rows: {rows}. Of the variants of a job's method and head, or of a baseline, the best on "
        "validation is shown."
    ]
    return "\n\n".join([markdown_table(*readme_tables.summary_table(results), left=3), *lines])


def published_page(
    results: Sequence[Result],
    plots: Mapping[str, Sequence[str]],
    notes: Mapping[str, DatasetNotes],
    cards: Sequence[dict[str, Any]] = (),
    compared: Sequence[dict[str, Any]] = (),
    curves: Sequence[str] = (),
) -> str:
    """Return the text of outputs/published/README.md.

    Args:
        results: all published results.
        plots: the paths of each dataset's plots, relative to the page.
        notes: the notes of each dataset; a dataset may have none.
        cards: what was measured on graphics cards (`hardware.read`).
        compared: what was measured beside plain scripts (`speed.read`).
        curves: the parts about learning curves (`curve_tables.section`).
    """
    parts = (
        [_HEAD, "\n".join(f"- {line}" for line in (_SCORES, _INTERVALS, _MARKS, _CHOICE, _COST))]
        if results or curves
        else [_HEAD, _NOTHING]
    )
    for dataset, members in readme_tables.datasets(results).items():
        parts += _section(dataset, members, plots.get(dataset, ()), notes.get(dataset, DatasetNotes()))
    parts += curves
    if compared:
        parts += ["## Speed beside plain scripts", speed.ABOUT, markdown_table(*speed.table(compared), left=4)]
        parts.append("\n".join(speed.how_measured(compared)))
    if cards:
        parts += ["## Graphics cards", _CARDS, markdown_table(*hardware.table(cards), left=4)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _section(dataset: str, results: Sequence[Result], plots: Sequence[str], notes: DatasetNotes) -> list[str]:
    """Return the parts of one dataset: notes, then a heading, a table and plots for scores, errors, fit and cost."""
    every, results = results, readme_tables.whole(results)
    parts = [f"## {_title(results)}", f"`data/{dataset}.yaml`, {_test_rows(results)} test rows."]
    if notes.notes:
        parts.append("\n".join(f"- {note}" for note in notes.notes))
    parts.append("### Scores")
    for job, table in readme_tables.score_tables(results):
        parts += [f"Variants of `{job}`:"] if job else []
        parts.append(markdown_table(*table))
    parts.append(markdown_list(comparison_tables.sentences(results)))
    by_name = {Path(path).stem.split(".")[-1]: path for path in plots}
    beside = [path for name, path in by_name.items() if name not in ("errors", "fit", "groups")]
    parts += _images(results, beside, 45)
    if notes.elsewhere:
        header = ["published elsewhere", markdown_text(results[0].score_name), "source"]
        scores = [[entry.model, f"{entry.score}", entry.source] for entry in notes.elsewhere]
        parts += ["### Scores published elsewhere", markdown_table(header, scores)]
    if compared := comparison_tables.comparison_table(results):
        parts += ["### Paired tests", markdown_table(*compared), _COMPARED]
    if used := ablations.table(every):
        parts += ["### Use of the texts", markdown_table(*used), ablations.ABOUT]
        parts.append(markdown_list(ablations.sentences(every)))
    if gaps := transfer.table(results):
        parts += ["### In-group and held-out groups", markdown_table(*gaps, left=2), transfer.ABOUT]
        parts.append(markdown_list(transfer.sentences(results)))
    if by_group := groups.find(results):
        own = [by_name["groups"]] if "groups" in by_name else []
        parts += ["### Groups", markdown_table(*groups.table(by_group)), *_images(results, own, 65)]
        parts.append(markdown_list(groups.sentences(by_group)))
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


def _test_rows(results: Sequence[Result]) -> str:
    """Return the number of test rows, or the numbers where not all results have the same rows."""
    return " or ".join(f"{count:,}" for count in sorted({int(result.documents[0]["test_n"]) for result in results}))


def _folds(results: Sequence[Result]) -> str:
    counts = sorted({result.folds for result in results} - {0})
    return f" ({' or '.join(map(str, counts))} folds)" if counts else ""


def _images(results: Sequence[Result], paths: Sequence[str], width: int) -> list[str]:
    """Return one part with an image per line; no part without images."""
    lines = [f'<img src="{path}" alt="{_title(results)}: {_caption(path)}" width="{width}%">' for path in paths]
    return ["\n".join(lines)] if lines else []


def _caption(path: str) -> str:
    name = Path(path).stem.split(".")[-1]
    return _CAPTIONS.get(name, name.replace("-", " "))
