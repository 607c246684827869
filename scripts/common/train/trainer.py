"""The Trainer: one loader item is one optimizer step, its loss the weighted mean over the step's examples.

Underneath is the Hugging Face Trainer with its optimizers, schedulers, callbacks, trackers and resume. It is replaced
in four places: the batches (a token budget), the loss, the evaluation (our scoring), and what a checkpoint holds
(the trained parameters only, in a folder that is whole or absent).
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from common.config.dataset import Dataset
from common.config.job import Job
from common.core import files
from common.core.errors import ModelError
from common.data.rows import Row
from common.evaluation import inference, metrics
from common.methods.adalora import allocator_state, load_allocator_state
from common.model.batching import Batch, Encoded, StepSampler, token_batches
from common.model.heads import Head
from common.model.inspect import inner_model
from common.model.saved_model import PARAMETERS, base_identity, load_trained_state, trained_state
from common.train.arguments import class_weights, training_arguments
from common.train.signals import Stoppable, Stopped, StopSignal, leave_signals_to_parent

STATE, CLOCK, _RANKS = "trainer_state.json", "clock.json", "ranks.safetensors"
DUE = "evaluation_is_due"  # in the clock's file: a signal stopped the evaluation that belongs to this checkpoint


class StepTrainer(Trainer):
    """The Trainer over optimizer steps.

    The loss of a step with examples i of weight w_i is  Σ w_i ℓ_i / Σ w_i n_i, with ℓ_i the sum of an example's n_i
    terms (a label is one term, an answer as many as it has tokens), whatever pieces the token budget cuts the step
    into; gradients are the same as in one piece. (The Trainer's own accumulation scales both by the number of
    pieces for sequence classification, transformers#47688.)
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
        self.class_weights = class_weights(job, dataset, train)
        self.before = {"seconds": 0.0, "cpu_seconds": 0.0}  # of earlier starts of this run
        self._started = {"seconds": time.monotonic(), "cpu_seconds": time.process_time()}
        inner = inner_model(head.model)
        quantized = getattr(inner, "is_quantized", False)
        # The Trainer takes a quantised base with peft's adapters only; ours train beside it just as well.
        inner.is_quantized = False  # type: ignore[assignment]
        super().__init__(
            model=head.model,
            args=training_arguments(job, folder.parent, seed),  # trackers write below the run folder
            train_dataset=self.encoded,
            eval_dataset=self.encoded[:1],  # only its presence counts: `evaluate` scores `validation`
            callbacks=callbacks,
        )
        inner.is_quantized = quantized  # type: ignore[assignment]
        self.remove_callback(PrinterCallback)

    # --- batches and loss ---

    def get_train_dataloader(self) -> DataLoader:
        """Return a loader whose every item is the list of batches of one optimizer step."""
        sampler = StepSampler(
            [self.head.training_tokens(row) for row in self.encoded], self.job.training.batch_size, self.args.seed
        )
        workers = self.job.runtime.dataloader_workers
        loader: DataLoader = DataLoader(
            self.encoded,  # type: ignore[arg-type]
            batch_sampler=sampler,
            collate_fn=self._pieces,
            num_workers=workers,
            worker_init_fn=leave_signals_to_parent if workers else None,
            multiprocessing_context="fork" if workers else None,  # nothing is copied, and CUDA is not touched there
        )
        # Only a prepared loader is moved to the right place by the Trainer when a run is resumed.
        return self.accelerator.prepare(loader)

    def _pieces(self, rows: list[Encoded]) -> list[Batch]:
        budget = self.job.training.token_budget
        groups = token_batches([self.head.training_tokens(row) for row in rows], budget)
        return [self.head.training_batch([rows[index] for index in group]) for group in groups]

    def training_step(self, model: Any, inputs: list[Batch], num_items_in_batch: Any = None) -> torch.Tensor:  # type: ignore[override]
        """Add up one optimizer step's gradients and return its loss."""
        model.train()
        by_class = self.class_weights.to(self.args.device)
        weights = [by_class[batch["labels"]] * batch["weights"] for batch in inputs]
        terms = [(weight * self.head.terms(batch)).sum() for batch, weight in zip(inputs, weights, strict=True)]
        total = torch.stack(terms).sum()
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
        """Score the validation rows by our own scoring, log the averages, and return them.

        It may take longer than Slurm leaves a job: a signal ends it between two batches, with a checkpoint of the
        steps, from which a resumed run evaluates first.
        """
        try:
            with Stoppable(self.stop, "validate", len(self.validation), "row") as progress:
                progress.update(0)  # the signal may have come during the step
                budget = self.job.runtime.score_token_budget
                scores = inference.score(self.head, self.validation, budget, progress)
        except Stopped:
            self._save_checkpoint(self.head.model, None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)  # leaves training
            raise
        records = inference.predictions(self.validation, scores, self.dataset.labels)
        result = metrics.compute(records, self.dataset.labels, self.dataset.mean_f1_labels)
        averages = {f"{metric_key_prefix}_{key}": value for key, value in result.items() if isinstance(value, float)}
        self.log(averages)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, averages)
        return averages

    # --- checkpoints ---

    def clock(self) -> dict[str, float]:
        """Return the training time so far over all starts of the run: seconds of wall clock, cpu_seconds of our cores.

        The second hardly depends on what else runs on a shared machine.
        """
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
            is_due = self.control.should_evaluate  # until the evaluation is over
            files.write_json(partial / CLOCK, {**self.clock(), **self.base, DUE: is_due})
            self.state.save_to_json(str(partial / STATE))
        if is_due:
            return  # this one is replaced after the evaluation, and for a moment neither is there
        keep = {self.state.global_step, self.state.best_global_step}
        for step, old in checkpoints(self.folder):
            if step not in keep:
                files.remove(old)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trained_state(self.head.model, Path(resume_from_checkpoint) / PARAMETERS)
        if (ranks := Path(resume_from_checkpoint) / _RANKS).exists():
            load_allocator_state(self.head.model, load_file(ranks))

    def evaluate_now(self) -> None:
        """Do what the Trainer does after a step with an evaluation: evaluate, then save a checkpoint."""
        self.control.should_evaluate = self.control.should_save = True
        epoch = self.state.epoch or 0.0
        self._maybe_log_save_evaluate(self._tr_loss, None, self.head.model, None, epoch, None, time.time())

    def load_best(self) -> int:
        """Load the checkpoint with the best validation metric and return its step."""
        step = int(self.state.best_global_step or self.state.global_step)
        load_trained_state(self.head.model, self.folder / f"checkpoint-{step}" / PARAMETERS)
        # Pruned ranks are zeros; saved with the last pattern they would shift.
        load_allocator_state(self.head.model, {})
        return step


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return the complete checkpoints of a folder as (step, path), oldest first."""
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), path) for match, path in found if match)
