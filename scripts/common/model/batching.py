"""Batches of rows: a seeded order for training, a token budget for every forward pass, right padding.

A padding token costs as much as a real token. Random batches of 16 rows cost about twice their real tokens; batches of
rows of similar length cost a few per cent more than their real tokens. So rows of similar length are batched together,
in training and in scoring.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch._subclasses import FakeTensor

_CPU_TOKENS = 2048  # of a forward pass: the states of more leave the caches, and the same rows take half as long again
_CPU_PADDING = 32  # padding tokens of such a pass in scoring; a pass of its own costs a CPU less than more of them
_WINDOW_STEPS = 16  # optimizer steps whose rows are sorted by length together; wider pads less and mixes less


@dataclasses.dataclass(frozen=True, slots=True)
class Encoded:
    """One row as token ids, without padding.

    Attributes:
        input_ids: special tokens included.
        token_type_ids: 0 for the first text, 1 for the second, None for models that take none.
        label: class index, None in prediction.
        weight: of the example in the loss.
        truncated: whether tokens were cut off to fit max_length.
    """

    input_ids: list[int]
    token_type_ids: list[int] | None
    label: int | None
    weight: float
    truncated: bool


Batch = dict[str, torch.Tensor]


def token_batches(lengths: Sequence[int], budget: int, most_padding: int | None = None) -> list[list[int]]:
    """Return row indices as batches of rows of similar length whose padded size stays within a budget.

    Args:
        lengths: tokens of each row.
        budget: most padded tokens (rows x longest row) of a batch; a single longer row is a batch of its own.
        most_padding: most padding tokens of a batch; None: as many as the budget allows.

    Returns:
        Batches of indices, longest rows first, so that memory runs out in the first batch or never.
    """
    batches: list[list[int]] = []
    padding = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[batches[-1][0]] if batches else 0
        padding += longest - lengths[index]
        fits = batches and (len(batches[-1]) + 1) * longest <= budget
        if fits and (most_padding is None or padding <= most_padding):
            batches[-1].append(index)
        else:
            batches.append([index])
            padding = 0
    return batches


def is_on_cpu(model: nn.Module) -> bool:
    """Return whether a model computes on a CPU; weights without memory, of an estimate, stand for those on a GPU."""
    parameter = next(model.parameters(), None)  # a graph of another library has none, and runs on a CPU
    return parameter is None or (parameter.device.type == "cpu" and not isinstance(parameter, FakeTensor))


def most_padding(model: nn.Module) -> int | None:
    """Return the most padding tokens of a pass in scoring; None where few large passes are faster."""
    return _CPU_PADDING if is_on_cpu(model) else None


def most_tokens(budget: int, model: nn.Module) -> int:
    """Return the most padded tokens of a forward pass under a token budget, on the device of the model."""
    return min(budget, _CPU_TOKENS) if is_on_cpu(model) else budget


class StepSampler:
    """Yields the row indices of one optimizer step at a time, in an order fixed by seed and epoch.

    Every epoch visits every row once. Rows are shuffled, sorted by length within windows of `_WINDOW_STEPS` steps,
    divided into steps of `batch_size`, and the steps shuffled again: the rows of a step have similar lengths, and the
    steps differ from epoch to epoch. The number of steps is the same in every epoch: the Trainer reads it once.

    Args:
        lengths: tokens of each row.
        batch_size: rows of a step; the last step of an epoch may be smaller.
        seed: of the order.
    """

    drop_last = False

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order comes next; a resumed run sets the epoch in which it stopped."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths)).tolist()
        # The short step is taken before sorting; otherwise it would always have the longest rows.
        short = len(order) % self.batch_size
        steps = [order[:short]] if short else []
        window = self.batch_size * _WINDOW_STEPS
        for start in range(short, len(order), window):
            rows = sorted(order[start : start + window], key=lambda index: self.lengths[index])
            steps += [rows[first : first + self.batch_size] for first in range(0, len(rows), self.batch_size)]
        for position in rng.permutation(len(steps)).tolist():
            yield steps[position]


def collate(rows: Sequence[Encoded], pad_token_id: int) -> Batch:
    """Return rows as one batch, padded on the right to the longest row.

    Returns:
        input_ids and attention_mask (B, L) int64, token_type_ids where rows have them, weights (B,) float32, and
        labels (B,) int64 where rows have them.
    """
    longest = max(len(row.input_ids) for row in rows)

    def padded(sequences: Iterable[Sequence[int]], value: int) -> torch.Tensor:
        return torch.tensor([[*one, *[value] * (longest - len(one))] for one in sequences], dtype=torch.int64)

    batch = {
        "input_ids": padded((row.input_ids for row in rows), pad_token_id),
        "attention_mask": padded(([1] * len(row.input_ids) for row in rows), 0),
        "weights": torch.tensor([row.weight for row in rows]),
    }
    if rows[0].token_type_ids is not None:
        batch["token_type_ids"] = padded((row.token_type_ids or [] for row in rows), 0)
    if rows[0].label is not None:
        batch["labels"] = torch.tensor([row.label for row in rows])
    return batch


def pinned(batch: Batch, device: torch.device) -> Batch:
    """Return a batch in memory from which a GPU copies while the CPU goes on; for a CPU the batch itself."""
    return {key: value.pin_memory() for key, value in batch.items()} if device.type == "cuda" else batch


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device; the CPU does not wait for the copy of a pinned batch."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}
