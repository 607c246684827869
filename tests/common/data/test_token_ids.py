"""What a tokenizer makes of the texts: unknown tokens, and different texts that become the same tokens."""

import pytest
from toy_runs import dataset

from common.data import checks, leaks
from common.data.rows import Row

LENGTHS = {"min": 1, "median": 2.0, "p95": 3.0, "max": 3, "truncated_count": 0, "truncated_share": 0.0}


def row(text: str) -> Row:
    return Row(text, ("A claim.", text), 0)


def test_they_are_counted():
    rows = [row("漢"), row("字"), row("Good  idea"), row("good idea"), row("bad")]
    ids = [[1, 0, 2], [1, 0, 2], [1, 5, 2], [1, 5, 2], [1, 6, 2, 0]]
    found = checks.summarize_token_ids(rows, ids, 0, spelled=3)
    assert (found["unknown_token_count"], found["unknown_token_share"]) == (3, 3 / 16)
    assert (found["collapsed_count"], found["collapsed_share"]) == (2, 2 / 5)  # case and spaces do not count
    assert found["special_spelled_count"] == 3
    assert checks.summarize_token_ids(rows, ids, None, 0)["unknown_token_count"] == 0
    assert checks.summarize_token_ids([], [], 0, 0)["unknown_token_share"] == 0.0


@pytest.mark.parametrize(("count", "warned"), [(1, False), (2, True)])
def test_more_than_one_percent_is_a_warning(count, warned):
    rows = [row(f"text {index}") for index in range(100)]
    ids = [[0] if index < count else [7 + index] for index in range(100)]
    summary = LENGTHS | checks.summarize_token_ids(rows, ids, 0, 4)
    found = {
        "splits": checks.count_rows({"train": rows}, dataset()),
        "tokens": {"train": summary},
        **leaks.find_leaks({"train": rows}, dataset()),
    }
    lines = "\n".join(checks.describe(found, dataset(), 64))
    assert f"Unknown tokens: {count} in train ({count}.0%)" in lines
    assert "read as ordinary text: 4 in train" in lines
    assert ("WARNING: more than 1 % of the tokens are unknown" in lines) == warned
    assert ("WARNING: more than 1 % of the rows have the same tokens" in lines) == warned
