import pytest
from toy_runs import dataset

from common.core.errors import DataError
from common.data import leaks, near_duplicates
from common.data.rows import Row


def row(number, text, label=0):
    return Row(id=str(number), texts=("Claim", text), label=label)


def test_near_duplicates_are_counted_beside_the_exact_ones():
    rows = {
        "train": [row(1, "One two three"), row(2, "one  TWO three"), row(3, "one two three!"), row(4, "four")],
        "validation": [row(1, "Four.")],
        "test": [row(1, "one two three"), row(2, "One, two, three."), row(3, "something else")],
    }
    found = leaks.find_leaks(rows, dataset())
    assert found["duplicates"]["within"] == {"train": 1, "validation": 0, "test": 0}
    assert found["near_duplicates"]["within"] == {"train": 1, "validation": 0, "test": 1}
    assert found["duplicates"]["between"]["test in train"] == 1
    near = {"validation in train": 1, "test in train": 1, "test in validation": 0}
    assert found["near_duplicates"]["between"] == near
    assert found["near_duplicates"]["leaked"] == [["validation", "1", "4"], ["test", "1", "1"], ["test", "2", "1"]]
    assert leaks.leak_counts(found) == {
        "duplicate_count": 1,
        "leaked_count": 1,
        "contradiction_count": 0,
        "near_duplicate_count": 2,
        "near_leaked_count": 2,
        "near_contradiction_count": 0,
    }
    assert "1 (nearly: 2)" in leaks.summary(found)


def test_strict_names_the_rows_that_leak():
    found = leaks.find_leaks({"train": [row("a", "Same words")], "test": [row("b", "same words.")]}, dataset())
    with pytest.raises(DataError) as error:
        leaks.check_strict(found)
    assert "test b = train a" in str(error.value) and "Remove" in str(error.value)


@pytest.mark.parametrize("other", ["same words", "Same words.", "SAME  words"])
def test_strict_refuses_contradictory_labels(other):
    found = leaks.find_leaks({"train": [row("a", "Same words", 0), row("b", other, 1)]}, dataset())
    with pytest.raises(DataError) as error:
        leaks.check_strict(found)
    assert "train a = con; train b = pro" in str(error.value)


def test_a_negation_with_another_label_is_counted_and_allowed():
    text = "positive discrimination towards women should be allowed in every company of the country"
    rows = {"train": [row("a", text, 0), row("b", text.replace("should", "should not"), 1)]}
    found = leaks.find_leaks(rows, dataset())
    assert found["near_contradictions"]["count"] == 1 and found["near_contradictions"]["punctuation_count"] == 0
    leaks.check_strict(found)


def test_strict_passes_clean_rows():
    leaks.check_strict(leaks.find_leaks({"train": [row(1, "one"), row(2, "two")], "test": [row(3, "six")]}, dataset()))


def test_long_texts_are_compared_as_a_whole():
    body = " ".join(f"word{number} goes on" for number in range(60))
    rows = {"train": [row(1, "First published in 2019. " * 5 + body)], "test": [row(2, "Read here: " * 9 + body)]}
    found = leaks.find_leaks(rows, dataset())
    assert leaks.leak_counts(found)["near_leaked_count"] == 1
    other = " ".join(f"name{number} is new" for number in range(60))
    rows = {"train": [row(1, body + " " + other)], "test": [row(2, body + " nothing of the kind " * 40)]}
    assert leaks.leak_counts(leaks.find_leaks(rows, dataset()))["near_leaked_count"] == 0


def test_what_was_not_searched_is_said(monkeypatch):
    monkeypatch.setattr(near_duplicates, "MAX_ROWS", 1)
    found = leaks.find_leaks({"train": [row(1, "one"), row(2, "two")]}, dataset())
    assert leaks.leak_counts(found)["near_leaked_count"] is None and "not looked for" in leaks.summary(found)
    with pytest.raises(DataError, match="not looked for"):
        leaks.check_strict(found)
