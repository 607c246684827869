"""Callbacks of the Trainer: log, progress, early stopping, stop signals, extra checkpoints, AdaLoRA's ranks."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from common.config.job import Job
from common.core import files
from common.core.documents import is_of
from common.core.formatting import duration
from common.core.progress import Progress
from common.methods.adalora import allocator
from common.runs import requeue
from common.train.signals import StopSignal


def is_exhausted(history: Sequence[dict[str, Any]], metric: str, greater_is_better: bool, patience: int | None) -> bool:
    """Return whether `patience` evaluations have passed since the best one.

    The decision depends on the Trainer's log only, so a resumed run stops where an undisturbed run stops.
    """
    values = [entry[metric] for entry in history if metric in entry]
    if patience is None or not values:
        return False
    best = max(values) if greater_is_better else min(values)
    return len(values) - 1 - values.index(best) >= patience


class RunCallback(TrainerCallback):
    """Write the training log, show progress, stop early, and save a checkpoint and exit after a signal."""

    def __init__(self, log: Path, stop: StopSignal, job: Job) -> None:
        self.log, self.stop, self.job = log, stop, job
        self.progress: Progress | None = None
        self.last_save = time.monotonic()
        self.loss: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the log's lines from after the checkpoint, and start the progress display."""
        if self.log.exists():
            # The checkpoint may be older than the evaluation at its step; then that evaluation runs again.
            evaluated = {entry["step"] for entry in state.log_history if "eval_loss" in entry}
            records = (r for r in files.read_jsonl(self.log) if is_of(r.get("step"), int))
            records = (r for r in records if r["step"] <= state.global_step)
            files.write_jsonl(self.log, [r for r in records if "validation_loss" not in r or r["step"] in evaluated])
        self.progress = Progress(
            "train",
            state.max_steps,
            "step",
            done=state.global_step,
            folder=self.log.parent,
            examples=self.job.training.batch_size,
        )

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Append a line to `train_log.jsonl`."""
        entry = {key.replace("eval_", "validation_"): value for key, value in (logs or {}).items()}
        if "train_runtime" in entry:
            return  # the Trainer's closing summary is about this process only
        self.loss = entry.get("loss", self.loss)
        files.append_jsonl(self.log, {"step": state.global_step, **entry})

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Request a checkpoint after a signal, or when the last one is older than `checkpoint_minutes`."""
        if self.progress is not None:
            self.progress.update(1, "" if self.loss is None else f"loss {self.loss:.3f}", self.loss)
        minutes = self.job.runtime.checkpoint_minutes
        is_old = minutes is not None and time.monotonic() - self.last_save > 60 * minutes
        # After the last step of an epoch or of training, the evaluation and its checkpoint follow. A checkpoint from
        # before that evaluation would make a resumed run skip it. The evaluation itself handles a signal.
        is_last = state.global_step >= state.max_steps or (state.epoch is not None and float(state.epoch).is_integer())
        evaluates_next = args.eval_strategy == "epoch" and is_last
        if (self.stop.name or is_old) and not evaluates_next:
            control.should_save = True

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Print the evaluation's result, and stop training when patience is exhausted."""
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
        """Raise `Interrupted` or `TimeLimit` after the checkpoint when a signal came."""
        self.last_save = time.monotonic()
        # An attempt that only completes the evaluation has made progress, too.
        requeue.note_saved("train, without the evaluation" if control.should_evaluate else "train", state.global_step)
        if self.stop.name:
            if self.progress is not None:
                self.progress.close()
            raise self.stop.error(f"at step {state.global_step} of {state.max_steps}")

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Close the progress display."""
        if self.progress is not None:
            self.progress.close()


class RankCallback(TrainerCallback):
    """Update AdaLoRA's ranks after every optimizer step; do nothing for other methods."""

    def on_optimizer_step(self, args: Any, state: TrainerState, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Update the ranks from the gradients, which are not yet set to zero."""
        if (found := allocator(model)) is not None:
            found.update_and_allocate(state.global_step + 1)  # the Trainer counts this step after this call
