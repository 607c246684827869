"""What happens around the steps of a training run: log, progress, early stopping, signals, extra checkpoints."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from common.config.job import Job
from common.core import files
from common.core.errors import Interrupted, TimeLimit
from common.core.formatting import duration
from common.core.progress import Progress
from common.methods.adalora import allocator
from common.runs import requeue

_TIME_LIMIT = signal.SIGUSR2.name


class StopSignal:
    """Remembers SIGTERM, SIGINT and SIGUSR2, so that training stops at the next step boundary, after a checkpoint.

    SIGUSR2 says that the time limit of a Slurm job is near; one of the others, whenever it comes, outweighs it: a job
    that was cancelled is not to go back into the queue. Processes forked from this one inherit the handler, which
    does nothing there.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._pid = os.getpid()
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid and self.name in (None, _TIME_LIMIT):
            self.name = signal.Signals(number).name

    def error(self, when: str) -> BaseException:
        """Return what to leave training with after the checkpoint; `when` is "at step 3 of 9"."""
        if self.name == _TIME_LIMIT:
            return TimeLimit(f"{self.name}, the time limit is near, {when}; the checkpoint is saved")
        return Interrupted(f"{self.name} {when}; the checkpoint is saved, and the same command continues.")


class Stopped(Exception):
    """A signal ended the work that a `Stoppable` counts."""


class Stoppable(Progress):
    """Progress of work that a signal ends between two of its parts."""

    def __init__(self, stop: StopSignal, what: str, total: int, unit: str) -> None:
        super().__init__(what, total, unit)
        self.stop = stop

    def update(self, count: int, note: str = "", loss: float | None = None) -> None:
        """Add `count` units.

        Raises:
            Stopped: a signal came, and there is work left.
        """
        super().update(count, note, loss)
        if self.stop.name and self.done < self.total:
            raise Stopped


def leave_signals_to_parent(worker: int = 0) -> None:
    """Make a DataLoader's worker live through the signals that Slurm or a terminal sends to all our processes.

    A worker that SIGTERM ends makes the main process fail before its checkpoint. Only the parent's own SIGTERM, with
    which it ends a worker that does not end by itself, is obeyed.
    """
    for number in (signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM}
    )  # for the thread that waits for it, which sees the sender
    parent = os.getppid()

    def obey() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=obey, daemon=True).start()


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

    def __init__(self, log: Path, stop: StopSignal, job: Job) -> None:
        self.log, self.stop, self.job = log, stop, job
        self.progress: Progress | None = None
        self.last_save = time.monotonic()
        self.loss: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Cut the log back to what training resumes from, and start the progress display."""
        if self.log.exists():
            # The checkpoint may be from before the evaluation at its step, which then comes again.
            evaluated = {entry["step"] for entry in state.log_history if "eval_loss" in entry}
            records = (r for r in files.read_jsonl(self.log) if r["step"] <= state.global_step)
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
        """Append to `train_log.jsonl`."""
        entry = {key.replace("eval_", "validation_"): value for key, value in (logs or {}).items()}
        if "train_runtime" in entry:
            return  # the Trainer's closing summary covers this start alone
        self.loss = entry.get("loss", self.loss)
        files.append_jsonl(self.log, {"step": state.global_step, **entry})

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a checkpoint when a signal came or the last one is old."""
        if self.progress is not None:
            self.progress.update(1, "" if self.loss is None else f"loss {self.loss:.3f}", self.loss)
        minutes = self.job.runtime.checkpoint_minutes
        is_old = minutes is not None and time.monotonic() - self.last_save > 60 * minutes
        # At the last step of an epoch or of training the evaluation and its own checkpoint follow; one from before the
        # evaluation would make a resumed run skip it. A signal is left to the evaluation, which marks its checkpoint.
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
        # A start that gets through the evaluation alone has done something, too.
        requeue.lasting("train, without the evaluation" if control.should_evaluate else "train", state.global_step)
        if self.stop.name:
            if self.progress is not None:
                self.progress.close()
            raise self.stop.error(f"at step {state.global_step} of {state.max_steps}")

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Close the progress display."""
        if self.progress is not None:
            self.progress.close()


class RankCallback(TrainerCallback):
    """Lets AdaLoRA move its ranks after every optimizer step; other methods have nothing to move."""

    def on_optimizer_step(self, args: Any, state: TrainerState, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Weigh the ranks by their gradients, which are still there."""
        if (found := allocator(model)) is not None:
            found.update_and_allocate(state.global_step + 1)  # this step is counted only afterwards
