"""The Trainer: one loader item is one optimizer step, its loss the weighted mean over the step's examples.

Underneath is the Hugging Face Trainer with its optimizers, schedulers, callbacks, trackers and resume. It is replaced
in four places: the batches (a token budget), the loss, the evaluation (our scoring), and what a checkpoint holds
(the trained parameters only, in a folder that is whole or absent).
"""

import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_scheduler,
    set_seed,
)
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_callback import PrinterCallback

from common import files, metrics, scoring
from common.batching import Batch, Encoded, StepSampler, collate, token_batches
from common.config import Dataset, Job
from common.data import Row
from common.errors import ConfigError, Interrupted, ModelError, choices, nearest
from common.heads import ClassificationHead
from common.models import (
    PARAMETERS,
    base_identity,
    count_parameters,
    load_trained_state,
    need_same_base,
    trained_state,
)
from common.progress import Progress
from common.stats import duration

_STATE, _CLOCK = "trainer_state.json", "clock.json"


class StopSignal:
    """Remembers SIGTERM and SIGINT, so that training stops at the next step boundary, after a checkpoint."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name


def training_arguments(job: Job, folder: Path, seed: int) -> TrainingArguments:
    """Translate a job into the Trainer's arguments.

    Raises:
        ConfigError: an optimizer, scheduler or tracker that the Trainer does not know.
    """
    recipe, runtime = job.training, job.runtime
    every = None if recipe.eval_every == "epoch" else recipe.eval_every
    try:
        return TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            optim=recipe.optim,
            lr_scheduler_type=recipe.lr_scheduler_type,
            lr_scheduler_kwargs=dict(recipe.lr_scheduler_kwargs),
            warmup_steps=recipe.warmup_steps,
            max_grad_norm=recipe.max_grad_norm,
            eval_strategy="steps" if every else "epoch",
            save_strategy="steps" if every else "epoch",
            eval_steps=every,
            save_steps=every or 500,
            logging_steps=runtime.log_every,
            logging_first_step=True,
            metric_for_best_model=recipe.best_metric.replace("validation_", "eval_"),
            greater_is_better=recipe.best_metric != "validation_loss",
            activation_checkpointing=runtime.activation_checkpointing,
            report_to=runtime.report_to or "none",
            seed=seed,
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
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


def check_recipe(job: Job, dataset: Dataset, rows: Sequence[Row]) -> None:
    """Refuse what only the libraries know to be wrong, before anything is written.

    Raises:
        ConfigError: a method that trains nothing, an optimizer, scheduler or tracker unknown to the Trainer, a class
            weight for no label.
        ModelError: no such model, a method that does not fit it, or more tokens than it has positions.
    """
    if job.method.name == "none":
        raise ConfigError("method none trains nothing; evaluate the base with: make baseline BASELINE=untuned")
    arguments = training_arguments(job, Path("unused"), seed=0)
    try:
        _optimizer_and_schedule(arguments)
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        recipe = f"optim {job.training.optim}, lr_scheduler_type {job.training.lr_scheduler_type}"
        raise ConfigError(f"training: {recipe} with lr_scheduler_kwargs cannot be used: {reason}") from error
    installed = get_available_reporting_integrations()
    for tracker in job.runtime.report_to:
        if tracker not in installed:
            raise ConfigError(
                f"runtime.report_to names '{tracker}', which is not installed or not known."
                f"{nearest(tracker, installed)} "
                f"Installed: {choices(installed) or 'none'}."
            )
    class_weights(job, dataset, rows)
    count_parameters(job, list(dataset.labels))  # locates the model and attaches the method, without weights


def _optimizer_and_schedule(arguments: TrainingArguments) -> None:
    """Make the optimizer and the scheduler for a parameter of no importance, as the Trainer will for the model's."""
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    optimizer = kind([torch.nn.Parameter(torch.zeros(1))], **options)
    get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=arguments.get_warmup_steps(100),
        num_training_steps=100,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,  # type: ignore[arg-type]  # parsed by then
    )


def class_weights(job: Job, dataset: Dataset, rows: Sequence[Row]) -> torch.Tensor:
    """Return the weight of every class (C,) float32; "balanced" is N / (C n_c), as in scikit-learn."""
    names = [str(label) for label in dataset.labels]
    chosen = job.training.class_weights
    if isinstance(chosen, dict):
        for name in chosen:
            if name not in names:
                raise ConfigError(f"training.class_weights names '{name}', which is no label.{nearest(name, names)}")
        return torch.tensor([float(chosen.get(name, 1.0)) for name in names])
    if chosen == "balanced":
        gold = torch.tensor([row.label for row in rows], dtype=torch.int64)  # also where there are no rows
        return len(rows) / (len(names) * torch.bincount(gold, minlength=len(names)).float())
    return torch.ones(len(names))


class StepTrainer(Trainer):
    """The Trainer over optimizer steps.

    The loss of a step with examples i of weight w_i is  Σ w_i ℓ_i / Σ w_i, whatever pieces the token budget cuts the
    step into; gradients are the same as in one piece. (The Trainer's own accumulation scales both by the number of
    pieces for sequence classification, transformers#47688.)
    """

    def __init__(
        self,
        head: ClassificationHead,
        job: Job,
        dataset: Dataset,
        train: Sequence[Row],
        validation: Sequence[Row],
        folder: Path,
        seed: int,
        callbacks: list[TrainerCallback],
    ) -> None:
        self.head, self.job, self.dataset, self.validation = head, job, dataset, validation
        self.folder = folder
        self.base = base_identity(job, head.model)
        self.encoded = head.encoder.encode(train)
        self.class_weights = class_weights(job, dataset, train)
        self.seconds_before = 0.0
        self._started = time.monotonic()
        super().__init__(
            model=head.model,
            args=training_arguments(job, folder.parent, seed),  # trackers write below the run folder
            train_dataset=self.encoded,
            eval_dataset=self.encoded[:1],  # only its presence counts: `evaluate` scores `validation`
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)

    # --- batches and loss ---

    def get_train_dataloader(self) -> DataLoader:
        """Return a loader whose every item is the list of batches of one optimizer step."""
        sampler = StepSampler(
            [len(row.input_ids) for row in self.encoded], self.job.training.batch_size, self.args.seed
        )
        loader: DataLoader = DataLoader(self.encoded, batch_sampler=sampler, collate_fn=self._pieces)  # type: ignore[arg-type]
        # Only a prepared loader is moved to the right place by the Trainer when a run is resumed.
        return self.accelerator.prepare(loader)

    def _pieces(self, rows: list[Encoded]) -> list[Batch]:
        budget = self.job.training.token_budget
        groups = token_batches([len(row.input_ids) for row in rows], budget)
        return [collate([rows[index] for index in group], self.head.pad_token_id) for group in groups]

    def training_step(self, model: Any, inputs: list[Batch], num_items_in_batch: Any = None) -> torch.Tensor:  # type: ignore[override]
        """Add up one optimizer step's gradients and return its loss."""
        model.train()
        by_class = self.class_weights.to(self.args.device)
        weights = [by_class[batch["labels"]] * batch["weights"] for batch in inputs]
        total = torch.stack([piece.sum() for piece in weights]).sum()
        loss = torch.zeros((), device=self.args.device)
        for batch, weight in zip(inputs, weights, strict=True):
            losses = self.head.losses(batch, self.job.training.label_smoothing)  # (B,)
            piece = (losses * weight).sum() / total
            if not torch.isfinite(piece):
                raise ModelError(
                    f"the loss is {piece.item()} at step {self.state.global_step + 1}: training has diverged. "
                    "Lower training.learning_rate, or raise training.warmup_steps."
                )
            self.accelerator.backward(piece)
            loss += piece.detach()
        return loss

    # --- evaluation ---

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the validation rows by our own scoring, log the averages, and return them."""
        scores = scoring.score(self.head, self.validation, self.job.runtime.score_token_budget, "validate")
        records = scoring.predictions(self.validation, scores, self.dataset.labels)
        result = metrics.compute(records, self.dataset.labels, self.dataset.mean_f1_labels)
        averages = {f"{metric_key_prefix}_{key}": value for key, value in result.items() if isinstance(value, float)}
        self.log(averages)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, averages)
        return averages

    # --- checkpoints ---

    def seconds(self) -> float:
        """Return the training time so far, over all starts of the run."""
        return self.seconds_before + time.monotonic() - self._started

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        path = self.folder / f"checkpoint-{self.state.global_step}"
        with files.atomic_folder(path) as partial:
            save_file(trained_state(self.head.model), partial / PARAMETERS)
            self._save_optimizer_and_scheduler(str(partial))
            self._save_scaler(str(partial))
            self._save_rng_state(str(partial))
            files.write_json(partial / _CLOCK, {"seconds": self.seconds(), **self.base})
            self.state.save_to_json(str(partial / _STATE))
        keep = {self.state.global_step, self.state.best_global_step}
        for step, old in checkpoints(self.folder):
            if step not in keep:
                shutil.rmtree(old)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trained_state(self.head.model, Path(resume_from_checkpoint) / PARAMETERS)

    def load_best(self) -> int:
        """Load the checkpoint with the best validation metric and return its step."""
        step = int(self.state.best_global_step or self.state.global_step)
        load_trained_state(self.head.model, self.folder / f"checkpoint-{step}" / PARAMETERS)
        return step


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return the complete checkpoints of a folder as (step, path), oldest first."""
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def is_exhausted(history: Sequence[dict[str, Any]], metric: str, greater_is_better: bool, patience: int | None) -> bool:
    """Return whether `patience` evaluations have passed since the best one.

    It reads the Trainer's log alone, so that a resumed run decides as the undisturbed one.
    """
    values = [entry[metric] for entry in history if metric in entry]
    if patience is None or not values:
        return False
    best = max(values) if greater_is_better else min(values)
    return len(values) - 1 - values.index(best) >= patience


class RunCallback(TrainerCallback):
    """Logs every step's figures, shows progress, stops early, and turns a signal into a checkpoint and an exit."""

    def __init__(self, log: Path, stop: StopSignal, job: Job, folder: Path) -> None:
        self.log, self.stop, self.job, self.folder = log, stop, job, folder
        self.progress: Progress | None = None
        self.last_save = time.monotonic()
        self.loss = ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Cut the log back to the step training resumes from, and start the progress display."""
        if self.log.exists():
            files.write_jsonl(self.log, [r for r in files.read_jsonl(self.log) if r["step"] <= state.global_step])
        self.progress = Progress("train", state.max_steps, "step", done=state.global_step)

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Append to `train_log.jsonl`."""
        entry = {key.replace("eval_", "validation_"): value for key, value in (logs or {}).items()}
        if "train_runtime" in entry:
            return  # the Trainer's closing summary covers this start alone
        self.loss = f"loss {entry['loss']:.3f}" if "loss" in entry else self.loss
        files.append_jsonl(self.log, {"step": state.global_step, **entry})

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a checkpoint when a signal came or the last one is old."""
        if self.progress is not None:
            self.progress.update(1, self.loss)
        minutes = self.job.runtime.checkpoint_minutes
        is_old = minutes is not None and time.monotonic() - self.last_save > 60 * minutes
        # At the last step of an epoch or of training the evaluation and its own checkpoint follow; one from before the
        # evaluation would make a resumed run skip it.
        is_last = state.global_step >= state.max_steps or (state.epoch is not None and float(state.epoch).is_integer())
        evaluates_next = args.eval_strategy == "epoch" and is_last
        if (self.stop.name or is_old) and not evaluates_next:
            control.should_save = True

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Say how the evaluation went, and stop when patience is exhausted."""
        metric = args.metric_for_best_model
        name, value = self.job.training.best_metric, metrics[metric]
        epoch = f"epoch {state.epoch:.2f}/{args.num_train_epochs:g}" if state.epoch else "start"
        left = ""
        if self.progress is not None and self.progress.rate:
            left = f", {duration((state.max_steps - state.global_step) / self.progress.rate)} of training left"
        print(f"  {epoch}: {name} {value:.4f}, accuracy {metrics['eval_accuracy']:.4f}{left}", flush=True)
        if is_exhausted(state.log_history, metric, args.greater_is_better, self.job.training.early_stopping_patience):
            control.should_training_stop = True

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave training after the checkpoint when a signal came."""
        self.last_save = time.monotonic()
        if self.stop.name:
            raise Interrupted(
                f"{self.stop.name} at step {state.global_step} of {state.max_steps}; the checkpoint is saved, "
                "and the same command continues."
            )

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Close the progress display."""
        if self.progress is not None:
            self.progress.close()


def train(
    head: ClassificationHead,
    job: Job,
    dataset: Dataset,
    train_rows: Sequence[Row],
    validation: Sequence[Row],
    run_folder: Path,
    seed: int,
    log: Path,
) -> dict[str, Any]:
    """Fine-tune `head` in place, from the last complete checkpoint if there is one, and leave it at its best.

    Returns:
        train_s, train_examples_per_s, steps, best_step, truncated_count, history (the Trainer's log).

    Raises:
        Interrupted: SIGTERM or SIGINT; a checkpoint is saved.
    """
    folder = run_folder / "checkpoints"
    set_seed(seed)
    with StopSignal() as stop:
        trainer = StepTrainer(
            head, job, dataset, train_rows, validation, folder, seed, [RunCallback(log, stop, job, folder)]
        )
        last = checkpoints(folder)[-1][1] if checkpoints(folder) else None
        if last is not None:
            clock = files.read_json(last / _CLOCK)
            need_same_base(job, clock["model_sha256"], str(last))
            trainer.seconds_before = clock["seconds"]
            print(f"continuing from {last.name} after {duration(trainer.seconds_before)} of training", flush=True)
        if last is not None and _has_ended(last, trainer):
            # Killed between the last checkpoint and the end: another epoch, or where training ends within an epoch
            # another step, would make it a different run.
            trainer.state = TrainerState.load_from_json(str(last / _STATE))
        else:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        if stop.name:
            raise Interrupted(
                f"{stop.name} after the last step; the checkpoint is saved, and the same command continues."
            )
    seconds = trainer.seconds()
    best_step = trainer.load_best()
    state = trainer.state
    examples = min(state.epoch or 0.0, job.training.epochs) * len(train_rows)
    return {
        "train_s": round(seconds, 3),
        "train_examples_per_s": round(examples / seconds, 2),
        "steps": state.global_step,
        "best_step": best_step,
        **trainer.base,
        "train_truncated_count": sum(row.truncated for row in trainer.encoded),
        "train_count": len(train_rows),
        "history": _history(state.log_history),
    }


def _has_ended(checkpoint: Path, trainer: StepTrainer) -> bool:
    """Return whether training was over at a checkpoint: by its last step or by early stopping."""
    state, args = files.read_json(checkpoint / _STATE), trainer.args
    patience = trainer.job.training.early_stopping_patience
    return state["global_step"] >= state["max_steps"] or is_exhausted(
        state["log_history"], str(args.metric_for_best_model), bool(args.greater_is_better), patience
    )


def _history(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    wanted = (
        "step",
        "epoch",
        "loss",
        "learning_rate",
        "eval_loss",
        "eval_accuracy",
        "eval_f1_macro",
        "eval_f1_mean_labels",
    )
    rows = ({key.replace("eval_", "validation_"): entry[key] for key in wanted if key in entry} for entry in log)
    return [row for row in rows if "loss" in row or "validation_loss" in row]
