"""A job's `training:` as the Trainer's arguments, and checks that run before anything is written."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_available_reporting_integrations

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ConfigError, choices, nearest
from common.data.rows import Row
from common.model import device
from common.model.build import check_prompt
from common.model.shapes import ModelShape, model_shape

_METRIC_SCHEDULERS = ("reduce_lr_on_plateau", "greedy")  # the Trainer passes best_metric to these schedulers


def training_arguments(job: Job, folder: Path, seed: int) -> TrainingArguments:
    """Return a job's training arguments as the Trainer's.

    Raises:
        ConfigError: an optimizer, scheduler or tracker that the Trainer does not know.
    """
    training, runtime = job.training, job.runtime
    every = None if training.eval_every == "epoch" else training.eval_every
    # Without `mode` these schedulers treat every metric as a loss, and lower the learning rate when it rises.
    mode = {"mode": training.metric_mode} if training.lr_scheduler_type in _METRIC_SCHEDULERS else {}
    is_on_gpu = device.choose().type == "cuda"
    try:
        arguments = TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=training.epochs,
            per_device_train_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            optim=training.optim,
            lr_scheduler_type=training.lr_scheduler_type,
            lr_scheduler_kwargs=mode | training.lr_scheduler_kwargs,
            warmup_steps=training.warmup_steps,
            max_grad_norm=training.max_grad_norm,
            eval_strategy="steps" if every else "epoch",
            save_strategy="steps" if every else "epoch",
            eval_steps=every,
            save_steps=every or 500,
            logging_steps=runtime.log_every,
            logging_first_step=True,
            metric_for_best_model=training.best_metric.replace("validation_", "eval_"),
            greater_is_better=training.metric_mode == "max",
            activation_checkpointing=runtime.activation_checkpointing,
            report_to=runtime.report_to or "none",
            seed=seed,
            disable_tqdm=True,
            fp16=is_on_gpu and job.precision == "float16",  # for its scaled loss
            use_cpu=not is_on_gpu,  # the Trainer would take a Mac's GPU
            dataloader_pin_memory=is_on_gpu,
            accelerator_config={"non_blocking": is_on_gpu},
        )
    except (ValueError, ImportError) as error:
        message = " ".join(str(error).split())
        wrong = re.match(r"'?([\w.-]+)'? is not a valid (\w+)", message)
        if wrong:
            allowed = re.findall(r"'([\w.-]+)'", message.partition("select one of")[2])
            key = {"OptimizerNames": "optim", "SchedulerType": "lr_scheduler_type"}.get(wrong[2], wrong[2])
            message = f"{key} '{wrong[1]}' is not known to the Trainer.{nearest(wrong[1], allowed)} "
            message += f"Allowed: {', '.join(allowed)}"
        raise ConfigError(f"training: {message}") from error
    # One process runs one model on one device; the Trainer would divide batches among all GPUs that it sees.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def check_training_arguments(job: Job, dataset: Dataset, rows: Sequence[Row], trains_here: bool = True) -> ModelShape:
    """Return the shape of a job's model; raise an error for what the libraries would refuse later. Write nothing.

    Args:
        job: to train.
        dataset: its labels, and its prompt.
        rows: to train on; none where they are not known.
        trains_here: as in `device.check`.

    Raises:
        ConfigError: a method that trains nothing, a warm-up longer than the run, an optimizer, scheduler or tracker
            unknown to the Trainer, a class weight for an unknown label, a dataset without the prompt that the head
            needs.
        ModelError: no such model, a method that does not fit it, more tokens than it has positions, or label words that
            its tokenizer cannot tell apart.
    """
    device.check(job, trains_here)
    if job.method.name == "none":
        raise ConfigError("method none trains nothing; evaluate the base with: make baseline BASELINE=untuned")
    _check_scheduler_mode(job)
    arguments = training_arguments(job, Path("unused"), seed=0)
    try:
        _check_optimizer_and_scheduler(arguments)
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        chosen = f"optim {job.training.optim}, lr_scheduler_type {job.training.lr_scheduler_type}"
        raise ConfigError(f"training: {chosen} with lr_scheduler_kwargs cannot be used: {reason}") from error
    installed = get_available_reporting_integrations()
    for tracker in job.runtime.report_to:
        if tracker not in installed:
            raise ConfigError(
                f"runtime.report_to names '{tracker}', which is not installed or not known."
                f"{nearest(tracker, installed)} "
                f"Installed: {choices(installed) or 'none'}."
            )
    class_weights(job, dataset, rows)
    steps = math.ceil(job.training.epochs * math.ceil(len(rows) / job.training.batch_size))
    if rows and (planned := getattr(job.method, "total_step", None)) and planned > steps:
        raise ConfigError(f"method.total_step is {planned}, but the run has {steps} steps; the ranks would not settle.")
    if rows and job.training.warmup_steps > steps:
        raise ConfigError(
            f"training.warmup_steps is {job.training.warmup_steps:g}, but the run has {steps} steps: it would never "
            "reach its learning rate. Below 1 it is a fraction of all steps, such as 0.06."
        )
    shape = model_shape(job, dataset)
    if rows:  # `check --no-data` needs no tokenizer
        check_prompt(job, dataset)
    return shape


def _check_scheduler_mode(job: Job) -> None:
    training = job.training
    given = training.lr_scheduler_kwargs.get("mode", training.metric_mode)
    if training.lr_scheduler_type in _METRIC_SCHEDULERS and given != training.metric_mode:
        raise ConfigError(
            f"training.lr_scheduler_kwargs says mode: {given}, but {training.lr_scheduler_type} watches best_metric "
            f"{training.best_metric}, whose mode is {training.metric_mode}; leave `mode` out."
        )


def _check_optimizer_and_scheduler(arguments: TrainingArguments) -> None:
    """Create the optimizer and the scheduler for a dummy parameter, as the Trainer does for the model's parameters."""
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    optimizer = kind([torch.nn.Parameter(torch.zeros(1))], **options)
    get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=arguments.get_warmup_steps(100),
        num_training_steps=100,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,  # type: ignore[arg-type]  # the Trainer has parsed it
    )


def class_weights(job: Job, dataset: Dataset, rows: Sequence[Row]) -> torch.Tensor:
    """Return the weight of every class (C,) float32; "balanced" is N / (C n_c), as in scikit-learn."""
    names = [str(label) for label in dataset.labels]
    chosen = job.training.class_weights
    if isinstance(chosen, dict):
        for name in chosen:
            if name not in names:
                raise ConfigError(f"training.class_weights names '{name}', which is not a label.{nearest(name, names)}")
        return torch.tensor([float(chosen.get(name, 1.0)) for name in names])
    if chosen == "balanced":
        gold = torch.tensor([row.label for row in rows], dtype=torch.int64)  # int64 also without rows
        return len(rows) / (len(names) * torch.bincount(gold, minlength=len(names)).float())
    return torch.ones(len(names))
