import itertools
import random

import pytest

from common.data import near_duplicates
from common.data.near_duplicates import THRESHOLD, find_near_pairs, similarity, without_punctuation

LONG = "the quick brown fox jumps over the lazy dog while seven wizards mix a jar of potent purple ink at noon"


def compare_all(rows):
    """Return the similarity of every pair of rows, computed from their sets of 5-grams."""
    grams = [[{text[place : place + 5] for place in range(max(len(text) - 4, 1))} for text in row] for row in rows]
    pairs = itertools.combinations(range(len(rows)), 2)
    return {(i, j): min(len(a & b) / len(a | b) for a, b in zip(grams[i], grams[j], strict=True)) for i, j in pairs}


@pytest.mark.parametrize("other", ["Hello,  World!", "hello world.", "\uff28ello world", "hello-world"])
def test_case_spaces_and_punctuation_are_no_difference(other):
    assert without_punctuation([other]) == ("hello world",)


def test_a_text_of_punctuation_alone_stays_itself():
    assert without_punctuation([":-)"]) != without_punctuation([":-("])


def test_a_nul_in_a_text_hides_no_row_after_it():
    rows = [[LONG, LONG], [":-)\0:-( ?!", "other"], [LONG, LONG + " today"]]
    assert find_near_pairs([without_punctuation(row) for row in rows]) == [(0, 2)]
    assert without_punctuation(["\0", "?\0!"]) == ("", "? !")


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
    wanted = [pair for pair, found in compare_all(rows).items() if found >= THRESHOLD]
    assert find_near_pairs(rows) == wanted and len(wanted) > 20


def test_long_texts_are_found_as_by_comparing_all():
    """Texts of 200 to 3,000 characters, changed at their start, at their end or throughout, by more or less."""
    draw = random.Random(0)
    words = ["".join(draw.choice("abcdefghijklmnop") for _ in range(draw.randint(2, 9))) for _ in range(900)]
    rows = list[tuple[str, ...]]()
    for number in range(60):
        text = [draw.choice(words) for _ in range(draw.randint(35, 500))]
        rows.append((" ".join(text),))
        changed, count = list(text), round(len(text) * draw.choice([0.01, 0.05, 0.15]))
        place = draw.choice([range(len(text)), range(count), range(len(text) - count, len(text))])
        for index in draw.sample(place, count):
            changed[index] = draw.choice(words)
        rows.append((" ".join(changed[: -count or None] if number % 3 == 0 else changed),))
    rows = list(dict.fromkeys(rows))
    similarities = compare_all(rows)
    wanted = [pair for pair, found in similarities.items() if found >= THRESHOLD]
    assert all(similarity(rows[i], rows[j]) == similarities[i, j] for i, j in wanted)
    assert len(wanted) > 20 and any(0.6 < found < THRESHOLD for found in similarities.values())
    assert find_near_pairs(rows) == wanted


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
    wanted = [pair for pair, found in compare_all(rows).items() if found >= THRESHOLD]
    assert wanted and find_near_pairs(rows) == wanted
