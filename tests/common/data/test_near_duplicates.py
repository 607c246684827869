import itertools
import random

import pytest

from common.data import near_duplicates
from common.data.near_duplicates import find_near_pairs, similarity, without_punctuation

LONG = "the quick brown fox jumps over the lazy dog while seven wizards mix a jar of potent purple ink at noon"


@pytest.mark.parametrize("other", ["Hello,  World!", "hello world.", "\uff28ello world", "hello-world"])
def test_case_spaces_and_punctuation_are_no_difference(other):
    assert without_punctuation([other]) == ("hello world",)


def test_a_text_of_punctuation_alone_stays_itself():
    assert without_punctuation([":-)"]) != without_punctuation([":-("])


@pytest.mark.parametrize(
    ("one", "other", "is_near"),
    [
        (LONG, LONG.replace("purple", "orange"), True),  # one word
        (LONG, LONG.replace("purple", "orange").replace("brown", "black"), False),  # two words
        (LONG, LONG + " today", True),
        ("this movie is good", "this movie is bad", False),
        ("yes", "no", False),
        (LONG, "a text about something else altogether, which shares no word", False),
    ],
)
def test_both_sides_of_the_threshold(one, other, is_near):
    assert find_near_pairs([(one,), (other,)]) == ([(0, 1)] if is_near else [])


def test_both_texts_of_a_pair_must_be_near():
    other = LONG.replace("purple", "orange")
    assert find_near_pairs([("claim one", LONG), ("claim one", other)]) == [(0, 1)]
    assert find_near_pairs([("guns are good", LONG), ("taxes are bad", LONG)]) == []
    assert find_near_pairs([(LONG, "good"), (LONG, "bad")]) == []


def test_the_search_finds_what_comparing_all_pairs_finds():
    rng = random.Random(3)
    words = [f"w{number}x{'abc'[number % 3] * (number % 5)}" for number in range(60)]
    texts = [[rng.choice(words) for _ in range(rng.randint(4, 25))] for _ in range(120)]
    for text in texts[:80]:
        changed = list(text)
        changed[rng.randrange(len(changed))] = rng.choice(words)
        texts.append(changed)
    rows = list(dict.fromkeys((" ".join(text)[:300],) for text in texts))
    wanted = [(i, j) for i, j in itertools.combinations(range(len(rows)), 2) if similarity(rows[i], rows[j]) >= 0.8]
    assert find_near_pairs(rows) == wanted and len(wanted) > 20


def test_no_rows_and_too_many(monkeypatch):
    assert find_near_pairs([]) == []
    monkeypatch.setattr(near_duplicates, "MAX_ROWS", 1)
    assert find_near_pairs([("a",), ("b",)]) is None


def test_rows_that_are_all_alike_are_not_compared_for_hours(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_MAX_COST", 1000)
    assert find_near_pairs([(f"{LONG} {number}",) for number in range(100)]) is None


def test_one_pair_among_ten_thousand_rows_costs_few_comparisons(monkeypatch):
    rng = random.Random(1)
    words = ["".join(rng.choice("abcdefghijklmnop") for _ in range(6)) for _ in range(3000)]
    rows = [(" ".join(rng.choice(words) for _ in range(14)),) for _ in range(10_000)]
    compared, similar = [], near_duplicates._similar

    def count(grams, sizes, i, j):
        compared.append(len(i))
        return similar(grams, sizes, i, j)

    monkeypatch.setattr(near_duplicates, "_similar", count)
    assert find_near_pairs([*rows, (rows[0][0] + " x",)]) == [(0, 10_000)]
    assert sum(compared) < 100_000  # all pairs are 50 million


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_two_texts_are_found_as_by_comparing_all(seed):
    draw = random.Random(seed)
    words = [
        "actor",
        "bad",
        "boring",
        "camera",
        "film",
        "good",
        "great",
        "music",
        "of",
        "plot",
        "really",
        "saw",
        "story",
        "the",
        "very",
    ]
    rows: list[tuple[str, str]] = []
    for _ in range(100):
        one, other = ([draw.choice(words) for _ in range(draw.randrange(4, 16))] for _ in range(2))
        rows.append((" ".join(one), " ".join(other)))
        changed = [*other]
        changed[draw.randrange(len(changed))] = draw.choice(words)
        rows.append((" ".join(one), " ".join(changed)))
    rows = list(dict.fromkeys(rows))
    wanted = [
        (i, j)
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
        if near_duplicates.similarity(rows[i], rows[j]) >= near_duplicates.THRESHOLD
    ]
    assert wanted and find_near_pairs(rows) == wanted
