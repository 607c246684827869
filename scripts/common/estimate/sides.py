"""The two sides of a comparison: a job's head, and a plain model that shares its weights."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import Trainer

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError
from common.core.progress import Progress
from common.data.rows import Row
from common.estimate import plain_baselines
from common.estimate.benchmark import one_epoch_trainer
from common.estimate.live_bytes import LiveBytes
from common.estimate.plain_baselines import TokenRows
from common.estimate.side_by_side import Way
from common.evaluation import inference
from common.model.heads import Head
from common.train.trainer import StepTrainer

OURS = "peftable"


@dataclasses.dataclass(frozen=True)
class Task:
    """Work that both sides do.

    Attributes:
        title: of the work.
        rows: number of rows.
        ways: the project's first.
    """

    title: str
    rows: int
    ways: Sequence[Way]


class Sides:
    """A head and a plain model with the same weights.

    Args:
        head: of the job.
        plain: the same base with the same method.
        job: of both.
        dataset: of both.
        train: rows of one epoch.
        test: rows to score.
        folder: for the Trainers' files.
        seed: of the order of the rows.
    """

    def __init__(
        self,
        head: Head,
        plain: PeftModel,
        job: Job,
        dataset: Dataset,
        train: list[Row],
        test: list[Row],
        folder: Path,
        seed: int,
    ) -> None:
        self.head, self.plain, self.job, self.dataset = head, plain, job, dataset
        self.train, self.test, self.folder, self.seed = train, test, folder, seed
        self.tokenizer = head.encoder.tokenizer
        self._share_weights()
        self.start = {name: one.detach().clone() for name, one in self._trained(head.model)}
        self.trained: dict[str, torch.Tensor] = {}

    def _share_weights(self) -> None:
        """Let the plain model use the memory of the head's weights, as far as they have one dtype."""
        ours = dict(self.head.model.named_parameters())
        for name, parameter in self.plain.named_parameters():
            if name not in ours or ours[name].requires_grad != parameter.requires_grad:
                raise ModelError(f"the plain model's {name} is not a parameter that the job trains or keeps alike.")
            if parameter.requires_grad and parameter.dtype != ours[name].dtype:
                raise ModelError(f"the plain model trains {name} in {parameter.dtype}, the job in {ours[name].dtype}.")
            if parameter.dtype == ours[name].dtype and type(parameter) is type(ours[name]):
                parameter.data = ours[name].data

    @staticmethod
    def _trained(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, one) for name, one in model.named_parameters() if one.requires_grad]

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Set the trained parameters of both sides."""
        with torch.no_grad():
            for name, parameter in self._trained(self.head.model):
                parameter.copy_(state[name])
        for model in (self.head.model, self.plain):
            model.zero_grad(set_to_none=True)

    # --- training ---

    def our_trainer(self) -> StepTrainer:
        """Return the project's Trainer for one epoch from the start."""
        self.restore(self.start)
        return one_epoch_trainer(self.head, self.job, self.dataset, self.train, self.folder, self.seed)

    def their_trainer(self, rows: TokenRows) -> Trainer:
        """Return the plain Trainer for one epoch from the start."""
        self.restore(self.start)
        return plain_baselines.trainer(self.plain, self.tokenizer, rows, self.job, self.folder, self.seed)

    def train_once(self) -> None:
        """Train by the project, so that what is compared is a model that has learned something."""
        self.our_trainer().train()
        self.trained = {name: one.detach().clone() for name, one in self._trained(self.head.model)}

    def memory(self, theirs: str, batches: Iterable[Any], backward: Callable[[Any], object]) -> dict[str, int]:
        """Return the bytes that training takes at most: weights, gradients, Adam's moments, and the largest step's own.

        Args:
            theirs: name of the plain script.
            batches: its batches of one epoch.
            backward: runs a batch forward and backward.
        """
        self.plain.train()
        trainer = self.our_trainer()
        steps = list(trainer.get_train_dataloader())
        step = max(steps, key=lambda item: max(batch["input_ids"].numel() for batch in item[1]))
        batch = max(batches, key=lambda one: one["input_ids"].numel())
        found = {
            OURS: _peak_bytes(self.head.model, lambda: trainer.training_step(self.head.model, step)),
            theirs: _peak_bytes(self.plain, lambda: backward(batch)),
        }
        self.restore(self.start)
        return found

    # --- scoring ---

    def score(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return the project's scores (N, C) of rows."""
        progress = Progress("score", len(rows), "row")
        return torch.from_numpy(inference.score(self.head, rows, self.job.runtime.score_token_budget, progress))


def _peak_bytes(model: torch.nn.Module, step: Callable[[], object]) -> int:
    """Return the bytes of the weights, of gradients and moments of what trains, and the peak of a step."""
    with LiveBytes(model) as live:
        step()
    trained = sum(one.nbytes for one in model.parameters() if one.requires_grad)
    return live.peak + 3 * trained + sum(one.nbytes for one in model.parameters())
