"""Fine-tune a head from the first step or from the last checkpoint, on a CPU with the same result in both cases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState, set_seed
from transformers.trainer_callback import TrainerControl

from common.config.dataset import Dataset
from common.config.job import Job
from common.core import files
from common.core.errors import RunError, out_of_memory
from common.core.formatting import duration
from common.data.rows import Row
from common.model.base_identity import check_same_base
from common.model.heads import Head
from common.train.callbacks import RankCallback, RunCallback, is_exhausted
from common.train.checkpoints import CHECKSUMS, RESUME, STATE, list_checkpoints, newest_whole
from common.train.signals import StopSignal
from common.train.trainer import DUE, StepTrainer, head_is_on_gpu


class _Ended(Exception):
    """Training was complete at the checkpoint, except for its evaluation."""


class _Resume(TrainerCallback):
    """Restore the losses of an unfinished logging window, and run an evaluation that a signal stopped.

    Args:
        trainer: of the resumed run.
        checkpoint: the folder from which it resumes.
        saved: the content of its RESUME file.
    """

    def __init__(self, trainer: StepTrainer, checkpoint: Path, saved: dict[str, Any]) -> None:
        self.trainer, self.checkpoint, self.saved = trainer, checkpoint, saved

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Restore and evaluate before the first step."""
        self.trainer.restore_loss_window(self.saved)
        if not self.saved.get(DUE):
            return
        self.trainer._load_rng_state(str(self.checkpoint))
        self.trainer.evaluate_now()
        if _has_ended(state, self.trainer):
            raise _Ended


class _TryLargestStep(TrainerCallback):
    """Find out before the first step whether the memory suffices, with the Trainer's own settings in force."""

    def __init__(self, trainer: StepTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Try the largest step."""
        self.trainer.try_largest_step()


def train(
    head: Head,
    job: Job,
    dataset: Dataset,
    train_rows: Sequence[Row],
    validation: Sequence[Row],
    run_folder: Path,
    seed: int,
    log: Path,
) -> dict[str, Any]:
    """Fine-tune `head` in place, from the last complete checkpoint if there is one, and load its best checkpoint.

    Returns:
        train_s, train_cpu_s, train_examples_per_s, steps, best_step, truncated_count, history (the Trainer's log).

    Raises:
        Interrupted: SIGTERM or SIGINT; a checkpoint is saved.
        TimeLimit: SIGUSR2; a checkpoint is saved.
        ModelError: a step does not fit into the memory, or training has diverged.
        RunError: the last checkpoint is of an older version.
    """
    folder = run_folder / "checkpoints"
    set_seed(seed)
    with StopSignal() as stop:
        ours: list[TrainerCallback] = [RunCallback(log, stop, job), RankCallback()]
        trainer = StepTrainer(head, job, dataset, train_rows, validation, folder, seed, ours, stop)
        last = _last_checkpoint(folder)
        is_over = False
        if last is not None:
            saved = files.read_json(last / RESUME)
            check_same_base(job, saved, trainer.base, str(last))
            trainer.before = {key: saved[key] for key in trainer.before}
            print(f"continuing from {last.name} after {duration(saved['seconds'])} of training", flush=True)
            trainer.state = TrainerState.load_from_json(str(last / STATE))
            trainer.add_callback(_Resume(trainer, last, saved))
            if not saved.get(DUE):
                is_over = _has_ended(trainer.state, trainer)
        # The run was killed between its last checkpoint and the end of training. Calling the Trainer would add steps.
        if not is_over:
            if head_is_on_gpu(head):
                trainer.add_callback(_TryLargestStep(trainer))
            try:
                trainer.train(resume_from_checkpoint=str(last) if last else None)
            except torch.OutOfMemoryError as error:
                raise out_of_memory("an optimizer step") from error
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise RunError(
                    f"a process that prepares batches has ended ({' '.join(str(error).split())[:200]}), as when memory "
                    "runs out. The same command continues from the last checkpoint; with runtime.dataloader_workers=0 "
                    "there are no such processes."
                ) from error
            except _Ended:
                trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
        if stop.name:
            raise stop.error("after the last step")
    clock = trainer.clock()
    best_step = trainer.load_best()
    state = trainer.state
    examples = min(state.epoch or 0.0, job.training.epochs) * len(train_rows)
    return {
        "train_s": round(clock["seconds"], 3),
        "train_cpu_s": round(clock["cpu_seconds"], 3),
        "train_examples_per_s": round(examples / clock["seconds"], 2),
        "steps": state.global_step,
        "best_step": best_step,
        **trainer.base,
        "train_token_budget": trainer.budget,
        "train_truncated_count": sum(row.truncated for row in trainer.encoded),
        "train_count": len(train_rows),
        "history": _history(state.log_history),
    }


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, None without one, and say which ones are damaged.

    Raises:
        RunError: a checkpoint is of an older version.
    """
    for _, path in list_checkpoints(folder):
        if not any((path / name).exists() for name in (RESUME, CHECKSUMS)):
            raise RunError(
                f"{path}: this checkpoint is of an older version of peftable and cannot be resumed. "
                f"Remove {folder}; the same command then trains from the first step."
            )
    last, problems = newest_whole(folder)
    for problem in problems:
        print(f"{folder}: {problem}", flush=True)
    if problems and last is None:
        print("no checkpoint is whole: training begins with the first step again", flush=True)
        files.remove(folder)
    return last


def _has_ended(state: TrainerState, trainer: StepTrainer) -> bool:
    """Return whether training was complete at a checkpoint: by its last step or by early stopping."""
    args, patience = trainer.args, trainer.job.training.early_stopping_patience
    return state.global_step >= state.max_steps or is_exhausted(
        state.log_history, str(args.metric_for_best_model), bool(args.greater_is_better), patience
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
