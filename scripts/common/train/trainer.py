"""The Hugging Face Trainer over optimizer steps: batches, loss, evaluation and checkpoints.

One item of the data loader is one optimizer step, cut into micro-batches by a token budget. The loss of a step is the
weighted mean over its examples. Evaluation uses the project's own scoring. A checkpoint holds the trained parameters
only and is written atomically. Optimizers, schedulers, callbacks and trackers are the Hugging Face Trainer's.
"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from common.config.dataset import Dataset
from common.config.job import Job
from common.core import files
from common.core.errors import ModelError, out_of_memory
from common.data.rows import Row
from common.evaluation import inference, metrics, write_results
from common.evaluation.memory_limit import free_memory
from common.methods.adalora import allocator_state, load_allocator_state
from common.model.base_identity import base_identity
from common.model.batching import Batch, Encoded, StepSampler, moved, pinned
from common.model.heads import Head
from common.model.inspect import inner_model
from common.model.saved_model import PARAMETERS, load_trained_state, trained_state
from common.train.arguments import class_weights, training_arguments
from common.train.checkpoints import CHECKSUMMED, RESUME, STATE, remove_old_checkpoints, write_checksums
from common.train.signals import Stoppable, Stopped, StopSignal, leave_signals_to_parent

_RANKS = "ranks.safetensors"
_LOSS_WINDOW = "loss_window"  # key in RESUME: the losses since the last line of the log
DUE = "evaluation_is_due"  # key in RESUME: a signal stopped the evaluation of this checkpoint's step


class StepTrainer(Trainer):
    """The Trainer over optimizer steps.

    The loss of a step with examples i of weight w_i is  Σ w_i ℓ_i / Σ w_i n_i, with ℓ_i the sum of an example's n_i
    terms (a label is one term, an answer has one per token). Loss and gradients do not depend on the micro-batches into
    which the token budget cuts a step. (The Trainer's own gradient accumulation scales both by the number of
    micro-batches for sequence classification, transformers#47688.)
    """

    def __init__(
        self,
        head: Head,
        job: Job,
        dataset: Dataset,
        train: Sequence[Row],
        validation: Sequence[Row],
        folder: Path,
        seed: int,
        callbacks: list[TrainerCallback],
        stop: StopSignal | None = None,
    ) -> None:
        self.stop = stop or StopSignal()
        self.head, self.job, self.dataset, self.validation = head, job, dataset, validation
        self.folder = folder
        self.base = base_identity(job, head.model)
        self.encoded = head.encoder.encode(train)
        self.class_weights = class_weights(job, dataset, train).to(head.device)
        self.budget = job.training.token_budget  # halved when the memory does not suffice
        self.before = {"seconds": 0.0, "cpu_seconds": 0.0}  # of earlier attempts of this run
        self._started = {"seconds": time.monotonic(), "cpu_seconds": time.process_time()}
        inner = inner_model(head.model)
        quantized = getattr(inner, "is_quantized", False)
        # The Trainer refuses a quantised base without peft's adapters; the methods written here train on one as well.
        inner.is_quantized = False  # type: ignore[assignment]
        super().__init__(
            model=head.model,
            args=training_arguments(job, folder.parent, seed),  # trackers write to the run folder
            train_dataset=self.encoded,
            eval_dataset=self.encoded[:1],  # the Trainer only checks that it exists; `evaluate` scores `validation`
            callbacks=callbacks,
        )
        inner.is_quantized = quantized  # type: ignore[assignment]
        self.remove_callback(PrinterCallback)

    # --- batches and loss ---

    def get_train_dataloader(self) -> DataLoader:
        """Return a loader whose items are optimizer steps: the rows, and their micro-batches."""
        sampler = StepSampler(
            [self.head.training_tokens(row) for row in self.encoded], self.job.training.batch_size, self.args.seed
        )
        workers = self.job.runtime.dataloader_workers
        loader: DataLoader = DataLoader(
            self.encoded,  # type: ignore[arg-type]
            batch_sampler=sampler,
            collate_fn=lambda rows: (rows, self.micro_batches(rows)),
            pin_memory=head_is_on_gpu(self.head),
            num_workers=workers,
            worker_init_fn=leave_signals_to_parent if workers else None,
            multiprocessing_context="fork" if workers else None,  # rows are shared, not copied; workers do not use CUDA
        )
        # When a run is resumed, the Trainer skips the finished steps of a prepared loader only.
        return self.accelerator.prepare(loader)

    def micro_batches(self, rows: list[Encoded]) -> list[Batch]:
        """Return the rows of one optimizer step as batches that each fit the token budget."""
        groups = self.head.training_groups(rows, self.budget)
        return [self.head.training_batch([rows[index] for index in group]) for group in groups]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Accumulate the gradients of one optimizer step and return its loss.

        Where the memory does not suffice, the step begins again with half the token budget, and so do all later ones.

        Raises:
            ModelError: the loss is not finite, or a single row needs more memory than there is.
        """
        rows, batches = inputs
        model.train()
        while True:
            if self.budget < self.job.training.token_budget:
                batches = [self._on_device(batch) for batch in self.micro_batches(rows)]
            with contextlib.suppress(torch.OutOfMemoryError):  # its traceback holds the activations
                return self._accumulated(batches)
            self._halve_budget(batches)

    def _accumulated(self, batches: Sequence[Batch]) -> torch.Tensor:
        weights = [self.class_weights[batch["labels"]] * batch["weights"] for batch in batches]
        terms = [(weight * self.head.terms(batch)).sum() for batch, weight in zip(batches, weights, strict=True)]
        total = torch.stack(terms).sum()
        loss = torch.zeros((), device=self.args.device)
        for batch, weight in zip(batches, weights, strict=True):
            losses = self.head.losses(batch, self.job.training.label_smoothing)  # (B,)
            part = (losses * weight).sum() / total
            self.accelerator.backward(part)
            loss += part.detach()
        if not torch.isfinite(loss):  # once a step: the CPU waits here for the GPU
            raise divergence_error(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        if self.accelerator.scaler is not None and self.accelerator.scaler.get_scale() < 1:
            raise divergence_error(f"the gradients in float16 are not finite before step {self.state.global_step + 1}")
        return loss

    def _halve_budget(self, batches: Sequence[Batch]) -> None:
        """Forget a step that did not fit, and halve the token budget.

        Raises:
            ModelError: every micro-batch had one row already.
        """
        self.head.model.zero_grad(set_to_none=True)  # part of the step's gradient is there
        free_memory()
        if all(len(batch["labels"]) == 1 for batch in batches):
            longest = max(batch["input_ids"].shape[1] for batch in batches)
            raise out_of_memory(f"a training step of one row with {longest} tokens")
        fitting = max(self.head.training_tokens(row) for row in self.encoded)
        most = self.head.most_tokens(self.budget)
        self.budget = max(most // 2, fitting if most > fitting else 1)
        print(
            f"out of memory with training.token_budget {most}: going on with {self.budget}; the optimizer's steps stay "
            "the same",
            flush=True,
        )

    def _on_device(self, batch: Batch) -> Batch:
        return moved(pinned(batch, self.args.device), self.args.device)

    def try_largest_step(self) -> None:
        """Run the longest rows that a step can have forward and backward once, so that memory runs out here, not later.

        Weights, gradients and random numbers are as before.
        """
        rows = sorted(self.encoded, key=self.head.training_tokens)[-self.job.training.batch_size :]
        with torch.random.fork_rng(devices=[self.args.device] if self.args.device.type == "cuda" else []):
            self.training_step(self.head.model, (rows, [self._on_device(batch) for batch in self.micro_batches(rows)]))
        self.head.model.zero_grad(set_to_none=True)

    # --- evaluation ---

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the validation rows, log the averages, and return them.

        An evaluation can take longer than the time between Slurm's signal and its kill. Therefore a signal stops it
        between two batches. A checkpoint of the training step is saved, and a resumed run evaluates first.
        """
        try:
            with Stoppable(self.stop, "validate", len(self.validation), "row") as progress:
                progress.update(0)  # stops at once if the signal came during the step
                budget = self.job.runtime.score_token_budget
                scores = inference.score(self.head, self.validation, budget, progress)
        except Stopped:
            self._save_checkpoint(self.head.model, None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)  # raises
            raise
        if not np.isfinite(scores).all():
            raise divergence_error(f"the validation scores are not finite after step {self.state.global_step}")
        records = write_results.predictions(self.validation, scores, self.dataset.labels)
        result = metrics.compute(records, self.dataset.labels, self.dataset.mean_f1_labels)
        averages = {f"{metric_key_prefix}_{key}": value for key, value in result.items() if isinstance(value, float)}
        self.log(averages)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, averages)
        return averages

    # --- checkpoints ---

    def clock(self) -> dict[str, float]:
        """Return the training time so far over all attempts: wall-clock seconds, and cpu_seconds of this process."""
        now = {"seconds": time.monotonic(), "cpu_seconds": time.process_time()}
        return {key: self.before[key] + now[key] - self._started[key] for key in now}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        path = self.folder / f"checkpoint-{self.state.global_step}"
        with files.atomic_folder(path) as partial:
            save_file(trained_state(self.head.model), partial / PARAMETERS)
            if ranks := allocator_state(self.head.model):
                save_file(ranks, partial / _RANKS)
            self._save_optimizer_and_scheduler(str(partial))
            self._save_scaler(str(partial))
            self._save_rng_state(str(partial))
            is_due = self.control.should_evaluate  # the Trainer clears it after the evaluation
            window = {"sum": self._tr_loss.item(), "since_step": self._globalstep_last_logged}
            files.write_json(
                partial / RESUME, {**self.clock(), **self.base, DUE: is_due, _LOSS_WINDOW: window, CHECKSUMMED: True}
            )
            self.state.save_to_json(str(partial / STATE))
            write_checksums(partial)
        remove_old_checkpoints(self.folder, self.state, is_evaluated=not is_due)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trained_state(self.head.model, Path(resume_from_checkpoint) / PARAMETERS)
        if (ranks := Path(resume_from_checkpoint) / _RANKS).exists():
            load_allocator_state(self.head.model, load_file(ranks))

    def restore_loss_window(self, saved: dict[str, Any]) -> None:
        """Restore the sum of losses since the last log line, which the Trainer sets to zero when a run is resumed.

        Args:
            saved: the content of the checkpoint's RESUME file; those of older versions lack the sum.
        """
        if (window := saved.get(_LOSS_WINDOW)) is None:
            return
        self._tr_loss.fill_(window["sum"])
        self._globalstep_last_logged = window["since_step"]

    def evaluate_now(self) -> None:
        """Evaluate and save a checkpoint, as the Trainer does after a step with an evaluation."""
        self.control.should_evaluate = self.control.should_save = True
        epoch = self.state.epoch or 0.0
        self._maybe_log_save_evaluate(self._tr_loss, None, self.head.model, None, epoch, None, time.time())

    def load_best(self) -> int:
        """Load the checkpoint with the best validation metric and return its step."""
        step = int(self.state.best_global_step or self.state.global_step)
        load_trained_state(self.head.model, self.folder / f"checkpoint-{step}" / PARAMETERS)
        # Pruned ranks are zeros already. With the last step's pattern, saving would drop other ranks.
        load_allocator_state(self.head.model, {})
        return step


def head_is_on_gpu(head: Head) -> bool:
    """Return whether a head's model is on a GPU."""
    return head.device.type == "cuda"


def divergence_error(observed: str) -> ModelError:
    """Return the error for a model that is no longer finite; `observed` is text such as "the loss is nan at step 3"."""
    return ModelError(
        f"{observed}: training has diverged. Lower training.learning_rate, or raise training.warmup_steps."
    )
