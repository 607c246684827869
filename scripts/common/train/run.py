"""One training run, new or resumed: train, save, reload and compare the saved model, evaluate it."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from common.config import recipe
from common.config.dataset import IN_GROUP
from common.core import errors, files
from common.data.rows import LoadedRows, Row, Rows
from common.data.splits import sample_rows, sample_train_rows
from common.evaluation import inference, partial_results
from common.evaluation.memory_limit import free_memory
from common.methods import eva
from common.model import batching, device, saved_model
from common.model.build import build_head
from common.model.heads import Head
from common.model.inspect import parameter_counts
from common.model.prompt_head import PromptHead
from common.runs import provenance, run_folder
from common.runs.documents import value
from common.runs.run_config import RunConfig, job_of
from common.train import row_checks
from common.train.fit import train as fine_tune
from common.train.trainer import divergence_error

_GPU_ROUNDING = 1e-3  # nats
_PROBE_ROWS = 64  # validation rows that the trained and the reloaded model both score


def run(folder: Path, config: RunConfig, rows: LoadedRows, found_leaks: dict[str, Any] | None = None) -> None:
    """Run or resume a training run until its metrics are written.

    Args:
        folder: of the run.
        config: its recorded config.
        rows: of all splits.
        found_leaks: by `leaks.find_leaks` of these rows, where it has run already.
    """
    device.announce()
    provenance.record_attempt(folder)
    job, model_folder = job_of(config), folder / run_folder.MODEL
    if (folder / run_folder.TRAINING).exists():
        run_folder.training_facts(folder)  # damaged: before the model is loaded
        head = saved_model.load(job, config.dataset, model_folder)
    else:
        probe = rows["validation"][:_PROBE_ROWS]
        counts = row_checks.check_rows_of_run(folder, job, config.dataset, rows, found_leaks)
        facts, scores = _train(folder, config, rows, probe)
        free_memory()  # two large models do not fit one card
        head = saved_model.load(job, config.dataset, model_folder)
        facts |= {"reload_difference_nats": _check_reloaded(head, config, probe, scores, model_folder)}
        files.write_json(folder / run_folder.TRAINING, facts | counts)
    _evaluate(folder, config, rows, head, run_folder.training_facts(folder))
    if not job.runtime.keep_checkpoints:
        files.remove(folder / "checkpoints")


def _train(folder: Path, config: RunConfig, rows: Rows, probe: list[Row]) -> tuple[dict[str, Any], np.ndarray]:
    """Train and save a model; return the facts for the metrics, and the trained model's scores (N, C) of `probe`."""
    job, seed = job_of(config), config.seed
    assert seed is not None
    train_rows = sample_train_rows(rows["train"], job, config.dataset)
    validation = sample_rows(rows["validation"], job.training.max_eval_samples, config.dataset.splits.seed)
    set_seed(seed)  # before the model is built: head and method have random initial values
    head = build_head(job, config.dataset)
    if eva.needs_batches(head.model):
        whole, encoded = head.with_whole_rows(), head.encoder.encode(train_rows)
        steps = batching.StepSampler([whole.training_tokens(row) for row in encoded], job.training.batch_size, seed)
        batches = [whole.training_batch([encoded[index] for index in step]) for step in steps]
        eva.initialise(head.model, batches, head.device, whole.losses)
    counts = parameter_counts(head.model)
    share = counts["params_trainable_count"] / counts["params_total_count"]
    print(
        f"{config.job_name} on {config.dataset_name}, seed {seed}: {counts['params_trainable_count']:,} of "
        f"{counts['params_total_count']:,} parameters train ({share:.2%}); {len(train_rows)} rows",
        flush=True,
    )
    if isinstance(head, PromptHead) and head.unshared:
        print(f"prompts are run one by one: {head.unshared}", flush=True)
    for hint in [*recipe.hints(job), *filter(None, [device.bfloat16_hint(job)])]:
        print(f"hint: {hint}", flush=True)
    facts = fine_tune(head, job, config.dataset, train_rows, validation, folder, seed, folder / run_folder.LOG)
    facts |= counts | provenance.memory_peaks()
    facts |= {"hardware": provenance.hardware(), "train_provenance": provenance.of_process()}
    identity = {key: facts[key] for key in ("model_commit", "model_sha256")}
    saved_model.save(head, job, config.dataset, folder / run_folder.MODEL, identity)
    # As after reloading: torch multiplies by trainable and by frozen weights in different orders.
    head.model.requires_grad_(False)
    scores = inference.score(head, probe, job.runtime.score_token_budget, "score with the trained model")
    return facts, scores


def _check_reloaded(head: Head, config: RunConfig, probe: list[Row], trained: np.ndarray, path: Path) -> float:
    """Return by how many nats the scores (N, C) of `probe` by the trained and the reloaded model differ at most.

    On a CPU it must be 0. A GPU promises no equal bits: there it may be `_GPU_ROUNDING`, so that predictions are the
    same, unless two labels are as close to each other as twice that.

    Raises:
        ModelError: it is more, so the saved model is not the trained one.
    """
    if not np.isfinite(trained).all():
        raise divergence_error("the trained model's scores are not finite")
    again = inference.score(head, probe, job_of(config).runtime.score_token_budget, "score with the saved model")
    difference = float(np.abs(trained - again).max()) if len(probe) else 0.0
    allowed = _GPU_ROUNDING if head.device.type == "cuda" else 0.0
    if not difference <= allowed:  # also where it is not a number
        raise errors.ModelError(
            f"{path}: the saved model scores differently from the trained one, by up to {difference:.2e} nats "
            f"(allowed here: {allowed:g}); it must not be used."
        )
    return difference


def _evaluate(folder: Path, config: RunConfig, rows: Rows, head: Head, facts: dict[str, Any]) -> None:
    """Score validation, the rows of known groups where there are some, then test.

    metrics.json, of test, is written last and marks the run as finished.
    """
    for split in [name for name in ("validation", IN_GROUP, "test") if name in rows]:
        document = inference.score_split(folder, config, split, rows[split], head, facts, resume=True)
        print(run_folder.headline(document, split), flush=True)
        if value(document, f"{split}_predicted_labels_count") == 1 < len(config.dataset.labels):
            print(
                f"WARNING: all {len(rows[split])} predictions on {split} are one label. The model has learned the "
                "labels' frequencies at most: try another training.learning_rate, more epochs, or "
                "training.class_weights=balanced.",
                flush=True,
            )
    partial_results.remove(folder)
