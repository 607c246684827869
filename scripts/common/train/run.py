"""One training run, new or resumed: train, save, reload and compare the saved model, evaluate it."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from common.core import errors, files
from common.data.rows import Rows
from common.data.splits import sample_rows, sample_train_rows
from common.evaluation import inference, partial_results
from common.methods import eva
from common.model import batching, saved_model
from common.model.build import build_head
from common.model.inspect import parameter_counts
from common.runs import provenance, run_folder
from common.runs.run_config import RunConfig, job_of
from common.train.fit import train as fine_tune


def run(folder: Path, config: RunConfig, rows: Rows) -> None:
    """Run or resume a training run until its metrics are written."""
    job = job_of(config)
    if not (folder / run_folder.TRAINING).exists():
        files.write_json(folder / run_folder.TRAINING, _train(folder, config, rows))
    # From here on the saved model alone counts; the one in memory is gone, and its memory free.
    head = saved_model.load(job, config.dataset, folder / run_folder.MODEL)
    _evaluate(folder, config, rows, head, files.read_json(folder / run_folder.TRAINING))
    if not job.runtime.keep_checkpoints:
        files.remove(folder / "checkpoints")


def _train(folder: Path, config: RunConfig, rows: Rows) -> dict[str, Any]:
    """Train, save, and check that the saved model scores as the trained one does."""
    job, seed = job_of(config), config.seed
    assert seed is not None
    train_rows = sample_train_rows(rows["train"], job, config.dataset)
    validation = sample_rows(rows["validation"], job.training.max_eval_samples, config.dataset.splits.seed)
    set_seed(seed)  # before the model is built: head and method have random initial values
    head = build_head(job, config.dataset)
    if eva.needs_batches(head.model):
        encoded = head.encoder.encode(train_rows)
        steps = batching.StepSampler([head.training_tokens(row) for row in encoded], job.training.batch_size, seed)
        batches = [head.training_batch([encoded[index] for index in step]) for step in steps]
        eva.initialise(head.model, batches, head.device, head.losses)
    counts = parameter_counts(head.model)
    share = counts["params_trainable_count"] / counts["params_total_count"]
    print(
        f"{config.job_name} on {config.dataset_name}, seed {seed}: {counts['params_trainable_count']:,} of "
        f"{counts['params_total_count']:,} parameters train ({share:.2%}); {len(train_rows)} rows",
        flush=True,
    )
    facts = fine_tune(head, job, config.dataset, train_rows, validation, folder, seed, folder / run_folder.LOG)
    facts |= counts | provenance.memory_peaks() | {"hardware": provenance.hardware()}
    facts |= {"train_provenance": provenance.collect()}
    saved_model.save(head, job, config.dataset, folder / run_folder.MODEL)
    probe, budget = rows["validation"][:64], job.runtime.score_token_budget
    # As after reloading: torch multiplies by trainable and by frozen weights in different orders.
    head.model.requires_grad_(False)
    trained = inference.score(head, probe, budget, "score with the trained model")
    del head  # two large models do not fit one card
    reloaded = saved_model.load(job, config.dataset, folder / run_folder.MODEL)
    again = inference.score(reloaded, probe, budget, "score with the saved model")
    if not np.array_equal(trained, again):
        raise errors.ModelError(
            f"{folder / run_folder.MODEL}: the saved model scores differently from the trained one, by up to "
            f"{np.abs(trained - again).max():.2e}; it must not be used."
        )
    return facts


def _evaluate(folder: Path, config: RunConfig, rows: Rows, head: Any, facts: dict[str, Any]) -> None:
    """Score validation, then test; metrics.json (of test) is written last and marks the run as finished."""
    for split in ("validation", "test"):
        document = inference.score_split(folder, config, split, rows[split], head, facts, resume=True)
        print(run_folder.headline(document, split), flush=True)
    partial_results.remove(folder)
