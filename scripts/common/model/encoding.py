"""Encode rows for the classification head: one text, or a true pair of the tokenizer; shorten texts to fit."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from common.data.rows import Row
from common.model.batching import Encoded


class Encoder:
    """Turns rows into token ids: two texts are a true pair of the tokenizer; each further text is a line of the second.

    If the tokenizer puts no special token between the texts of a pair, a line break separates them.

    Args:
        tokenizer: of the base model.
        max_length: most tokens of a row; longer rows lose the end of their longest text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        # Qwen's tokenizer, for example, would join the two texts without a space.
        self.joins_pairs = tokenizer.num_special_tokens_to_add(pair=True) == 0

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Return the number of tokens of every row before truncation, special tokens included."""
        return [len(ids) for ids in self._whole(rows)["input_ids"]]

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Return the token ids of every row. Truncation shortens the longest text alone, and is marked on the row."""
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
        columns = [list(texts) for texts in zip(*(self._pair(row.texts) for row in rows), strict=True)]
        return self.tokenizer(*columns, truncation=False, verbose=False)

    def _truncate(self, texts: tuple[str, ...]) -> dict[str, list[int]]:
        pair = self._pair(texts)
        special = self.tokenizer.num_special_tokens_to_add(pair=len(pair) > 1)
        side = "longest_first"
        if len(pair) < len(texts):
            # A line break costs at most one token; the tokenizer cuts a row that is still too long.
            room = self.max_length - special - (len(texts) - len(pair))
            pair = self._pair(shorten(self.tokenizer, texts, max(room, 0)))
        else:
            lengths = [token_count(self.tokenizer, text) for text in texts]
            if sum(lengths) - max(lengths) + special < self.max_length:
                side = "only_first" if lengths[0] == max(lengths) else "only_second"
        return dict(self.tokenizer(*pair, truncation=side, max_length=self.max_length, verbose=False))

    def _pair(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        if self.joins_pairs:
            return ("\n".join(texts),)
        return texts if len(texts) < 3 else (texts[0], "\n".join(texts[1:]))


def shorten(tokenizer: Any, texts: Sequence[str], room: int) -> tuple[str, ...]:
    """Return the texts, shortened at their ends so that together they have at most `room` tokens.

    Args:
        tokenizer: a fast one, which returns the offsets of tokens.
        texts: of one row.
        room: tokens for all of them, at least 0.
    """
    encodings = [
        tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False) for text in texts
    ]
    offsets = [encoding["offset_mapping"] for encoding in encodings]
    limits = _limits([len(spans) for spans in offsets], room)
    return tuple(
        text if len(spans) <= limit else text[: spans[limit][0]].rstrip()
        for text, spans, limit in zip(texts, offsets, limits, strict=True)
    )


def token_count(tokenizer: Any, text: str) -> int:
    """Return the number of tokens of a text alone, without special tokens."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _limits(counts: list[int], room: int) -> list[int]:
    """Return the tokens that each text may keep: the longest alone is cut, or all are cut to one length."""
    others = sum(counts) - max(counts)
    if others < room:
        longest = counts.index(max(counts))
        return [room - others if index == longest else count for index, count in enumerate(counts)]
    level = max(counts)
    while sum(min(count, level) for count in counts) > room:
        level -= 1
    return [min(count, level) for count in counts]
