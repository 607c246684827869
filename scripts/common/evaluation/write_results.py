"""Write predictions and metrics of a split; `metrics.json` (of test) marks a run as finished.

Fine-tuned models, untuned models and classical baselines write the same files.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from common.core import files
from common.core.progress import Progress
from common.data.rows import Row
from common.evaluation import inference, metrics
from common.evaluation.partial_results import PartialResults
from common.model.heads import Head
from common.model.prompt_head import PromptHead
from common.runs import provenance, run_folder
from common.runs.documents import Metrics
from common.runs.run_config import SCHEMA, RunConfig, job_of


def predictions_file(folder: Path, split: str) -> Path:
    """Return the path of a split's predictions."""
    return folder / f"predictions-{split}.jsonl"


def metrics_file(folder: Path, split: str) -> Path:
    """Return the path of a split's metrics; for test it is the run's `metrics.json`."""
    return folder / (run_folder.METRICS if split == "test" else f"metrics-{split}.json")


def score_split(
    folder: Path,
    config: RunConfig,
    split: str,
    rows: Sequence[Row],
    head: Head,
    facts: dict[str, Any],
    resume: bool = False,
) -> Metrics:
    """Score a split with a model, write its predictions and metrics (see `write_split`), and return the metrics.

    With `resume`, partial results of an earlier attempt are used, and new ones are saved while scoring.
    """
    job = job_of(config)
    budget = job.runtime.score_token_budget
    start = time.perf_counter()
    with _progress(folder, f"score {split}", len(rows), resume) as (progress, partial):
        scores = inference.score(head, rows, budget, progress, partial)
    seconds = partial.seconds if partial else time.perf_counter() - start
    if split != "train":  # `train_s` is the time of training
        facts = facts | {f"{split}_s": round(seconds, 3), f"{split}_examples_per_s": round(len(rows) / seconds, 2)}
    if not isinstance(head, PromptHead):
        return write_split(folder, config, split, rows, scores, facts)
    facts |= {"decoding": job.decoding, "length_normalization": job.length_normalization}
    if job.decoding == "score":
        return write_split(folder, config, split, rows, scores, facts)
    with _progress(folder, f"generate {split}", len(rows), resume) as (progress, partial):
        generated = inference.generate(head, rows, budget, progress, partial)
    return write_split(folder, config, split, rows, scores, facts, generated, head.encoder.label_words)


@contextlib.contextmanager
def _progress(folder: Path, what: str, rows: int, resume: bool) -> Iterator[tuple[Progress, PartialResults | None]]:
    with contextlib.ExitStack() as stack:
        partial = stack.enter_context(PartialResults(folder, what)) if resume else None
        done = partial.rows if partial else 0
        yield stack.enter_context(Progress(what, rows, "row", done=done, folder=folder)), partial


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
    files.write_jsonl(file, inference.predictions(rows, scores, config.dataset.labels, generated, answers))
    result = metrics.compute(files.read_jsonl(file), config.dataset.labels, config.dataset.mean_f1_labels)
    document = {
        "schema": SCHEMA,
        **config.plain()["run"],
        "dataset_title": config.dataset.title,
        "score": f"{split}_{config.dataset.score}",
        "head": config.job.head if config.job else None,
        "model": config.job.model if config.job else None,
        "data_sha256": config.data_sha256,
        **facts,
        **metrics.prefixed(split, result),
        "provenance": provenance.collect(),
    }
    files.write_json(metrics_file(folder, split), document)
    return cast("Metrics", document)
