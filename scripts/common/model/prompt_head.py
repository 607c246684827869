"""From rows to scores (B, C): the prompt head, which reads them off a language model's own head."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from common.model.batching import Batch, Encoded
from common.model.heads import Head
from common.model.prompts import PromptEncoder

IGNORED = -100  # an id that torch's cross-entropy leaves out


class PromptHead(Head):
    """The model's language-model head: label c scores Σ_t log p(answer_c,t | prompt, answer_c,<t), then log softmax.

    Answers are scored, not generated. Where every answer is one token and no two are the same, that token alone is
    scored, in one pass over the prompt; else the complete answers are, the end of turn included, so that answers of
    several tokens, with a common start, or one within another compare rightly. Trained on the answer and the end of
    turn alone: ℓ = -Σ_t log p(answer_t | prompt, answer_<t).

    Rows are padded on the left, so that all answers end at the last position and the language-model head is computed
    at the answers' positions only.

    Args:
        model: a causal language model.
        encoder: turns rows into prompts, and knows the answers.
        bfloat16: run the model under bfloat16 autocast; the loss stays float32.
        length_normalization: divide a score by the answer's number of scored tokens.
    """

    encoder: PromptEncoder

    def __init__(self, model: nn.Module, encoder: PromptEncoder, bfloat16: bool, length_normalization: bool) -> None:
        super().__init__(model, encoder, bfloat16)
        self.length_normalization = length_normalization
        bare = [answer[: len(answer) - encoder.endings] for answer in encoder.answers]
        self.scored = bare if all(len(answer) == 1 for answer in bare) else encoder.answers
        # What follows the prompt in a forward pass: every answer but its last token, once; one that begins another
        # is read off the longer one.
        stems = {tuple(answer[:-1]) for answer in self.scored}
        self.paths = sorted(s for s in stems if not any(s != other and other[: len(s)] == s for other in stems))

    # --- training ---

    def training_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return prompts with their gold answers, padded on the left, and the answers' ids (B, K), padded likewise."""
        answers = [self.encoder.answers[_gold(row)] for row in rows]
        batch = self._left_padded([row.input_ids + answer for row, answer in zip(rows, answers, strict=True)])
        targets = torch.full((len(rows), max(map(len, answers))), IGNORED)
        for index, answer in enumerate(answers):
            targets[index, -len(answer) :] = torch.tensor(answer)
        labels = torch.tensor([_gold(row) for row in rows])
        return batch | {"targets": targets, "labels": labels, "weights": torch.tensor([row.weight for row in rows])}

    def training_tokens(self, row: Encoded) -> int:
        """Return the tokens of the prompt and its gold answer."""
        return len(row.input_ids) + len(self.encoder.answers[_gold(row)])

    def losses(self, batch: Batch, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the cross-entropy of every row's answer, summed over its tokens (B,), natural log."""
        targets = batch["targets"]  # (B, K)
        logits = self._logits(batch, targets.shape[1] + 1)[:, :-1]  # (B, K, V)
        losses = F.cross_entropy(
            logits.transpose(1, 2), targets, reduction="none", ignore_index=IGNORED, label_smoothing=label_smoothing
        )
        return losses.sum(dim=1)

    def terms(self, batch: Batch) -> torch.Tensor:
        """Return the tokens of every row's answer (B,); a step's loss is then the mean over its answer tokens."""
        return (batch["targets"] != IGNORED).sum(dim=1).to(batch["weights"].dtype)

    # --- scoring ---

    def scoring_batch(self, rows: Sequence[Encoded]) -> Batch:
        """Return every row's prompt with every path behind it (B P, L), padded on the left."""
        return self._left_padded([row.input_ids + list(path) for row in rows for path in self.paths])

    def scoring_tokens(self, row: Encoded) -> int:
        """Return the tokens of all sequences of a row."""
        return len(self.paths) * (len(row.input_ids) + max(map(len, self.paths)))

    def scores(self, batch: Batch) -> torch.Tensor:
        """Return natural-log probabilities (B, C) in float32."""
        deepest = max(map(len, self.paths))  # K
        logs = F.log_softmax(self._logits(batch, deepest + 1), dim=-1)
        logs = logs.unflatten(0, (-1, len(self.paths)))  # (B, P, K + 1, V)
        columns = []
        for answer in self.scored:
            index = next(i for i, path in enumerate(self.paths) if list(path[: len(answer) - 1]) == answer[:-1])
            first = deepest - len(self.paths[index])  # the position whose logits predict the answer's first token
            tokens = torch.tensor(answer, device=logs.device)
            positions = torch.arange(first, first + len(answer), device=logs.device)
            total = logs[:, index, positions, tokens].sum(dim=1)  # (B,)
            columns.append(total / len(answer) if self.length_normalization else total)
        return F.log_softmax(torch.stack(columns, dim=1), dim=-1)

    def generate(self, rows: Sequence[Encoded]) -> list[str]:
        """Return the text that the model itself writes after each prompt, greedily, without the end of turn."""
        batch = {key: value.to(self.device) for key, value in self._left_padded([r.input_ids for r in rows]).items()}
        ends = {self.encoder.tokenizer.eos_token_id, *(answer[-1] for answer in self.encoder.answers)}
        with self.autocast():
            ids = self.model.generate(  # type: ignore[operator]
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=self.encoder.longest,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,  # Qwen ships another, and every label's word stands in the prompt
                eos_token_id=sorted(end for end in ends if end is not None),
                pad_token_id=self.pad_token_id,
            )
        written = ids[:, batch["input_ids"].shape[1] :]
        return [self.encoder.read(row) for row in written.tolist()]

    def _logits(self, batch: Batch, last: int) -> torch.Tensor:
        """Return the logits at the last positions (B, last, V) in float32."""
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")}
        with self.autocast():
            return self.model(**inputs, logits_to_keep=last, use_cache=False).logits.float()

    def _left_padded(self, sequences: Sequence[Sequence[int]]) -> Batch:
        longest = max(map(len, sequences))
        ids = torch.full((len(sequences), longest), self.pad_token_id)
        mask = torch.zeros((len(sequences), longest), dtype=torch.int64)
        for index, sequence in enumerate(sequences):
            ids[index, longest - len(sequence) :] = torch.tensor(sequence)
            mask[index, longest - len(sequence) :] = 1
        # Models count positions from the first column unless told otherwise.
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


def _gold(row: Encoded) -> int:
    if row.label is None:
        raise ValueError("a row without a label cannot be trained on")
    return row.label
