"""Write predictions and metrics of a split; `metrics.json` (of test) marks a run as finished.

Fine-tuned models, untuned models and classical baselines write the same files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from common.config.label_values import Label
from common.core import files
from common.data.rows import Row
from common.evaluation import calibration, metrics, probabilities
from common.evaluation.metrics import Prediction
from common.runs import provenance, run_folder
from common.runs.documents import Metrics
from common.runs.run_config import SCHEMA, RunConfig

_DIGITS = 6  # decimals of a log probability; float32 has no more


def predictions_file(folder: Path, split: str) -> Path:
    """Return the path of a split's predictions."""
    return folder / f"predictions-{split}.jsonl"


def metrics_file(folder: Path, split: str) -> Path:
    """Return the path of a split's metrics; for test it is the run's `metrics.json`."""
    return folder / (run_folder.METRICS if split == "test" else f"metrics-{split}.json")


def write_split(
    folder: Path,
    config: RunConfig,
    split: str,
    rows: Sequence[Row],
    scores: np.ndarray,
    facts: dict[str, Any],
    generated: Sequence[str] | None = None,
    answers: Sequence[str] = (),
) -> Metrics:
    """Write a split's predictions, then compute its metrics from that file and write them.

    Of validation, the temperature that calibrates the run's probabilities is fitted and written, too.

    Args:
        folder: run or baseline folder.
        config: the run's recorded config.
        split: name of the split.
        rows: N rows with labels.
        scores: natural-log probabilities (N, C).
        facts: further fields of the metrics: parameter counts, times, memory; unmeasured is None.
        generated: generated texts; if given, they decide the predictions.
        answers: the label words in `generated`, in class order.

    Returns:
        The metrics as written.
    """
    file = predictions_file(folder, split)
    files.write_jsonl(file, predictions(rows, scores, config.dataset.labels, generated, answers))
    result = metrics.compute(files.read_jsonl(file), config.dataset.labels, config.dataset.mean_f1_labels)
    document = {
        "schema": SCHEMA,
        **config.plain()["run"],
        "dataset_title": config.dataset.title,
        "score": f"{split}_{config.dataset.score}",
        "head": config.job.head if config.job else None,
        "model": config.job.model if config.job else None,
        "data_sha256": config.data_sha256,
        **_about_rows(config),
        **facts,
        **metrics.prefixed(split, result),
        "provenance": provenance.of_process() | {"end_time": files.utc_now()},
    }
    if attempts := provenance.attempts(folder):
        document["attempts"] = attempts
    if split == "validation":
        calibration.save(folder, split, *probabilities.of_records(files.read_jsonl(file), result["per_label"]))
    files.write_json(metrics_file(folder, split), document)
    return cast("Metrics", document)


def _about_rows(config: RunConfig) -> dict[str, Any]:
    """Return what the dataset's YAML did with the rows, as fields of the metrics."""
    about: dict[str, Any] = {}
    if config.job and config.job.ablation != "none":
        about["ablation"] = config.job.ablation
    if config.dropped_rows_count is not None:
        about["dropped_rows_count"] = config.dropped_rows_count
    if config.dataset.splits.test is not None:
        about["test_copied_from"] = config.dataset.splits.test
    return about


def predictions(
    rows: Sequence[Row],
    scores: np.ndarray,
    labels: Sequence[Label],
    generated: Sequence[str] | None = None,
    answers: Sequence[str] = (),
) -> list[Prediction]:
    """Return the records of `predictions-<split>.jsonl` for rows and their scores (N, C).

    Args:
        rows: N rows.
        scores: natural-log probabilities.
        labels: in class order.
        generated: N generated texts. If given, they decide the prediction; a text that is not a label word predicts
            None.
        answers: the label words in `generated`, in class order.
    """
    records: list[Prediction] = [
        {
            "id": row.id,
            "group": row.group,
            "gold": None if row.label is None else labels[row.label],
            "predicted": labels[int(row_scores.argmax())],
            "scores": {
                str(label): round(float(value), _DIGITS) for label, value in zip(labels, row_scores, strict=True)
            },
        }
        for row, row_scores in zip(rows, scores, strict=True)
    ]
    if generated is not None:
        by_answer = dict(zip(map(str.strip, answers), labels, strict=True))  # generated texts are stripped, too
        for record, text in zip(records, generated, strict=True):
            record |= {"predicted": by_answer.get(text), "generated": text}
    return records
