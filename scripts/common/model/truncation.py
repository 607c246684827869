"""Cut a row's texts to a number of tokens: the longest text alone, and others only where that is not enough."""

from collections.abc import Sequence
from typing import Any


def shorten(tokenizer: Any, texts: Sequence[str], room: int) -> tuple[str, ...]:
    """Return the texts with their ends cut off so that together they have at most `room` tokens.

    Args:
        tokenizer: a fast one, which knows where in the text a token lies.
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
    """Return the tokens of a text by itself, without special ones."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _limits(counts: list[int], room: int) -> list[int]:
    """Return the tokens each text may keep: the longest gives all that is needed, or else all are levelled."""
    others = sum(counts) - max(counts)
    if others < room:
        longest = counts.index(max(counts))
        return [room - others if index == longest else count for index, count in enumerate(counts)]
    level = max(counts)
    while sum(min(count, level) for count in counts) > room:
        level -= 1
    return [min(count, level) for count in counts]
