"""How a batch of prompts, each with answers behind it, is laid out for one forward pass of a decoder.

`TreeLayout` runs what prompts and answers have in common once. `PaddedLayout` runs every prompt once for each answer
that does not begin another one, padded on the left; it suits every decoder. Both give the logits that predict the
answers' tokens, and no others: those of whole prompts, over a vocabulary of 256,000 tokens, would be the largest
tensors of all.
"""

import abc
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from common.model import tree_attention
from common.model.batching import Batch, is_on_cpu, most_tokens, token_batches
from common.model.inspect import inner_model
from common.model.losses import IGNORED
from common.model.precision import compute_dtype
from common.model.prefix_tree import attention_mask, prefix_tree, shared_length
from common.model.tree_attention import use_tree_attention

_TREE_TOKENS = {"sdpa": 4096, "eager": 512}  # every token meets every other; eager attention keeps all T² of them
_TREE_TOKENS_CPU = 1024
_KEPT_SHARE = 8  # of a tree's nodes, at most one in 8 gets logits


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """A prompt, and answers of which each token is to be predicted.

    Attributes:
        prompt: token ids, at least one.
        answers: token ids of each answer, at least one.
    """

    prompt: list[int]
    answers: Sequence[list[int]]

    def sequences(self) -> list[list[int]]:
        """Return the prompt before each answer; the answer's last token predicts nothing."""
        return [self.prompt + answer[:-1] for answer in self.answers]


class Layout(abc.ABC):
    """Lays prompts with answers out.

    Args:
        model: a causal language model.
        pad_token_id: of its tokenizer.
    """

    def __init__(self, model: nn.Module, pad_token_id: int) -> None:
        self.model, self.pad_token_id = model, pad_token_id

    def most_tokens(self, budget: int) -> int:
        """Return the most tokens of a forward pass under a token budget."""
        return most_tokens(budget, self.model)

    @abc.abstractmethod
    def tokens(self, row: Answered) -> int:
        """Return the tokens that a row takes when it shares none."""

    @abc.abstractmethod
    def groups(self, rows: Sequence[Answered], budget: int) -> list[list[int]]:
        """Return the indices of rows as batches of at most `budget` tokens; a larger row is a batch of its own."""

    @abc.abstractmethod
    def batch(self, rows: Sequence[Answered]) -> Batch:
        """Return the inputs of B rows with at most A answers of at most K tokens.

        Beside the model's inputs these are `tokens` (B, A, K), the answers' token ids, at their end `IGNORED`; and
        `places` (B, A, K), the index in `logits` of the logits that predict each of them.
        """

    @abc.abstractmethod
    def logits(self, batch: Batch, precision: str) -> torch.Tensor:
        """Return the logits (N, V) that a batch needs; `precision` is that of the backbone."""


class PaddedLayout(Layout):
    """Rows padded on the left, so that all answers end at the last position."""

    def tokens(self, row: Answered) -> int:
        """Return the tokens of a row's sequences, padded to the longest."""
        sequences = row.sequences()
        return len(set(_covering(sequences))) * max(map(len, sequences))

    def groups(self, rows: Sequence[Answered], budget: int) -> list[list[int]]:
        """Return rows of similar length together."""
        return token_batches([self.tokens(row) for row in rows], self.most_tokens(budget))

    def batch(self, rows: Sequence[Answered]) -> Batch:
        """Return `input_ids`, `attention_mask`, `position_ids` (S, L) of S sequences, and `last` (K): see `logits`."""
        sequences: list[list[int]] = []
        spans = []  # of every answer: its sequence, and the depth of the token that predicts its first token
        for row in rows:
            own = row.sequences()
            covering = _covering(own)
            distinct = sorted(set(covering))
            spans.append([(len(sequences) + distinct.index(index), len(row.prompt) - 1) for index in covering])
            sequences += [own[index] for index in distinct]
        last = max(len(sequences[sequence]) - depth for row in spans for sequence, depth in row)
        places = [
            [
                range(first := (sequence + 1) * last - len(sequences[sequence]) + depth, first + len(answer))
                for answer, (sequence, depth) in zip(row.answers, row_spans, strict=True)
            ]
            for row, row_spans in zip(rows, spans, strict=True)
        ]
        return left_padded(sequences, self.pad_token_id) | _answers(rows, places) | {"last": torch.arange(-last, 0)}

    def logits(self, batch: Batch, precision: str) -> torch.Tensor:
        """Return the logits (S K, V) at the last K positions of all sequences."""
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")}
        logits = self.model(**inputs, logits_to_keep=len(batch["last"]), use_cache=False).logits
        return logits.flatten(0, 1)


class TreeLayout(Layout):
    """One prefix tree for all rows of a batch, without padding: what they share is computed once."""

    def __init__(self, model: nn.Module, pad_token_id: int) -> None:
        super().__init__(model, pad_token_id)
        self.config: Any = inner_model(model).config
        use_tree_attention(self.config)

    def most_tokens(self, budget: int) -> int:
        """Return the nodes of the largest tree under a token budget."""
        limit = _TREE_TOKENS["eager" if self.config._attn_implementation == "eager" else "sdpa"]
        if is_on_cpu(self.model):
            limit = min(limit, _TREE_TOKENS_CPU)
        return min(budget, limit)

    def tokens(self, row: Answered) -> int:
        """Return the nodes of a row's tree."""
        return len(row.prompt) + _nodes_below(row.answers)

    def groups(self, rows: Sequence[Answered], budget: int) -> list[list[int]]:
        """Return rows in alphabetical order of their tokens: neighbours share the most."""
        budget = self.most_tokens(budget)
        below: dict[int, int] = {}  # nodes below the prompt, by the answers, which rows share in scoring
        groups: list[list[int]] = []
        nodes = kept = 0
        before: list[int] = []
        for index in sorted(range(len(rows)), key=lambda i: rows[i].prompt):
            prompt, answers = rows[index].prompt, rows[index].answers
            answered = below.setdefault(id(answers), _nodes_below(answers))
            own = len(prompt) - shared_length(before, prompt) + answered
            is_full = nodes + own > budget or (kept + 1 + answered) * _KEPT_SHARE > budget
            if not groups or is_full:
                groups.append([])
                nodes = kept = 0
                own = len(prompt) + answered
            groups[-1].append(index)
            nodes, kept, before = nodes + own, kept + 1 + answered, prompt
        return groups

    def batch(self, rows: Sequence[Answered]) -> Batch:
        """Return `input_ids` and `position_ids` (1, T), `ends` (T) of a `PrefixTree`; `kept` (N), nodes with logits."""
        tree = prefix_tree([sequence for row in rows for sequence in row.sequences()])
        paths = iter(tree.paths)
        nodes = [[next(paths)[len(row.prompt) - 1 :] for _ in row.answers] for row in rows]
        kept = sorted({node for row in nodes for path in row for node in path})
        place = {node: index for index, node in enumerate(kept)}
        places = [[[place[node] for node in path] for path in row] for row in nodes]
        return {
            "input_ids": torch.tensor([tree.input_ids]),
            "position_ids": torch.tensor([tree.position_ids]),
            "ends": torch.tensor(tree.ends),
            "kept": torch.tensor(kept),
            **_answers(rows, places),
        }

    def logits(self, batch: Batch, precision: str) -> torch.Tensor:
        """Return the logits (N, V) of the kept nodes."""
        mask = attention_mask(self.config, batch["position_ids"][0], batch["ends"], compute_dtype(precision))
        inputs: dict[str, Any] = {key: batch[key] for key in ("input_ids", "position_ids")}
        if self.config._attn_implementation == tree_attention.NAME and is_on_cpu(self.model):
            # A GPU runs few large kernels faster than many small ones.
            inputs["tree_parts"] = tree_attention.tree_parts(batch["position_ids"][0], batch["ends"])
        return self.model(**inputs, attention_mask=mask, logits_to_keep=batch["kept"], use_cache=False).logits[0]


def left_padded(sequences: Sequence[Sequence[int]], pad_token_id: int) -> Batch:
    """Return `input_ids`, `attention_mask` and `position_ids` (S, L) of sequences that all end at the last position."""
    longest = max(map(len, sequences))
    gaps = [longest - len(sequence) for sequence in sequences]
    padded = [[*[pad_token_id] * gap, *sequence] for gap, sequence in zip(gaps, sequences, strict=True)]
    ids = torch.tensor(padded, dtype=torch.int64)
    mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps], dtype=torch.int64)
    # Models count positions from the first column unless told otherwise.
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


def _covering(sequences: Sequence[list[int]]) -> list[int]:
    """Return for every sequence the index of the longest one that it begins, or that it is."""
    order = sorted(range(len(sequences)), key=lambda index: sequences[index])
    covering = list(range(len(sequences)))
    for index, after in reversed(list(itertools.pairwise(order))):
        if sequences[after][: len(sequences[index])] == sequences[index]:
            covering[index] = covering[after]
    return covering


def _nodes_below(answers: Sequence[list[int]]) -> int:
    """Return the nodes below a prompt: the different beginnings of its answers, without the answers' last tokens."""
    return len({tuple(answer[:length]) for answer in answers for length in range(1, len(answer))})


def _answers(rows: Sequence[Answered], places: Sequence[Sequence[Sequence[int]]]) -> Batch:
    """Return `tokens` and `places` (B, A, K) of the rows' answers."""
    most = max(len(row.answers) for row in rows)
    longest = max(len(answer) for row in rows for answer in row.answers)
    tokens = torch.full((len(rows), most, longest), IGNORED)
    where = torch.zeros((len(rows), most, longest), dtype=torch.int64)
    for row, (answered, row_places) in enumerate(zip(rows, places, strict=True)):
        for index, (answer, own) in enumerate(zip(answered.answers, row_places, strict=True)):
            tokens[row, index, : len(answer)] = torch.tensor(answer)
            where[row, index, : len(answer)] = torch.tensor(list(own))
    return {"tokens": tokens, "places": where}
