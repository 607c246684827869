"""Score baselines: the classical ones on the rows alone, and those of a job's model before it is trained."""

from pathlib import Path
from typing import Any

from transformers import set_seed

from common.config.dataset import IN_GROUP
from common.config.run_request import CLASSICAL_BASELINES, EMBEDDING, FEW_SHOT
from common.data.rows import Row, Rows
from common.data.splits import draw_train_rows, sample_balanced, sample_train_rows
from common.evaluation import classical, inference, partial_results, write_results
from common.evaluation.embedding import EmbeddingRegression
from common.evaluation.memory_limit import used_budget
from common.model import device
from common.model.base_identity import base_identity
from common.model.build import build_untuned
from common.model.inspect import inner_model, parameter_counts
from common.runs import provenance
from common.runs.run_config import RunConfig, job_of


def score_baseline(folder: Path, config: RunConfig, rows: Rows) -> None:
    """Score validation and the rows of known groups, where there are some, then test, and write all into the folder."""
    if config.baseline in CLASSICAL_BASELINES:
        score = _classical
    else:
        score = _embedding if config.baseline == EMBEDDING else _untuned
    score(folder, config, rows, [split for split in ("validation", IN_GROUP, "test") if split in rows])


def _classical(folder: Path, config: RunConfig, rows: Rows, splits: list[str]) -> None:
    classes = len(config.dataset.labels)
    train = draw_train_rows(rows["train"], config.max_train_samples, config.sampling, config.dataset)
    learner = None
    rows_count = {"train_count": len(train)}
    facts: dict[str, Any] = {**rows_count, "params_total_count": classes, "params_trainable_count": classes}
    if config.baseline == "tfidf":
        learner = classical.TfidfRegression(train, rows.get("validation", []), classes)
        count = learner.regression.parameters
        facts = {**rows_count, "params_total_count": count, "params_trainable_count": count}
        facts |= {"train_s": round(learner.seconds, 3), "regularisation_c": learner.regression.strength}
    for split in splits:
        members = rows[split]
        scores = learner.score(members) if learner else classical.majority(train, members, classes)
        write_results.write_split(folder, config, split, members, scores, facts)


def draw_examples(config: RunConfig, rows: Rows) -> list[Row]:
    """Return the train rows that every prompt of a few-shot baseline shows, drawn by its seed; [] for another baseline.

    Raises:
        DataError: a label has too few rows.
    """
    if config.baseline != FEW_SHOT:
        return []
    train = sample_train_rows(rows["train"], job_of(config), config.dataset)
    return sample_balanced(train, config.shots or 0, config.dataset.labels, config.seed or 0)


def _untuned(folder: Path, config: RunConfig, rows: Rows, splits: list[str]) -> None:
    job = job_of(config)
    device.announce()
    set_seed(config.seed or 0)
    examples = draw_examples(config, rows)
    head = build_untuned(job, config.dataset, examples)
    facts: dict[str, Any] = {**parameter_counts(head.model), **base_identity(job, head.model)}
    facts["hardware"] = provenance.hardware()
    if examples:
        facts["few_shot_ids"] = [row.id for row in examples]
    for split in splits:
        now = facts | provenance.memory_peaks()
        inference.score_split(folder, config, split, rows[split], head, now, resume=True)
    partial_results.remove(folder)


def _embedding(folder: Path, config: RunConfig, rows: Rows, splits: list[str]) -> None:
    job, classes = job_of(config), len(config.dataset.labels)
    device.announce()
    set_seed(config.seed or 0)
    head = build_untuned(job, config.dataset)
    train = sample_train_rows(rows["train"], job, config.dataset)
    budget = job.runtime.score_token_budget
    learner = EmbeddingRegression(head, train, rows.get("validation", []), classes, budget)
    trained = learner.regression.parameters
    count = parameter_counts(inner_model(head.model).base_model)["params_total_count"]
    facts: dict[str, Any] = {"params_total_count": count + trained, "params_trainable_count": trained}
    facts["train_count"] = len(train)
    facts |= base_identity(job, head.model)
    facts |= {"train_s": round(learner.seconds, 3), "train_cpu_s": round(learner.cpu_seconds, 3)}
    facts |= {"pooling": learner.pooling, "regularisation_c": learner.regression.strength}
    facts["hardware"] = provenance.hardware()
    for split in splits:
        scores = learner.score(rows[split], split)
        now = facts | provenance.memory_peaks() | {"score_token_budget": used_budget(head, budget)}
        write_results.write_split(folder, config, split, rows[split], scores, now)
