"""Estimate the GPU memory of a job before anything is downloaded.

A training step and a scoring pass of the largest batches that the token budgets allow run with the job's own head on
tensors without memory: see `live_bytes`. The figures leave out CUDA's own memory (about half a GB) and fragmentation.
"""

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointError

from common.config.dataset import Dataset
from common.config.job import Job
from common.estimate.live_bytes import LiveBytes, gpu_kernels
from common.estimate.repeated_layers import FORWARD_DONE, RepeatedLayers
from common.estimate.shape_tensors import NeedsValues, ShapeMode, to_shape_tensors
from common.model.batching import Encoded
from common.model.heads import ClassificationHead, Head
from common.model.inspect import inner_model
from common.model.precision import set_head_precision
from common.model.prompt_head import PromptHead
from common.model.shapes import ModelShape, model_shape

_ANSWER_TOKENS = 8  # of the prompt head: no tokenizer is loaded to count them, and few answers are longer

# Raised by methods that read the values of their tensors (LoHa, VB-LoRA), and by methods whose first forward pass
# initialises weights (KaSA: recomputing a checkpointed layer then gives other operations).
_CANNOT_ESTIMATE = (NeedsValues, CheckpointError)


def estimate(job: Job, dataset: Dataset, shape: ModelShape | None = None, every_layer: bool = False) -> dict[str, Any]:
    """Return the bytes of one training step on a GPU and their parts, and the bytes of scoring during training.

    Args:
        job: the job.
        dataset: its labels, and its prompt.
        shape: the result of `model_shape(job, dataset)`, if it was built before; it is changed, and of no further use.
        every_layer: run all layers; the figures are the same, and it takes longer.

    Returns:
        `memory_estimate_bytes`, and `memory_estimate_parts_bytes` that sum up to it: weights (frozen, in the job's
        dtypes), trainable_states (float32 parameter, gradient and two moments of Adam), activations (kept by the
        forward pass for the backward pass), workspace (additional bytes at the peak);
        `memory_estimate_score_bytes`: the same weights and states without gradients, and the peak of scoring.
        A figure is None if it depends on the values of weights.

    Raises:
        ModelError: as `model_shape`.
    """
    parts: dict[str, int | None] = dict.fromkeys(("weights", "trainable_states", "activations", "workspace"))
    unknown = {"memory_estimate_bytes": None, "memory_estimate_score_bytes": None, "memory_estimate_parts_bytes": parts}
    shape = shape or model_shape(job, dataset)
    if shape.model is None:
        return unknown
    trained, sizes = shape.model, shape.packed_bytes
    parameters = list(trained.parameters())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    weights = sum(sizes.get(id(parameter), parameter.numel() * parameter.element_size()) for parameter in frozen)
    # bitsandbytes dequantises one layer at a time.
    unpacked = max((p.numel() * p.element_size() for p in frozen if id(p) in sizes), default=0)
    parts |= {"weights": weights, "trainable_states": 16 * trainable}
    if job.method.name == "shira":
        return unknown  # the entries that it changes are not chosen on the meta device
    try:
        layers = RepeatedLayers(trained, every_layer)
        head = _head(job, dataset, trained)
        with gpu_kernels(), ShapeMode():
            peak, activations = _training_step(head, job, dataset, layers)
            score_peak = _scoring_pass(head, job, dataset, layers)
    except _CANNOT_ESTIMATE:
        return unknown
    except Exception:  # irregular, or a model that uses more of its layers than their hidden states
        if every_layer:
            raise
        return estimate(job, dataset, every_layer=True)
    # During the optimizer step no activations are live. An optimizer that is not fused makes one more copy.
    step = 0 if "fused" in job.training.optim else 4 * trainable
    parts |= {"activations": activations, "workspace": max(peak + unpacked, step) - activations}
    return {
        "memory_estimate_bytes": weights + 16 * trainable + max(peak + unpacked, step),
        "memory_estimate_score_bytes": weights + 12 * trainable + score_peak + unpacked,
        "memory_estimate_parts_bytes": parts,
    }


# --- a training step and a scoring pass ----------------------------------------------------------------------------


@dataclasses.dataclass
class _Encoder:
    """Replaces a row encoder, which needs a tokenizer; the answers of a prompt head differ in every token."""

    tokenizer: Any
    answer_ids: list[list[int]]
    end_of_turn_length: int = 1


def _head(job: Job, dataset: Dataset, model: nn.Module) -> Head:
    """Return a head over a model on the meta device, as `build.with_head` does with weights."""
    to_shape_tensors(model)
    inner = inner_model(model)
    if job.runtime.activation_checkpointing:
        # Tensors without memory have no random state to restore.
        inner.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    set_head_precision(job, inner)
    return _headed(job, dataset, model)


def _headed(job: Job, dataset: Dataset, model: nn.Module) -> Head:
    """Return the job's head over a prepared model, with an encoder that has no tokenizer."""
    answers = [[number] * _ANSWER_TOKENS for number in range(len(dataset.labels))]
    encoder: Any = _Encoder(SimpleNamespace(pad_token_id=0), answers)
    if job.head == "prompt":
        return PromptHead(model, encoder, job.precision, job.length_normalization)
    return ClassificationHead(model, encoder, job.precision, job.pooling)


@dataclasses.dataclass(frozen=True)
class _Pass:
    """A forward pass of a head, in training or in scoring.

    Attributes:
        job: its max_length and its head.
        budget: most tokens of the pass.
        most_rows: most rows of the pass.
        tokens: returns the tokens that a row takes of the budget.
        groups: returns the indices of the rows of each pass under the budget.
        is_padded: whether rows share no tokens.
    """

    job: Job
    budget: int
    most_rows: int
    tokens: Callable[[Encoded], int]
    groups: Callable[[Sequence[Encoded], int], list[list[int]]]
    is_padded: bool

    def rows(self, length: int) -> list[Encoded]:
        """Return as many rows of one length as a pass takes; they share no tokens."""
        fitting = self.budget // self.tokens(_row(self.job, length))
        rows = [_row(self.job, length, number) for number in range(min(self.most_rows, fitting + 1))]
        return [rows[index] for index in self.groups(rows, self.budget)[0]]

    def lengths(self, dataset: Dataset) -> set[int]:
        """Return the row lengths, in tokens, whose passes can need the most memory.

        These are: the longest rows; the longest rows of which one more fits the budget; and for a prompt head, which
        computes logits over the vocabulary for every row, the longest of the rows of which the most fit. Where prompts
        share tokens, a row can be as short as one token; otherwise it has one for every word of the prompt.
        """
        longest = self.job.max_length

        def fitting(rows: int) -> int:
            cost = self.budget // rows
            lengths = range(1, longest + 1)
            return max(1, bisect.bisect_right(lengths, cost, key=lambda length: self.tokens(_row(self.job, length))))

        rows = max(1, self.budget // self.tokens(_row(self.job, longest)))
        lengths = {longest, fitting(rows + 1 if rows < self.most_rows else rows)}
        if self.job.head == "prompt" and dataset.prompt is not None:
            words = f"{dataset.prompt.system or ''} {dataset.prompt.user}".split()
            shortest = min(longest, (len(words) if self.is_padded else 1) + _ANSWER_TOKENS)
            lengths.add(max(shortest, fitting(len(self.rows(shortest)))))
        return lengths


def _row(job: Job, length: int, token: int = 0) -> Encoded:
    """Return a row of `length` times the same token, its answer included."""
    own = length - _ANSWER_TOKENS if job.head == "prompt" else length
    return Encoded([token] * max(own, 1), None, label=0, weight=1.0, truncated=False)


def _is_padded(head: Head) -> bool:
    return not isinstance(head, PromptHead) or head.unshared is not None


def _training_step(head: Head, job: Job, dataset: Dataset, layers: RepeatedLayers) -> tuple[int, int]:
    """Return the peak of live bytes and those after the forward pass, without parameters and gradients."""
    budget = head.most_tokens(job.training.token_budget)
    step = _Pass(job, budget, job.training.batch_size, head.training_tokens, head.training_groups, _is_padded(head))
    head.model.train()
    found = []
    for length in step.lengths(dataset):
        rows = step.rows(length)
        with LiveBytes(head.model) as live, layers.watched(live):
            batch = head.training_batch(rows)
            loss = head.losses(batch, job.training.label_smoothing).sum()
            live.begin_block(FORWARD_DONE)
            loss.backward()
        found.append(layers.whole(live))
        del batch, loss
    return max(found)


def _scoring_pass(head: Head, job: Job, dataset: Dataset, layers: RepeatedLayers) -> int:
    """Return the peak of live bytes, without parameters."""
    budget = head.most_tokens(job.runtime.score_token_budget)
    one = _Pass(job, budget, budget, head.scoring_tokens, head.scoring_groups, _is_padded(head))
    head.model.eval()
    peak = 0
    for length in one.lengths(dataset):
        rows = one.rows(length)
        with torch.no_grad(), LiveBytes(head.model) as live, layers.watched(live):
            batch = head.scoring_batch(rows)
            head.scores(batch)
            if job.decoding == "generate":
                del batch
                ids = torch.ones(max(1, job.runtime.score_token_budget // length), length, dtype=torch.int64)
                with head.autocast():  # the cache keeps every layer's keys and values
                    head.model(input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=1, use_cache=True)
        peak = max(peak, layers.whole(live)[0])
    return peak
