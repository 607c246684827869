"""Texts are shortened to a number of tokens: the longest alone, the others only if that is not enough."""

import pytest
import tiny_causal

from common.model.encoding import shorten, token_count


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_causal.make_tokenizer("qwen")


def words(count: int) -> str:
    return ("pro" + " idea" * (count - 1)) if count else ""


def counts(tokenizer, texts) -> list[int]:
    return [token_count(tokenizer, text) for text in texts]


@pytest.mark.parametrize(
    ("before", "room", "after"),
    [
        ([4, 40], 20, [4, 16]),
        ([40, 4], 20, [16, 4]),
        ([12, 13, 9], 30, [12, 9, 9]),  # the longest alone, even if it ends up the shortest
        ([4, 16], 20, [4, 16]),
        ([40, 60], 20, [10, 10]),
        ([40, 5, 60], 20, [7, 5, 7]),
        ([30], 7, [7]),
        ([5, 9], 0, [0, 0]),
    ],
)
def test_the_longest_text_is_cut_first(tokenizer, before, room, after):
    texts = [words(count) for count in before]
    assert counts(tokenizer, texts) == before
    short = shorten(tokenizer, texts, room)
    assert counts(tokenizer, short) == after
    assert all(text.startswith(kept) for text, kept in zip(texts, short, strict=True))


@pytest.mark.parametrize("room", range(12))
def test_a_character_is_never_divided(tokenizer, room):
    text = "a 👩‍👩‍👧 漢字 ünï\n end"
    [short] = shorten(tokenizer, [text], room)
    assert text.startswith(short) and short == short.rstrip()
    assert token_count(tokenizer, short) <= room


def test_special_tokens_are_not_counted():
    tokenizer = tiny_causal.make_tokenizer("llama")
    assert token_count(tokenizer, "pro") == len(tokenizer("pro")["input_ids"]) - 1
    assert shorten(tokenizer, ["pro"], 1) == ("pro",)
