"""The prompt head: scores (B, C) are the probabilities that a language model gives to each label's answer."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from peft import PeftModel, PeftType
from torch import nn

from common.data.rows import Row
from common.model.batching import Batch, Encoded
from common.model.heads import Head
from common.model.inspect import inner_model
from common.model.layouts import Answered, Layout, PaddedLayout, TreeLayout, left_padded
from common.model.losses import IGNORED, answer_losses
from common.model.prefix_tree import why_not
from common.model.prompts import PromptEncoder, gold


class PromptHead(Head):
    """The model's language-model head: label c scores Σ_t log p(answer_c,t | prompt, answer_c,<t), then log softmax.

    Answers are scored, not generated. If every label word is one token, that token alone is scored, behind the prompt.
    Otherwise the complete answers are scored, the end of turn included, so that answers of several tokens, answers with
    a common start, and an answer that begins another compare correctly. The loss is that of the answer and the end of
    turn alone: `losses.answer_losses`.

    What the prompts of a forward pass have in common is computed once (`layouts.TreeLayout`), in training, too: losses
    and gradients are the same, and dropout in the common part is drawn once for all rows of a pass.

    Args:
        model: a causal language model.
        encoder: turns rows into prompts, and has the token ids of the answers.
        precision: of the backbone's computation, as in a job; logits and loss are float32.
        length_normalization: divide a score by the answer's number of scored tokens.
        is_calibrated: divide the answers' probabilities by those after a prompt with empty texts (`prior`).

    Attributes:
        scored: the scored token ids of every label, in class order.
        layout: of the prompts in a forward pass.
        unshared: why prompts are run one by one, as the end of a sentence; None where common parts are run once.
    """

    encoder: PromptEncoder

    def __init__(
        self,
        model: nn.Module,
        encoder: PromptEncoder,
        precision: str,
        length_normalization: bool = False,
        is_calibrated: bool = False,
    ) -> None:
        super().__init__(model, encoder, precision)
        self.length_normalization, self.is_calibrated = length_normalization, is_calibrated
        words = [ids[: len(ids) - encoder.end_of_turn_length] for ids in encoder.answer_ids]
        self.scored = words if all(len(ids) == 1 for ids in words) else encoder.answer_ids
        method = PeftType(model.peft_config["default"].peft_type).value if isinstance(model, PeftModel) else None
        self.unshared = why_not(inner_model(model), method)
        kind = PaddedLayout if self.unshared else TreeLayout
        self.layout: Layout = kind(model, self.pad_token_id)

    def with_whole_rows(self) -> "PromptHead":
        """Return the same head with every row of a batch as a sequence of its own."""
        head = copy.copy(self)
        head.layout = PaddedLayout(self.model, self.pad_token_id)
        return head

    def most_tokens(self, budget: int) -> int:
        """Return the most tokens of a forward pass under a token budget, on this device."""
        return self.layout.most_tokens(budget)

    # --- training ---

    def training_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return prompts with their gold answers, as `layouts` lays them out, and labels and weights (B,)."""
        batch = self.layout.batch([self._training_row(row) for row in rows])
        labels = torch.tensor([gold(row) for row in rows])
        return batch | {"labels": labels, "weights": torch.tensor([row.weight for row in rows])}

    def training_groups(self, rows: Sequence[Encoded], budget: int) -> list[list[int]]:
        """Return the rows of a step as the indices of its micro-batches."""
        return self.layout.groups([self._training_row(row) for row in rows], budget)

    def training_tokens(self, row: Encoded) -> int:
        """Return the tokens of the prompt and its gold answer, of which the last one predicts nothing."""
        return self.layout.tokens(self._training_row(row))

    def losses(self, batch: Batch, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the cross-entropy of every row's answer, summed over its tokens (B,), natural log."""
        return answer_losses(self._logits(batch), batch["places"][:, 0], batch["tokens"][:, 0], label_smoothing)

    def terms(self, batch: Batch) -> torch.Tensor:
        """Return the number of tokens of every row's answer (B,): a step's loss is the mean over answer tokens."""
        return (batch["tokens"][:, 0] != IGNORED).sum(dim=1).to(batch["weights"].dtype)

    def _training_row(self, row: Encoded) -> Answered:
        return Answered(row.input_ids, [self.encoder.answer_ids[gold(row)]])

    # --- scoring ---

    def scoring_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return prompts with all answers, as `layouts` lays them out."""
        return self.layout.batch([Answered(row.input_ids, self.scored) for row in rows])

    def scoring_groups(self, rows: Sequence[Encoded], budget: int) -> list[list[int]]:
        """Return rows as the indices of the batches in which they are scored."""
        return self.layout.groups([Answered(row.input_ids, self.scored) for row in rows], budget)

    def scoring_tokens(self, row: Encoded) -> int:
        """Return the tokens of a row with all answers."""
        return self.layout.tokens(Answered(row.input_ids, self.scored))

    def scores(self, batch: Batch) -> torch.Tensor:
        """Return natural-log probabilities (B, C) in float32, before calibration."""
        totals = -answer_losses(self._logits(batch), batch["places"], batch["tokens"])  # (B, C)
        if self.length_normalization:
            totals = totals / (batch["tokens"] != IGNORED).sum(dim=-1)
        return F.log_softmax(totals, dim=-1)

    def prior(self) -> torch.Tensor | None:
        """Return the log probabilities (C,) of the answers after a prompt with empty texts, None without calibration.

        They are what the model answers without knowing the row. Source: Zhao et al. (2021), "Calibrate Before Use",
        section 5, https://arxiv.org/abs/2102.09690, with the empty string as the content-free input.
        """
        if not self.is_calibrated:
            return None
        empty = Row("content-free", ("",) * len(self.encoder.dataset.text), None)
        batch = self.scoring_batch(self.encoder.encode([empty]))
        return self.scores({key: value.to(self.device) for key, value in batch.items()})[0]

    def generate(self, rows: Sequence[Encoded]) -> list[str]:
        """Return the text that the model generates after each prompt, greedily, without the end of turn."""
        padded = left_padded([row.input_ids for row in rows], self.pad_token_id)
        batch = {key: value.to(self.device) for key, value in padded.items()}
        ends = {self.encoder.tokenizer.eos_token_id, *(ids[-1] for ids in self.encoder.answer_ids)}
        with self.autocast():
            ids = self.model.generate(  # type: ignore[operator]
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=self.encoder.longest_answer,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,  # Qwen's default is higher, and every label word stands in the prompt
                eos_token_id=sorted(end for end in ends if end is not None),
                pad_token_id=self.pad_token_id,
            )
        written = ids[:, batch["input_ids"].shape[1] :]
        return [self.encoder.decode_answer(ids) for ids in written.tolist()]

    def _logits(self, batch: Batch) -> torch.Tensor:
        """Return the logits (N, V) of a batch in float32."""
        with self.autocast():
            return self.layout.logits(batch, self.precision).float()
