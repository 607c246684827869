"""Join the runs of a job's folds into one over all rows: every row is judged by the run that has not trained on it."""

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from common.core.errors import ReportError
from common.core.files import sha256
from common.evaluation import label_counts
from common.evaluation.outcomes import Outcomes
from common.report import statistics
from common.report.finished_runs import FinishedRun, on_validation
from common.runs.documents import Metrics, value
from common.runs.out_of_fold import without_fold
from common.runs.run_config import RunConfig

# What the folds of a job have in common. Everything else is computed, or is not known of all rows together.
_COMMON = (
    *("schema", "job", "dataset", "seed", "baseline", "dataset_title", "score", "shots", "head", "model", "hardware"),
    "ablation",
    *("test_labels", "test_f1_mean_labels_of", "params_total_count", "params_trainable_count"),
)
_SCORES = ("accuracy", "f1_macro", "f1_micro", "f1_weighted", "matthews_corrcoef", "f1_mean_labels")


def count(config: RunConfig) -> int | None:
    """Return the number of folds of a run's dataset, None where an older run did not record it."""
    if config.folds is not None:
        return config.folds.count
    folds = config.dataset.splits.folds
    return folds if isinstance(folds, int) else None


def missing(runs: Sequence[FinishedRun]) -> str:
    """Return which folds are finished, for one seed of a job whose other folds are not; "" where all are."""
    number, found = count(runs[0].config), sorted(_number(run) for run in runs)
    if number is None:
        return "the number of folds is not recorded; run them again, with FORCE=1"
    if found == list(range(1, number + 1)):
        return ""
    return f"of {number} folds only {', '.join(map(str, found))} are finished"


def join(runs: Sequence[FinishedRun]) -> FinishedRun:
    """Return the runs of all folds of one job and seed as one run.

    Scores are computed from all rows together. Times are sums, memory is the largest, losses are means over rows, and
    the validation score, which may choose a variant, is the mean over folds.

    Raises:
        ReportError: the folds differ in more than their rows, or are made of other rows.
    """
    runs = sorted(runs, key=_number)
    _check_alike(runs)
    documents = [run.document for run in runs]
    first = cast("dict[str, Any]", documents[0])
    confusion = np.sum([statistics.confusion_of(document) for document in documents], axis=0)
    labels = [str(label) for label in first["test_labels"]]
    mean_of = [labels.index(str(label)) for label in first.get("test_f1_mean_labels_of", ())]
    counts = label_counts.of_confusion(confusion)
    groups = [value(document, "test_groups") or {} for document in documents]
    on_validation_key = first["score"].replace("test_", "validation_", 1)
    joined = {
        **{key: first[key] for key in _COMMON if key in first},
        "test_n": int(confusion.sum()),
        "test_confusion": confusion[:, :-1].tolist(),
        "test_per_label": {label: {"support": int(rows.sum())} for label, rows in zip(labels, confusion, strict=True)},
        "test_groups": {name: found for one in groups for name, found in one.items()},
        **{
            f"test_{name}": float(label_counts.score(counts, name, mean_of))
            for name in _SCORES
            if f"test_{name}" in first
        },
        on_validation_key: _joined([on_validation(one, on_validation_key) for one in documents], _mean),
        **{key: _joined(_values(documents, key), sum) for key in ("train_s", "train_cpu_s")},
        **{key: _joined(_values(documents, key), max) for key in ("gpu_memory_peak_bytes", "cpu_memory_peak_bytes")},
    }
    for key, rows in (("test_loss", "test_n"), ("train_loss", "train_n"), ("train_accuracy", "train_n")):
        joined[key] = _weighted_mean(_values(documents, key), _values(documents, rows))
    folders = tuple(folder for run in runs for folder in run.folders)
    document, outcomes = cast("Metrics", joined), _join_outcomes(runs)
    return FinishedRun(folders, document, runs[0].config, outcomes, folds=tuple(runs))


def _number(run: FinishedRun) -> int:
    return run.config.dataset.splits.fold or 0


def _check_alike(runs: Sequence[FinishedRun]) -> None:
    first = runs[0].config
    for run in runs[1:]:
        old, new = without_fold(first), without_fold(run.config)
        lines = [f"{key}: {old.get(key)} → {new.get(key)}" for key in sorted(old | new) if old.get(key) != new.get(key)]
        if first.folds != run.config.folds:
            lines.append("the rows of all folds together")
        if lines:
            raise ReportError(
                f"{first.dataset_name}/{first.job_name}: its folds {_number(runs[0])} and {_number(run)} cannot be "
                "joined, they differ in more than the fold:\n  " + "\n  ".join(lines)
            )


def _values(documents: Sequence[Metrics], key: str) -> list[Any]:
    return [value(document, key) for document in documents]


def _joined(values: Sequence[Any], join_them: Callable[[Sequence[Any]], Any]) -> Any:
    """Return a value of all folds, None where one of them has none."""
    return None if any(one is None for one in values) else join_them(values)


def _weighted_mean(values: Sequence[Any], rows: Sequence[Any]) -> float | None:
    return None if None in values or None in rows else float(np.average(values, weights=rows))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _join_outcomes(runs: Sequence[FinishedRun]) -> Outcomes | None:
    """Return the outcomes fold by fold; no group of rows is in two folds."""
    parts = [run.outcomes for run in runs if run.outcomes is not None]
    if len(parts) < len(runs):
        return None
    groups, before = [], 0
    for part in parts:
        own = np.zeros(len(part.gold), dtype=np.int64) if part.groups is None else part.groups
        groups.append(own + before)
        before = int(groups[-1].max()) + 1
    return Outcomes(
        sha256(json.dumps([part.rows_sha256 for part in parts]).encode()),
        parts[0].classes,
        np.concatenate([part.gold for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        None if all(part.groups is None for part in parts) else np.concatenate(groups),
    )
