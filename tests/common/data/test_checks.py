from toy_runs import dataset

from common.data import checks
from common.data.rows import Row


def row(number, text, label=0, group=None):
    return Row(id=str(number), texts=("Claim", text), label=label, group=group)


def test_counts_name_every_label():
    rows = {"train": [row(1, "a", 1, "x"), row(2, "b", 1, "y"), row(3, "c", 0, "x")], "test": [row(1, "d", 1)]}
    assert checks.count_rows(rows, dataset()) == {
        "train": {"n": 3, "labels": {"con": 1, "pro": 2}, "groups": {"x": 2, "y": 1}},
        "test": {"n": 1, "labels": {"con": 0, "pro": 1}, "groups": {}},
    }


def test_duplicates_disregard_case_and_spaces():
    rows = {
        "train": [row(1, "One two"), row(2, "one  TWO "), row(3, "three")],
        "validation": [row(1, "four")],
        "test": [row(1, "ONE two"), row(2, "four"), row(3, "five")],
    }
    found = checks.count_duplicates(rows)
    assert found["within"] == {"train": 1, "validation": 0, "test": 0}
    assert found["between"] == {"validation in train": 0, "test in train": 1, "test in validation": 1}


def test_a_pair_is_the_same_only_with_both_texts():
    rows = {"train": [Row("1", ("A", "b"), 0), Row("2", ("B", "b"), 0)]}
    assert checks.count_duplicates(rows)["within"] == {"train": 0}


def test_contradictions():
    rows = {"train": [row(1, "same", 0), row(2, "other", 1)], "test": [row(7, "Same", 1), row(8, "other", 1)]}
    found = checks.find_contradictions(rows, dataset())
    assert found == {"count": 1, "examples": [[["train", "1", "con"], ["test", "7", "pro"]]]}


def test_contradictions_show_a_few_and_count_all():
    rows = {"train": [row(number, f"text {number // 2}", number % 2) for number in range(40)]}
    found = checks.find_contradictions(rows, dataset())
    assert found["count"] == 20
    assert len(found["examples"]) == 5


def test_token_lengths():
    found = checks.summarize_token_lengths([3, 5, 10, 2], truncated=1)
    assert (found["min"], found["median"], found["max"]) == (2, 4.0, 10)
    assert 5 < found["p95"] < 10
    assert (found["truncated_count"], found["truncated_share"]) == (1, 0.25)
