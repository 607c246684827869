"""Score baselines: the classical ones on the rows alone, and a job's model before it is trained."""

from pathlib import Path
from typing import Any

from transformers import set_seed

from common.config.run_request import CLASSICAL_BASELINES
from common.data.rows import Rows
from common.data.splits import sample_rows
from common.evaluation import classical, inference, partial_results, write_results
from common.model import saved_model
from common.model.build import build_untuned
from common.model.inspect import parameter_counts
from common.runs import provenance
from common.runs.run_config import RunConfig, job_of


def score_baseline(folder: Path, config: RunConfig, rows: Rows) -> None:
    """Score validation, where there is one, then test, and write predictions and metrics into the run folder."""
    score = _classical if config.baseline in CLASSICAL_BASELINES else _untuned
    score(folder, config, rows, [split for split in ("validation", "test") if split in rows])


def _classical(folder: Path, config: RunConfig, rows: Rows, splits: list[str]) -> None:
    classes = len(config.dataset.labels)
    train = sample_rows(rows["train"], config.max_train_samples, config.dataset.splits.seed)
    learner = None
    facts: dict[str, Any] = {"params_total_count": classes, "params_trainable_count": classes}
    if config.baseline == "tfidf":
        learner = classical.TfidfRegression(train, rows.get("validation", []), classes)
        facts = {"params_total_count": learner.parameters, "params_trainable_count": learner.parameters}
        facts |= {"train_s": round(learner.seconds, 3), "regularisation_c": learner.strength}
    for split in splits:
        members = rows[split]
        scores = learner.score(members) if learner else classical.majority(train, members, classes)
        write_results.write_split(folder, config, split, members, scores, facts)


def _untuned(folder: Path, config: RunConfig, rows: Rows, splits: list[str]) -> None:
    job = job_of(config)
    set_seed(config.seed or 0)
    head = build_untuned(job, config.dataset)
    facts: dict[str, Any] = {**parameter_counts(head.model), **saved_model.base_identity(job, head.model)}
    facts["hardware"] = provenance.hardware()
    for split in splits:
        now = facts | provenance.memory_peaks()
        inference.score_split(folder, config, split, rows[split], head, now, resume=True)
    partial_results.remove(folder)
