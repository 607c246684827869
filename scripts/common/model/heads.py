"""From rows to scores (B, C): what a head is, and the classification head.

A head turns a batch of encoded rows into natural-log probabilities whose column c is label c of the dataset YAML, and
in training into a loss a row. Training, evaluation, baselines and prediction all go through the same encoder and head.
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
from common.model.batching import Batch, Encoded, collate
from common.model.encoding import Encoder


class RowEncoder(Protocol):
    """Rows to token ids."""

    tokenizer: Any

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Return one record a row."""
        ...

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Return every row's tokens before truncation."""
        ...


class Head(abc.ABC):
    """Rows → scores (B, C), and a loss a row.

    Args:
        model: takes token ids, gives logits.
        encoder: turns rows into token ids.
        bfloat16: run the trunk under bfloat16 autocast.
    """

    def __init__(self, model: nn.Module, encoder: RowEncoder, bfloat16: bool) -> None:
        self.model, self.encoder, self.bfloat16 = model, encoder, bfloat16
        self.pad_token_id = int(encoder.tokenizer.pad_token_id)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the model is called."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else contextlib.nullcontext()

    @abc.abstractmethod
    def training_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return padded rows with their labels and weights (B,)."""

    @abc.abstractmethod
    def training_tokens(self, row: Encoded) -> int:
        """Return the tokens that a row takes in training."""

    @abc.abstractmethod
    def losses(self, batch: Batch, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the summed cross-entropy of every row (B,), natural log, without weights."""

    @abc.abstractmethod
    def terms(self, batch: Batch) -> torch.Tensor:
        """Return how many terms each row's loss sums (B,)."""

    @abc.abstractmethod
    def scoring_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return padded rows."""

    @abc.abstractmethod
    def scoring_tokens(self, row: Encoded) -> int:
        """Return the tokens that a row takes in scoring."""

    @abc.abstractmethod
    def scores(self, batch: Batch) -> torch.Tensor:
        """Return natural-log probabilities (B, C) in float32."""


class ClassificationHead(Head):
    """The model's own sequence-classification head: scores = log softmax(W pool(h) + b), in float32.

    A decoder is pooled at its last token, which its own head finds by the pad token's id: wrong where pad is EOS and a
    text ends in it. Here the attention mask says how long a row is.
    """

    encoder: Encoder

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return logits (B, C) in float32."""
        inputs = {key: value for key, value in batch.items() if key not in ("labels", "weights")}
        inner: Any = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        with self.autocast():
            if not hasattr(inner, "score"):
                return self.model(**inputs).logits.float()  # (B, C)
            hidden = self._hidden(inner, inputs)  # (B, L, d)
            last = batch["attention_mask"].sum(dim=1) - 1  # (B,)
            return inner.score(hidden[torch.arange(len(last), device=last.device), last]).float()

    def _hidden(self, inner: Any, inputs: Batch) -> torch.Tensor:
        """Return the output of a decoder's backbone (B, L, d)."""
        if not (isinstance(self.model, PeftModel) and self.model.peft_type == PeftType.SHADOW):
            return inner.base_model(**inputs, use_cache=False).last_hidden_state
        # Shadow computes its first state in a hook on the whole model; without that, its layers are the base's.
        kept: list[torch.Tensor] = []
        with inner.base_model.register_forward_hook(lambda _, __, output: kept.append(output.last_hidden_state)):
            inner(**inputs, use_cache=False)
        return kept[0]

    def training_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return rows padded on the right, their labels and weights."""
        return collate(rows, self.pad_token_id)

    def training_tokens(self, row: Encoded) -> int:
        """Return the tokens that a row takes in training."""
        return len(row.input_ids)

    def losses(self, batch: Batch, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the cross-entropy of every row (B,), natural log, without weights."""
        return F.cross_entropy(self.logits(batch), batch["labels"], reduction="none", label_smoothing=label_smoothing)

    def terms(self, batch: Batch) -> torch.Tensor:
        """Return 1 for every row: a label is one term."""
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
