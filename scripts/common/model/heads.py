"""Heads turn rows into scores (B, C) and losses (B,): the interface, and the classification head.

Column c of the scores is the natural-log probability of label c of the dataset's YAML. Training, evaluation, baselines
and prediction all use the same encoder and head.
"""

import abc
import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from peft import PeftModel, PeftType
from torch import nn

from common.data.rows import Row
from common.model.batching import Batch, Encoded, collate, most_padding, most_tokens, token_batches
from common.model.encoding import Encoder
from common.model.inspect import inner_model
from common.model.losses import label_losses
from common.model.pooling import is_causal, output_layer, pool
from common.model.precision import autocast


class RowEncoder(Protocol):
    """Turns rows into token ids."""

    tokenizer: Any

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Return the token ids of every row."""
        ...

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Return the number of tokens of every row before truncation."""
        ...


class Head(abc.ABC):
    """A model that scores rows (B, C), and in training gives a loss for every row.

    Args:
        model: takes token ids, returns logits.
        encoder: turns rows into token ids.
        precision: of the backbone's computation, as in a job.

    Attributes:
        batch_parts: into how many parts a batch of inference is divided, because the memory does not suffice for it.
    """

    def __init__(self, model: nn.Module, encoder: RowEncoder, precision: str) -> None:
        self.model, self.encoder, self.precision = model, encoder, precision
        self.batch_parts = 1
        self.pad_token_id = int(encoder.tokenizer.pad_token_id)

    @property
    def device(self) -> torch.device:
        """Return the device of the model's parameters."""
        return next(self.model.parameters()).device

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the model is called."""
        return autocast(self.precision, self.device.type)

    def most_tokens(self, budget: int) -> int:
        """Return the most tokens of a forward pass under a token budget, on this device."""
        return most_tokens(budget, self.model)

    @abc.abstractmethod
    def training_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return padded rows with their labels (B,) and weights (B,)."""

    def training_groups(self, rows: Sequence[Encoded], budget: int) -> list[list[int]]:
        """Return the rows of a step as the indices of its micro-batches, each of at most `budget` tokens."""
        return token_batches([self.training_tokens(row) for row in rows], self.most_tokens(budget))

    @abc.abstractmethod
    def training_tokens(self, row: Encoded) -> int:
        """Return the tokens that a row takes in training."""

    @abc.abstractmethod
    def losses(self, batch: Batch, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the summed cross-entropy of every row (B,), natural log, without weights."""

    @abc.abstractmethod
    def terms(self, batch: Batch) -> torch.Tensor:
        """Return the number of terms that each row's loss sums (B,): 1 for a label, its tokens for an answer."""

    @abc.abstractmethod
    def scoring_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return padded rows."""

    def scoring_groups(self, rows: Sequence[Encoded], budget: int) -> list[list[int]]:
        """Return rows as the indices of the batches in which they are scored, each of at most `budget` tokens."""
        lengths = [self.scoring_tokens(row) for row in rows]
        return token_batches(lengths, self.most_tokens(budget), most_padding(self.model))

    @abc.abstractmethod
    def scoring_tokens(self, row: Encoded) -> int:
        """Return the tokens that a row takes in scoring."""

    @abc.abstractmethod
    def scores(self, batch: Batch) -> torch.Tensor:
        """Return natural-log probabilities (B, C) in float32, before calibration."""

    def with_whole_rows(self) -> "Head":
        """Return the same head with every row of a batch as a sequence of its own, padded, with its attention_mask."""
        return self

    def prior(self) -> torch.Tensor | None:
        """Return the log probabilities (C,) by which all scores are calibrated, None where they are not."""
        return None


class ClassificationHead(Head):
    """A sequence-classification head: scores = log softmax(W pool(h) + b), in float32.

    With pooling "default" it is the model's own; a decoder is pooled at its last token. The library finds that token by
    the id of the pad token, which is wrong where the pad token is EOS and a text ends in EOS. Here the attention mask
    gives the length of a row.

    Args:
        model: takes token ids, returns logits.
        encoder: turns rows into token ids.
        precision: of the backbone's computation, as in a job.
        pooling: of the job; `pooling.set_pooling` has made the head for it.
    """

    encoder: Encoder

    def __init__(self, model: nn.Module, encoder: Encoder, precision: str, pooling: str = "default") -> None:
        super().__init__(model, encoder, precision)
        has_own = pooling == "default" and not hasattr(inner_model(model), "score")
        self.pooling = None if has_own else "last" if pooling == "default" else pooling

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return logits (B, C) in float32."""
        inputs = {key: value for key, value in batch.items() if key not in ("labels", "weights")}
        with self.autocast():
            if self.pooling is None:
                return self.model(**inputs).logits.float()  # (B, C)
            inner = inner_model(self.model)
            pooled = pool(self._hidden(inner, inputs), batch["attention_mask"], self.pooling)  # (B, d)
            output: Any = output_layer(inner)
            return output(pooled).float()

    def _hidden(self, inner: Any, inputs: Batch) -> torch.Tensor:
        """Return the output of the backbone (B, L, d)."""
        if not (isinstance(self.model, PeftModel) and self.model.peft_type == PeftType.SHADOW):
            without_cache = {"use_cache": False} if is_causal(inner) else {}
            return inner.base_model(**inputs, **without_cache).last_hidden_state
        # Shadow computes its first state in a hook on the whole model; without it, its layers are the base's.
        outputs: list[torch.Tensor] = []
        with inner.base_model.register_forward_hook(lambda _, __, output: outputs.append(output.last_hidden_state)):
            inner(**inputs, use_cache=False)
        return outputs[0]

    def training_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return rows padded on the right, their labels and weights."""
        return collate(rows, self.pad_token_id)

    def training_tokens(self, row: Encoded) -> int:
        """Return the tokens that a row takes in training."""
        return len(row.input_ids)

    def losses(self, batch: Batch, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the cross-entropy of every row's label (B,), natural log, without weights."""
        return label_losses(self.logits(batch), batch["labels"], label_smoothing)

    def terms(self, batch: Batch) -> torch.Tensor:
        """Return 1 for every row (B,): a label is one term."""
        return torch.ones_like(batch["weights"])

    def scoring_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return rows padded on the right."""
        return collate(rows, self.pad_token_id)

    def scoring_tokens(self, row: Encoded) -> int:
        """Return the tokens that a row takes in scoring."""
        return len(row.input_ids)

    def scores(self, batch: Batch) -> torch.Tensor:
        """Return natural-log probabilities (B, C) in float32."""
        return F.log_softmax(self.logits(batch), dim=-1)
