"""The label column: missing labels, unknown labels, odd characters, label_map, drop_labels and `labels: all`."""

import unicodedata
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED
from toy_runs import dataset

from common.core.errors import ConfigError, DataError
from common.data.load import load_rows
from common.data.rows import rows_fingerprint, to_rows
from common.data.table_writer import write_table


def table(*labels):
    """A table whose label column is `stance`."""
    texts = [f"text {number}" for number in range(len(labels))]
    frame = pd.DataFrame({"claim": ["A"] * len(labels), "sentence": texts}, dtype=object)
    frame["stance"] = pd.Series(list(labels), dtype=object)
    return frame


def read(*labels, **changes):
    """The indices of labels in a table, which begins with row 1."""
    frame = table(*labels)
    frame.index = pd.RangeIndex(1, len(labels) + 1)
    return [row.label for row in to_rows(frame, dataset(**changes), "rows.csv", "train")]


def load(tmp_path, *labels, more=None, **changes):
    write_table(tmp_path / "train.jsonl", table(*labels))
    for split, values in (more or {}).items():
        write_table(tmp_path / f"{split}.jsonl", table(*values))
    return load_rows(dataset(**changes), tmp_path)


def message(call, *arguments, **changes):
    with pytest.raises(DataError) as raised:
        call(*arguments, **changes)
    return str(raised.value)


# --- missing labels --------------------------------------------------------------------------------------------------

MISSING = [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, Decimal("NaN"), "", "  "]


@pytest.mark.parametrize("cell", MISSING, ids=repr)
@pytest.mark.parametrize("word", ["None", "nan", "NaN", "<NA>", "NaT", "NA", "null"])
def test_a_missing_label_is_missing_whatever_the_labels_are_called(cell, word):
    found = message(read, "x", word, cell, labels=["x", word])
    assert "rows.csv, row 3, column 'stance': found an empty cell" in found
    assert "drop_labels: [null]" in found
    assert read("x", word, labels=["x", word]) == [0, 1]


@pytest.mark.parametrize(("name", "word"), [("label-null.jsonl", "None"), ("label-null.parquet", "nan")])
def test_the_cases_with_a_missing_label(name, word):
    file = SHARED.parent / "cases" / name
    if not file.exists():
        pytest.skip(f"{file} is not on this machine")
    keys = {"source": {"files": str(file)}, "text": ["text"], "label": "label", "labels": ["x", word]}
    found = message(load_rows, dataset(**keys))
    assert f"{name}, row 6, column 'label': found an empty cell" in found
    assert "is not a label" not in found
    rows = load_rows(dataset(**keys, drop_labels=[None]))
    assert {row.label for row in rows["train"]} == {0, 1}
    assert rows.dropped_rows_count == {"train": 20 - len(rows["train"])}


def test_an_absent_key_is_a_missing_label(tmp_path):
    lines = ['{"claim": "A", "sentence": "b", "stance": "con"}', '{"claim": "A", "sentence": "c"}']
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    assert "train.jsonl, row 2, column 'stance': found an empty cell" in message(load_rows, dataset(), tmp_path)


@pytest.mark.parametrize("empty", ["", " ", "\u00a0"])
def test_an_empty_word_cannot_be_a_label(empty):
    with pytest.raises(ConfigError, match=r"labels\.1: a label is empty"):
        dataset(labels=["x", empty])


@pytest.mark.parametrize(("cell", "kind"), [(["con"], "list"), ({"a": 1}, "dict"), (b"con", "bytes")])
def test_a_list_is_no_label(cell, kind):
    found = message(read, "con", cell, labels=["con", str(cell)])
    assert f"row 2, column 'stance': found a {kind}" in found


# --- unknown labels --------------------------------------------------------------------------------------------------


def test_all_unknown_labels_of_all_files_are_named_at_once(tmp_path):
    values = ["con", "pro", "cno", "cno", "x", "cno", "cno"]
    found = message(load, tmp_path, *values, more={"test": ["con", None, "y"]})
    assert (
        "train.jsonl, row 3, column 'stance': found 'cno', which is not a label (4 rows: also rows 4, 6, …)." in found
    )
    assert "Did you mean 'con'?" in found
    assert "train.jsonl, row 5, column 'stance': found 'x'" in found
    assert "test.jsonl, row 2, column 'stance': found an empty cell" in found
    assert "test.jsonl, row 3, column 'stance': found 'y'" in found
    assert "Allowed: con, pro." in found and "label_map" in found and "drop_labels" in found


def test_many_unknown_labels_are_counted():
    found = message(read, "con", "pro", *(f"word {number}" for number in range(30)))
    assert "'word 19'" in found and "'word 20'" not in found and "10 more values, in 10 rows" in found


def test_a_long_value_is_cut():
    assert len(message(read, "con", "x" * 10_000)) < 1000


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("con\u200b", ["'con<U+200B>'", "mean 'con'?", "U+200B ZERO WIDTH SPACE"]),
        ("\ufeffcon", ["'<U+FEFF>con'", "mean 'con'?"]),
        ("con\u00a0", ["'con<U+00A0>'", "mean 'con'?"]),
        ("\x1b[31mcon", ["'<U+001B>[31mcon'"]),
        (
            "\u0441on",
            ["mean 'con'?", "U+0441 CYRILLIC SMALL LETTER ES in the cell", "U+0063 LATIN SMALL LETTER C in the"],
        ),
        ("рго", ["mean 'pro'?", "U+0440 CYRILLIC"]),
        ("CON", ["'CON'", "mean 'con'?"]),
    ],
)
def test_what_looks_like_a_label_is_shown_by_code_point(cell, parts):
    found = message(read, "con", "pro", cell)
    for part in ["row 3", *parts]:
        assert part in found
    assert not set(found) & {"\u200b", "\ufeff", "\u00a0", "\x1b"}


def test_a_minus_sign_is_no_hyphen():
    found = message(read, "\u22121", labels=[-1, 1])
    assert "Did you mean '-1'?" in found and "U+2212 MINUS SIGN in the cell" in found


def test_an_odd_character_in_the_yaml_is_shown_too():
    found = message(read, "con", labels=["con\u200b", "pro"])
    assert "Allowed: con<U+200B>, pro" in found and "mean 'con<U+200B>'?" in found


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_labels_are_compared_in_nfc(form):
    word = unicodedata.normalize(form, "für")
    for cell_form in ("NFC", "NFD"):
        cell = unicodedata.normalize(cell_form, "für")
        assert read(cell, "wider", labels=[word, "wider"], answers={word: "ja", "wider": "nein"}) == [0, 1]


def test_labels_that_are_the_same_in_nfc():
    with pytest.raises(ConfigError, match="two labels are the same"):
        dataset(labels=[unicodedata.normalize(form, "é") for form in ("NFC", "NFD")])


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\u2028"])
def test_a_control_character_cannot_be_in_a_label(character):
    with pytest.raises(ConfigError, match=rf"control character U\+{ord(character):04X}"):
        dataset(labels=["x", f"a{character}b"])


# --- integer keys ----------------------------------------------------------------------------------------------------


def test_integers_are_keys():
    keys = dataset(labels=[0, 1], answers={0: "bad", "1": "good"}, label_map={2: 1, 3: 0}, mean_f1_labels=[0])
    assert keys.answers == {"0": "bad", "1": "good"}
    assert keys.label_map == {"2": 1, "3": 0}
    assert read(0, "1", 2.0, "3", labels=[0, 1], label_map={2: 1, 3: 0}) == [0, 1, 1, 0]


def test_a_key_twice():
    with pytest.raises(ConfigError, match="answers: the label '0' occurs twice"):
        dataset(labels=[0, 1], answers={0: "bad", "0": "worse", 1: "good"})


# --- other ways to write a label ---


@pytest.mark.parametrize(
    ("cells", "labels", "read_as"),
    [
        (["1.0", "0.0", "1"], [0, 1], [1, 0, 1]),  # as pandas writes whole numbers beside empty cells
        (["1.0", "1"], ["1", "1.0"], [1, 0]),  # both are labels
        ([True, False, "true"], ["true", "false"], [0, 1, 0]),
        ([True, False], ["FALSE", "TRUE"], [1, 0]),
        ([True, np.False_], ["True", "False"], [0, 1]),
        (["TRUE", "false"], ["TRUE", "false"], [0, 1]),
    ],
)
def test_a_number_or_boolean_in_another_spelling(cells, labels, read_as):
    assert read(*cells, labels=labels) == read_as


@pytest.mark.parametrize(
    ("cell", "labels"), [("1.5", [1, 2]), ("01.0", [1, 2]), ("TRUE", ["true", "false"]), ("1.0", [2, 3])]
)
def test_a_text_in_another_spelling_is_no_label(cell, labels):
    assert f"found '{cell}', which is not a label" in message(read, cell, labels=labels)


def test_another_spelling_is_mapped_dropped_and_said(tmp_path):
    values = ["1.0", "0.0", "2.0", "1.0"]
    rows = load(tmp_path, *values, labels=["bad", "good"], label_map={0: "bad", 1: "good"}, drop_labels=[2])
    assert [row.label for row in rows["train"]] == [1, 0, 1] and rows.dropped_rows_count == {"train": 1}
    rows = load(tmp_path, "1.0", "0.0", labels=[0, 1])
    assert "labels of the rows that are read as those of the YAML: 0.0 as 0, 1.0 as 1" in rows.notes
    assert load(tmp_path, 1.0, 0.0, labels=[0, 1]).notes == []


def test_all_labels_that_are_whole_numbers(tmp_path):
    rows = load(tmp_path, "10.0", "2.0", "10", labels="all")
    assert rows.dataset.labels == [2, 10] and [row.label for row in rows["train"]] == [1, 0, 1]


# --- label_map and drop_labels ---------------------------------------------------------------------------------------


def test_values_are_renamed_and_merged():
    assert read("against", "pro", "AGAINST", "con", label_map={"against": "con", "AGAINST": "con"}) == [0, 1, 0, 0]


def test_declared_values_are_left_out_and_counted(tmp_path):
    values = ["con", "?", "pro", "unsure", "con"]
    changes = {"label_map": {"?": "unsure"}, "drop_labels": ["unsure"]}
    rows = load(tmp_path, *values, more={"test": ["con", "?"]}, **changes)
    assert [row.id for row in rows["train"]] == ["train-0", "train-2", "train-4"]
    assert rows.dropped_rows_count == {"train": 2, "test": 1}
    assert any("2 of train" in note and "1 of test" in note and "drop_labels" in note for note in rows.notes)


def test_a_dropped_row_may_be_empty():
    frame = table("con", "unsure", "pro")
    frame.loc[1, "sentence"] = None
    assert len(to_rows(frame, dataset(drop_labels=["unsure"]), "rows.csv", "train")) == 2


def test_without_drop_labels_nothing_is_counted(tmp_path):
    assert load(tmp_path, "con", "pro").dropped_rows_count == {}


def test_a_value_that_occurs_in_no_row_is_noted(tmp_path):
    notes = load(tmp_path, "con", "pro", label_map={"agianst": "con"}, drop_labels=["unsure"]).notes
    assert any("label_map" in note and "'agianst'" in note for note in notes)
    assert any("drop_labels" in note and "'unsure'" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"label_map": {"against": "cn"}}, "label_map turns 'against' into 'cn', which is not among labels"),
        ({"drop_labels": ["con"]}, "drop_labels names 'con', which is among labels"),
        ({"label_map": {"x": "con"}, "drop_labels": ["x"]}, "'x' is renamed by label_map and left out by drop_labels"),
        ({"labels": "every"}, "'labels' is 'every'"),
    ],
)
def test_keys_that_do_not_fit_the_labels(changes, part):
    with pytest.raises(ConfigError) as raised:
        dataset(**changes)
    assert part in str(raised.value)


# --- labels: all -----------------------------------------------------------------------------------------------------


def test_all_labels_are_those_of_train(tmp_path):
    changes = {"labels": "all", "label_map": {"y": "z"}, "drop_labels": ["?"]}
    rows = load(tmp_path, "z", "a", "y", "?", more={"test": ["a", "y"]}, **changes)
    assert rows.dataset.labels == ["a", "z"]
    assert [row.label for row in rows["train"]] == [1, 0, 1]
    listed = load(tmp_path, "z", "a", "y", "?", more={"test": ["a", "y"]}, **changes | {"labels": ["a", "z"]})
    assert rows_fingerprint(rows) == rows_fingerprint(listed)


@pytest.mark.parametrize("name", ["csv", "jsonl", "xlsx", "parquet"])
def test_whole_numbers_are_sorted_as_numbers_in_every_format(tmp_path, name):
    write_table(tmp_path / f"train.{name}", table(10, 9, 2, 10).infer_objects())
    assert load_rows(dataset(labels="all"), tmp_path).dataset.labels == [2, 9, 10]


def test_01_is_no_number(tmp_path):
    assert load(tmp_path, "01", "1", labels="all").dataset.labels == ["01", "1"]


@pytest.mark.parametrize(
    ("train", "test", "parts"),
    [
        (["a", "b"], ["c"], ["test.jsonl, row 1, column 'stance': found 'c'", "Allowed: a, b"]),
        (["a", None, "b"], ["a"], ["train.jsonl, row 2, column 'stance': found an empty cell"]),
        (["a", "a"], ["a"], ["train.jsonl, column 'stance'", "`labels: all` found a", "at least two"]),
        ([f"name {n}" for n in range(40)], ["a"], ["found 40 labels in 40 rows", "Is this the column of the labels?"]),
        (["a", "b\x1b"], ["a"], ["train.jsonl, column 'stance'", "control character U+001B"]),
    ],
)
def test_what_all_cannot_be(tmp_path, train, test, parts):
    found = message(load, tmp_path, *train, more={"test": test}, labels="all")
    assert all(part in found for part in parts), found


@pytest.mark.parametrize("other", ["good ", "good\u00a0", "Good", "gооd", "good\u200b", "\uff47ood"])
def test_labels_that_look_alike_are_not_two_classes(tmp_path, other):
    found = message(load, tmp_path, "good", "bad", other, labels="all")
    assert (
        "differ in case, spaces or look-alike characters only" in found and "'good'" in found and "label_map" in found
    )
    merged = load(tmp_path, "good", "bad", other, labels="all", label_map={other: "good"})
    assert merged.dataset.labels == ["bad", "good"] and [row.label for row in merged["train"]] == [1, 0, 1]
    meant = load(tmp_path, "good", "bad", other, labels="all", label_map={other: other})
    assert len(meant.dataset.labels) == 3


def test_a_repeated_header_is_no_label(tmp_path):
    (tmp_path / "train.csv").write_text("claim,sentence,stance\nA,one,x\nclaim,sentence,stance\nA,two,y\n")
    assert "train.csv, row 3: it repeats the header" in message(load_rows, dataset(labels="all"), tmp_path)


@pytest.mark.parametrize(("cells", "part"), [([["x"], ["y"]], "found a list"), ([], "there are no rows")])
def test_all_finds_no_labels(tmp_path, cells, part):
    assert part in message(load, tmp_path, *cells, labels="all")


def test_all_needs_train_rows(tmp_path):
    write_table(tmp_path / "test.jsonl", table("a", "b"))
    assert "`labels: all` takes the labels from the train rows" in message(load_rows, dataset(labels="all"), tmp_path)


def test_before_the_rows_are_read_the_labels_are_not_known():
    unread = dataset(labels="all", answers={0: "a", 1: "b"})
    with pytest.raises(ConfigError, match=r"`labels: all`.* when its train rows are read"):
        assert unread.labels
    assert unread.with_labels([0, 1]).labels == [0, 1]
    with pytest.raises(ConfigError, match="answers must have every label"):
        unread.with_labels(["x", "y"])


def test_all_labels_of_a_column_that_is_not_there(tmp_path):
    (tmp_path / "train.csv").write_text("txt,label\na,x\nb,y\n", encoding="utf-8")
    missing = dataset(labels="all", text=["txt"], label="labl", source={"files": str(tmp_path / "train.csv")})
    with pytest.raises(DataError, match=r"there is no column 'labl'.*Did you mean 'label'.*Columns found: txt, label"):
        load_rows(missing)
