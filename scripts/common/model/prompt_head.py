"""The prompt head: scores (B, C) are the probabilities that a language model gives to each label's answer."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from common.data.rows import Row
from common.model.batching import Batch, Encoded
from common.model.heads import Head
from common.model.losses import IGNORED, answer_losses
from common.model.prompts import PromptEncoder, gold


class PromptHead(Head):
    """The model's language-model head: label c scores Σ_t log p(answer_c,t | prompt, answer_c,<t), then log softmax.

    Answers are scored, not generated. If every label word is one token, that token alone is scored, in one pass over
    the prompt. Otherwise the complete answers are scored, the end of turn included, so that answers of several tokens,
    answers with a common start, and an answer that begins another compare correctly. The loss is that of the answer and
    the end of turn alone: `losses.answer_losses`.

    Rows are padded on the left: all answers end at the last position, and the language-model head is computed at the
    answers' positions only.

    Args:
        model: a causal language model.
        encoder: turns rows into prompts, and has the token ids of the answers.
        precision: of the backbone's computation, "float32" or "bfloat16"; logits and loss are float32.
        length_normalization: divide a score by the answer's number of scored tokens.
        is_calibrated: divide the answers' probabilities by those after a prompt with empty texts (`prior`).

    Attributes:
        scored: the scored token ids of every label, in class order.
        continuations: the token ids that follow the prompt in a forward pass, P of them.
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
        # Each answer without its last token, once. An answer that begins another one needs no pass of its own: its
        # logits are in the pass of the longer one.
        starts = {tuple(ids[:-1]) for ids in self.scored}
        self.continuations = sorted(
            s for s in starts if not any(s != other and other[: len(s)] == s for other in starts)
        )

    # --- training ---

    def training_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return prompts with their gold answers, and `targets`: the answers' ids (B, K); both padded on the left."""
        answers = [self.encoder.answer_ids[gold(row)] for row in rows]
        batch = self._left_padded([row.input_ids + answer for row, answer in zip(rows, answers, strict=True)])
        targets = torch.full((len(rows), max(map(len, answers))), IGNORED)
        for index, answer in enumerate(answers):
            targets[index, -len(answer) :] = torch.tensor(answer)
        labels = torch.tensor([gold(row) for row in rows])
        return batch | {"targets": targets, "labels": labels, "weights": torch.tensor([row.weight for row in rows])}

    def training_tokens(self, row: Encoded) -> int:
        """Return the tokens of the prompt and its gold answer."""
        return len(row.input_ids) + len(self.encoder.answer_ids[gold(row)])

    def losses(self, batch: Batch, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the cross-entropy of every row's answer, summed over its tokens (B,), natural log."""
        targets = batch["targets"]  # (B, K)
        logits = self._logits(batch, targets.shape[1] + 1)[:, :-1]  # (B, K, V)
        return answer_losses(logits, targets, label_smoothing)

    def terms(self, batch: Batch) -> torch.Tensor:
        """Return the number of tokens of every row's answer (B,): a step's loss is the mean over answer tokens."""
        return (batch["targets"] != IGNORED).sum(dim=1).to(batch["weights"].dtype)

    # --- scoring ---

    def scoring_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return every row's prompt followed by each continuation (B P, L), padded on the left."""
        return self._left_padded([row.input_ids + list(ids) for row in rows for ids in self.continuations])

    def scoring_tokens(self, row: Encoded) -> int:
        """Return the tokens of all P sequences of a row."""
        return len(self.continuations) * (len(row.input_ids) + max(map(len, self.continuations)))

    def scores(self, batch: Batch) -> torch.Tensor:
        """Return natural-log probabilities (B, C) in float32, before calibration."""
        longest = max(map(len, self.continuations))  # K
        logs = F.log_softmax(self._logits(batch, longest + 1), dim=-1)
        logs = logs.unflatten(0, (-1, len(self.continuations)))  # (B, P, K + 1, V)
        columns = []
        for answer in self.scored:
            index = next(i for i, ids in enumerate(self.continuations) if list(ids[: len(answer) - 1]) == answer[:-1])
            first = longest - len(self.continuations[index])  # the position whose logits predict the first token
            tokens = torch.tensor(answer, device=logs.device)
            positions = torch.arange(first, first + len(answer), device=logs.device)
            total = logs[:, index, positions, tokens].sum(dim=1)  # (B,)
            columns.append(total / len(answer) if self.length_normalization else total)
        return F.log_softmax(torch.stack(columns, dim=1), dim=-1)

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
        batch = {key: value.to(self.device) for key, value in self._left_padded([r.input_ids for r in rows]).items()}
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

    def _logits(self, batch: Batch, last: int) -> torch.Tensor:
        """Return the logits at the last positions (B, last, V) in float32."""
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")}
        with self.autocast():
            return self.model(**inputs, logits_to_keep=last, use_cache=False).logits.float()

    def _left_padded(self, sequences: Sequence[Sequence[int]]) -> Batch:
        longest = max(map(len, sequences))
        gaps = [longest - len(sequence) for sequence in sequences]
        padded = [[*[self.pad_token_id] * gap, *sequence] for gap, sequence in zip(gaps, sequences, strict=True)]
        ids = torch.tensor(padded, dtype=torch.int64)
        mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps], dtype=torch.int64)
        # Models count positions from the first column unless told otherwise.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
