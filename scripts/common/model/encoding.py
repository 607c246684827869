"""Encode rows for the classification head: one text, or a true pair of the tokenizer; shorten texts to fit."""

from collections.abc import Sequence
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from common.core.errors import ModelError
from common.data.rows import Row
from common.model.batching import Encoded
from common.model.control_tokens import ControlTokens
from common.model.vocabulary import check_ids

Truncation = Literal["tail", "head_and_tail"]
_GAP = " ... "  # between the start and the end of a text whose middle is cut out


class Encoder:
    """Turns rows into token ids: two texts are a true pair of the tokenizer; each further text is a line of the second.

    If the tokenizer puts no special token between the texts of a pair, a line break separates them. A special token
    that a text spells is ordinary text (`control_tokens`).

    Args:
        tokenizer: of the base model.
        max_length: most tokens of a row; longer rows lose a part of their longest text.
        truncation: which part, see `shorten`.

    Attributes:
        control: the tokenizer's control tokens.
        id_limit: the number of rows of the model's embedding, where known: a larger token id is an error.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, truncation: Truncation = "tail") -> None:
        self.tokenizer, self.max_length, self.truncation = tokenizer, max_length, truncation
        self.control = ControlTokens(tokenizer)
        self.id_limit: int | None = None
        # Qwen's tokenizer, for example, would join the two texts without a space.
        self.joins_pairs = tokenizer.num_special_tokens_to_add(pair=True) == 0

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """Return the number of tokens of every row before truncation, special tokens included."""
        return [len(ids["input_ids"]) for ids, _ in self._whole(rows)]

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Return the token ids of every row. Truncation shortens the longest text alone, and is marked on the row.

        Raises:
            ModelError: a row has a token that the model's embedding lacks, or its special tokens cannot be told from
                its texts.
        """
        encoded = []
        for row, (ids, tokenizer) in zip(rows, self._whole(rows), strict=True):
            truncated = len(ids["input_ids"]) > self.max_length
            if truncated:
                ids = self._truncate(row.texts, tokenizer)
            check_ids(self.tokenizer, ids["input_ids"], self.id_limit, f"row {row.id}")
            encoded.append(Encoded(ids["input_ids"], ids.get("token_type_ids"), row.label, row.weight, truncated))
        return encoded

    def _whole(self, rows: Sequence[Row]) -> list[tuple[dict[str, list[int]], Any]]:
        """Return every row's token ids and types before truncation, and the tokenizer that reads its texts."""
        if not rows:
            return []
        columns = [list(texts) for texts in zip(*(self._pair(row.texts) for row in rows), strict=True)]
        batch = self.tokenizer(*columns, truncation=False, verbose=False)
        own = self.control.count(self.tokenizer(*("x" for _ in columns), verbose=False)["input_ids"])
        whole: list[tuple[dict[str, list[int]], Any]] = []
        for index, row in enumerate(rows):
            ids, tokenizer = {key: values[index] for key, values in batch.items()}, self.tokenizer
            # The names of two tokens may also meet where texts are joined.
            if self.control.are_spelled(row.texts) or self.control.count(ids["input_ids"]) != own:
                tokenizer = self.control.reader
                ids = _ids(tokenizer, self._pair(row.texts))
                if self.control.count(ids["input_ids"]) != own:
                    raise ModelError(f"row {row.id}: {self.control.cannot_be_read}")
            whole.append((ids, tokenizer))
        return whole

    def _truncate(self, texts: tuple[str, ...], tokenizer: Any) -> dict[str, list[int]]:
        pair = self._pair(texts)
        special = self.tokenizer.num_special_tokens_to_add(pair=len(pair) > 1)
        side = "longest_first"
        if len(pair) < len(texts) or self.truncation != "tail":
            # A line break costs at most one token; the tokenizer cuts a row that is still too long.
            room = max(self.max_length - special - (len(texts) - len(pair)), 0)
            pair = self._pair(shorten(tokenizer, texts, room, self.truncation))
            while self.truncation != "tail" and room and (over := self._over(pair, tokenizer)):
                room = max(room - over, 0)
                pair = self._pair(shorten(tokenizer, texts, room, self.truncation))
        else:
            lengths = [token_count(tokenizer, text) for text in texts]
            if sum(lengths) - max(lengths) + special < self.max_length:
                side = "only_first" if lengths[0] == max(lengths) else "only_second"
        return _ids(tokenizer, pair, truncation=side, max_length=self.max_length)

    def _over(self, pair: tuple[str, ...], tokenizer: Any) -> int:
        """Return how many tokens more than max_length a row has."""
        return max(len(_ids(tokenizer, pair)["input_ids"]) - self.max_length, 0)

    def _pair(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        if self.joins_pairs:
            return ("\n".join(texts),)
        return texts if len(texts) < 3 else (texts[0], "\n".join(texts[1:]))


def _ids(tokenizer: Any, pair: tuple[str, ...], **options: Any) -> dict[str, list[int]]:
    """Return the token ids and types of one row."""
    # Outside a list, an empty second text would be no text, and the row no pair.
    batch = tokenizer(*([text] for text in pair), **{"truncation": False, **options}, verbose=False)
    return {key: values[0] for key, values in batch.items()}


def shorten(tokenizer: Any, texts: Sequence[str], room: int, truncation: Truncation = "tail") -> tuple[str, ...]:
    """Return the texts, shortened so that together they have at most `room` tokens.

    Args:
        tokenizer: a fast one, which returns the offsets of tokens.
        texts: of one row.
        room: tokens for all of them, at least 0.
        truncation: "tail" cuts off the end of a text; "head_and_tail" keeps its start and its end, half each, with
            " ... " between them, as far as there is room for that. There, tokens may merge or part: a few may be too
            many.
    """
    encodings = [
        tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False) for text in texts
    ]
    offsets = [encoding["offset_mapping"] for encoding in encodings]
    limits = _limits([len(spans) for spans in offsets], room)
    gap = token_count(tokenizer, _GAP) if truncation == "head_and_tail" else 0
    return tuple(
        text if len(spans) <= limit else _cut(text, spans, limit, gap)
        for text, spans, limit in zip(texts, offsets, limits, strict=True)
    )


def _cut(text: str, spans: list[tuple[int, int]], limit: int, gap: int) -> str:
    """Return a text of fewer tokens: its start, and with a gap of that many tokens its end."""
    end = (limit - gap) // 2 if gap else 0
    if end < 1:
        return text[: spans[limit][0]].rstrip()
    return text[: spans[limit - gap - end][0]].rstrip() + _GAP + text[spans[len(spans) - end][0] :].lstrip()


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
