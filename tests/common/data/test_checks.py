import json

from toy_runs import dataset

from common.core.formatting import printable_json
from common.data import checks
from common.data.leaks import find_leaks
from common.data.load import load_rows
from common.data.rows import Row


def row(number, text, label=0, group=None):
    return Row(id=str(number), texts=("Claim", text), label=label, group=group)


def test_counts_name_every_label():
    rows = {"train": [row(1, "a", 1, "x"), row(2, "b", 1, "y"), row(3, "c", 0, "x")], "test": [row(1, "d", 1)]}
    assert checks.count_rows(rows, dataset()) == {
        "train": {
            "n": 3,
            "labels": {"con": 1, "pro": 2},
            "groups": {"x": 2, "y": 1},
            "number_texts": {"claim": 0, "sentence": 0},
            "damaged_texts": 0,
        },
        "test": {
            "n": 1,
            "labels": {"con": 0, "pro": 1},
            "groups": {},
            "number_texts": {"claim": 0, "sentence": 0},
            "damaged_texts": 0,
        },
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


def test_texts_that_are_numbers_are_counted_by_column():
    texts = ["12", "-1.5e3", " True ", "false", ".5", "3 films", "No. 4", "1,2", "nan", "N/A", "\\N", "na ja"]
    rows = {"train": [row(number, text) for number, text in enumerate(texts)], "test": [row(1, "7")]}
    found = {"splits": checks.count_rows(rows, dataset()), "tokens": {}}
    assert found["splits"]["train"]["number_texts"] == {"claim": 0, "sentence": 8}
    assert checks.reading_counts(found)["number_text_count"] == 9
    assert "alone: 8 in train, column 'sentence'; 1 in test, column 'sentence'" in checks.reading_lines(found)[0]


def test_damaged_texts_are_counted():
    texts = ["für alle", "fÃ¼r alle", "Ende \ufffd", "¡Olé!", "Ã", "漢字", "donâ€™t"]
    # Bytes that cp1252 lacks: of Á, of a quotation mark; and a text read as latin-1.
    texts += ["Ã\x81 bientÃ´t", "â€œyesâ€\x9d", "itâ\x80\x99s", "a\x85b", "漢\x81"]
    found = {"splits": checks.count_rows({"train": [row(n, text) for n, text in enumerate(texts)]}, dataset())}
    assert checks.reading_counts(found | {"tokens": {}})["damaged_text_count"] == 6
    assert "wrong encoding once" in checks.reading_lines(found | {"tokens": {}})[1]
    assert "6 in train" in checks.reading_lines(found | {"tokens": {}})[1]


def test_terminal_escapes(case):
    source = {"files": str(case("terminal-escapes.jsonl"))}
    rows = load_rows(dataset(source=source, text=["text"], label="label", labels=["bad", "good"], id="id", group="g"))
    found = {"splits": checks.count_rows(rows, rows.dataset), "tokens": {}, **find_leaks(rows, rows.dataset)}
    lines = "\n".join(checks.describe(found, rows.dataset, 64))
    assert "train 0\\x1b]0;PWNTITLE\\x07" in lines and not any(char < " " and char != "\n" for char in lines)


def test_lines_for_people_hold_no_control_characters():
    odd = "\x1b[2J\n\u202e"
    rows = {
        "train": [Row(odd, ("a", "b"), 0, odd), Row("2", ("a", "b"), 1, odd)],
        "test": [Row("3", ("a", "b"), 0, odd)],
    }
    found = {"splits": checks.count_rows(rows, dataset()), "tokens": {}, **find_leaks(rows, dataset())}
    lines = "\n".join(checks.describe(found, dataset(group="claim"), 64))
    assert "\\x1b[2J\\n\\u202e" in lines and not set(lines) & {"\x1b", "\u202e"}
    assert json.loads(printable_json(json.dumps(found, ensure_ascii=False))) == found
