"""From rows to scores (B, C): the classification head.

A head turns a batch of encoded rows into natural-log probabilities whose column c is label c of the dataset YAML.
Training, evaluation, baselines and prediction all go through the same encoder and head.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerBase

from common.batching import Batch, Encoded
from common.data import Row
from common.errors import ModelError


class Encoder:
    """Rows to token ids; a pair of texts is a true pair of the tokenizer.

    Args:
        tokenizer: of the base model.
        max_length: most tokens of a row; longer rows lose the end of their longest text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Return the tokens of every row before truncation, special tokens included."""
        return [len(ids) for ids in self._whole(rows)["input_ids"]]

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Turn rows into token ids. Truncation touches the longest text alone, and is marked on the row."""
        if not rows:
            return []
        whole = self._whole(rows)
        encoded = []
        for index, row in enumerate(rows):
            ids = whole["input_ids"][index]
            types = whole["token_type_ids"][index] if "token_type_ids" in whole else None
            truncated = len(ids) > self.max_length
            if truncated:
                cut = self._truncate(row.texts)
                ids, types = cut["input_ids"], cut.get("token_type_ids")
            encoded.append(Encoded(ids, types, row.label, row.weight, truncated))
        return encoded

    def _whole(self, rows: Sequence[Row]) -> Any:
        columns = [list(texts) for texts in zip(*(row.texts for row in rows), strict=True)]
        return self.tokenizer(*columns, truncation=False, verbose=False)

    def _truncate(self, texts: tuple[str, ...]) -> dict[str, list[int]]:
        lengths = [len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in texts]
        side = "only_first" if lengths[0] == max(lengths) else "only_second"
        others = sum(lengths) - max(lengths) + self.tokenizer.num_special_tokens_to_add(pair=len(texts) == 2)
        if others >= self.max_length:
            # Even without its longest text the row is too long: both are cut, the longer one first.
            side = "longest_first"
        return dict(self.tokenizer(*texts, truncation=side, max_length=self.max_length, verbose=False))


class ClassificationHead:
    """The model's own sequence-classification head: scores = log softmax(W pool(h) + b), in float32.

    Args:
        model: takes token ids, gives logits (B, C).
        encoder: turns rows into token ids.
        bfloat16: run the trunk under bfloat16 autocast; the head stays float32 (`keep_float32`).
    """

    def __init__(self, model: nn.Module, encoder: Encoder, bfloat16: bool) -> None:
        self.model, self.encoder, self.bfloat16 = model, encoder, bfloat16
        self.pad_token_id = int(encoder.tokenizer.pad_token_id)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return logits (B, C) in float32."""
        inputs = {key: value for key, value in batch.items() if key not in ("labels", "weights")}
        kind = self.device.type
        autocast = torch.autocast(kind, torch.bfloat16) if self.bfloat16 else contextlib.nullcontext()
        with autocast:
            return self.model(**inputs).logits.float()  # (B, C)

    def scores(self, batch: Batch) -> torch.Tensor:
        """Return natural-log probabilities (B, C) in float32."""
        return F.log_softmax(self.logits(batch), dim=-1)

    def losses(self, batch: Batch, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the cross-entropy of every row (B,), natural log, without weights."""
        return F.cross_entropy(self.logits(batch), batch["labels"], reduction="none", label_smoothing=label_smoothing)


def keep_float32(module: nn.Module) -> None:
    """Make a module compute in float32, also inside autocast.

    Raises:
        ModelError: its weights are not float32 (a head must never be quantised).
    """
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ModelError(f"the head's weight {name} is {parameter.dtype}; a head must be float32.")
    forward = module.forward

    def in_float32(hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return forward(hidden.float(), *args, **kwargs)

    module.forward = in_float32
