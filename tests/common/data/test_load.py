import re
from collections import Counter

import pandas as pd
import pytest
from conftest import SHARED
from toy_runs import dataset

from common.config import catalog
from common.core.errors import ConfigError, DataError
from common.data import folders
from common.data.load import load_rows
from common.data.rows import Row, rows_fingerprint, to_rows
from common.data.splits import require_split, sample_rows
from common.data.table_writer import write_table

ROWS = {
    "key": ["k1", "k2", "k3", "k4"],
    "claim": ["A", "A", "B", "B"],
    "sentence": ["one", "two", "three", "four"],
    "stance": ["con", "pro", "pro", "con"],
    "weight": [1, 2.5, 1, 1],
}


def frame(**columns):
    return pd.DataFrame(ROWS | columns, dtype=object)


def folder_with(tmp_path, **splits):
    for split, table in splits.items():
        write_table(tmp_path / f"{split}.jsonl", table)
    return tmp_path


def load(tmp_path, table=None, **changes):
    table = frame() if table is None else table
    return load_rows(dataset(**changes), folder_with(tmp_path, train=table))


def test_a_pair_with_everything(tmp_path):
    rows = load(tmp_path, id="key", group="claim", weight="weight")
    assert rows["train"][1] == Row(id="k2", texts=("A", "two"), label=1, group="A", weight=2.5)


def test_a_single_text_without_anything(tmp_path):
    rows = load(tmp_path, text=["sentence"])
    assert rows["train"][2] == Row(id="train-2", texts=("three",), label=1, group=None, weight=1.0)


def test_splits_come_in_a_fixed_order(tmp_path):
    folder = folder_with(tmp_path, test=frame(), train=frame(), validation=frame())
    assert list(load_rows(dataset(), folder)) == ["train", "validation", "test"]


def test_files_of_the_yaml(tmp_path):
    for name in ("a.csv", "b.xlsx"):
        write_table(tmp_path / name, frame())
    both = {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.xlsx")}
    rows = load_rows(dataset(source={"files": both}))
    assert {split: len(members) for split, members in rows.items()} == {"train": 4, "test": 4}
    assert list(load_rows(dataset(source={"files": str(tmp_path / "a.csv")}))) == ["train"]


def test_unlabelled_rows_need_their_texts_alone():
    table = frame()[["claim", "sentence"]]
    rows = to_rows(table, dataset(id="key", group="topic", weight="weight"), "input.csv", "input", labelled=False)
    assert rows[3] == Row(id="input-3", texts=("B", "four"), label=None)


FAULTS = {
    "missing column": (frame().rename(columns={"stance": "stances"}), {}, ["'stance'", "`label`", "mean 'stances'?"]),
    "missing text": (frame().drop(columns="claim"), {}, ["no column 'claim'", "`text`", "sentence, stance"]),
    "missing id": (frame(), {"id": "number"}, ["no column 'number'", "`id`"]),
    "empty text": (frame(sentence=["one", "two", "  ", "four"]), {}, ["row 3", "column 'sentence'", "empty"]),
    "null text": (frame(claim=["A", None, "B", "B"]), {}, ["row 2", "column 'claim'", "empty"]),
    "empty group": (frame(claim=["A", "A", "B", ""]), {"text": ["sentence"], "group": "claim"}, ["row 4", "'claim'"]),
    "empty id": (frame(key=["k1", "", "k3", "k4"]), {"id": "key"}, ["row 2", "column 'key'", "empty"]),
    "empty label": (frame(stance=["con", "pro", "", "con"]), {}, ["row 3", "column 'stance'", "an empty cell"]),
    "unknown label": (
        frame(stance=["con", "pro", "pro", "conn"]),
        {},
        ["row 4", "column 'stance'", "'conn'", "Did you mean 'con'?", "Allowed: con, pro"],
    ),
    "label with a space": (frame(stance=["con ", "pro", "pro", "con"]), {}, ["row 1", "'con '", "mean 'con'?"]),
    "repeated id": (frame(key=["k1", "k2", "k1", "k4"]), {"id": "key"}, ["row 3", "id 'k1'", "row 1"]),
    "word as weight": (frame(weight=[1, "x", 1, 1]), {"weight": "weight"}, ["row 2", "column 'weight'", "'x'"]),
    "weight of 0": (frame(weight=[1, 1, 1, 0]), {"weight": "weight"}, ["row 4", "found 0", "above 0"]),
    "negative weight": (frame(weight=[-1, 1, 1, 1]), {"weight": "weight"}, ["row 1", "found -1"]),
    "no weight": (frame(weight=[1, None, 1, 1]), {"weight": "weight"}, ["row 2", "column 'weight'"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_file_row_column_and_value(tmp_path, fault):
    table, changes, parts = FAULTS[fault]
    with pytest.raises(DataError) as raised:
        load(tmp_path, table, **changes)
    for part in [str(tmp_path / "train.jsonl"), *parts]:
        assert part in str(raised.value)


def test_rows_of_a_spreadsheet_count_from_its_header(tmp_path):
    write_table(tmp_path / "train.xlsx", frame(stance=["con", "x", "pro", "con"]))
    with pytest.raises(DataError, match=r"train\.xlsx, row 3, column 'stance'"):
        load_rows(dataset(), tmp_path)


@pytest.mark.parametrize(
    ("table", "changes", "message"),
    [
        (frame(stance=["con"] * 4), {}, "every train row has the label 'con'"),
        (frame(), {"labels": ["con", "neu", "pro"]}, "no train row has the label neu"),
        (frame().iloc[:0], {}, "there are no rows"),
    ],
)
def test_train_that_cannot_be_learned_from(tmp_path, table, changes, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, table, **changes)


def test_an_empty_train_file_with_a_header(tmp_path):
    write_table(tmp_path / "train.csv", frame().iloc[:0])
    with pytest.raises(DataError, match="the train split is empty"):
        load_rows(dataset(), tmp_path)


def test_test_may_lack_a_label(tmp_path):
    folder = folder_with(tmp_path, train=frame(), test=frame(stance=["con"] * 4))
    assert {row.label for row in load_rows(dataset(), folder)["test"]} == {0}


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["csv", "tsv", "jsonl", "xlsx", "parquet"])
@pytest.mark.parametrize("labels", [["01", "1"], ["NA", "null"], ["None", "nan"], ["no", "yes"], ["=1", "-"]])
def test_odd_label_words(tmp_path, name, labels):
    write_table(tmp_path / f"train.{name}", frame(stance=[labels[0], labels[1]] * 2, weight=[1] * 4))
    assert [row.label for row in load_rows(dataset(labels=labels), tmp_path)["train"]] == [0, 1, 0, 1]


@pytest.mark.parametrize("values", [[1, 3, 3, 1], [1.0, 3.0, 3.0, 1.0], ["1", "3", "3", "1"]])
@pytest.mark.parametrize("name", ["jsonl", "xlsx", "parquet"])
def test_integer_labels(tmp_path, name, values):
    table = frame(stance=values)[["claim", "sentence", "stance"]]
    write_table(tmp_path / f"train.{name}", table)
    assert [row.label for row in load_rows(dataset(labels=[1, 3]), tmp_path)["train"]] == [0, 1, 1, 0]


def test_a_part_of_a_number_is_no_label(tmp_path):
    with pytest.raises(DataError, match=r"found '3\.5', which is not a label"):
        load(tmp_path, frame(stance=[1, 3.5, 1, 1]), labels=[1, 3])


# --- splits ----------------------------------------------------------------------------------------------------------


def test_splits_by_column(tmp_path):
    write_table(tmp_path / "all.csv", frame(part=["test", "train", "validation", "train"]))
    source = {"files": str(tmp_path / "all.csv")}
    rows = load_rows(dataset(source=source, splits={"column": "part"}, id="key"))
    assert {split: [row.id for row in members] for split, members in rows.items()} == {
        "train": ["k2", "k4"],
        "validation": ["k3"],
        "test": ["k1"],
    }


def test_a_fault_in_a_split_by_column_keeps_its_row_number(tmp_path):
    part = ["test", "train", "test", "train"]
    write_table(tmp_path / "all.csv", frame(part=part, stance=["con", "pro", "x", "con"]))
    with pytest.raises(DataError, match=r"all\.csv, row 4, column 'stance'"):
        load_rows(dataset(source={"files": str(tmp_path / "all.csv")}, splits={"column": "part"}))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("part", "row 3, column 'part': found 'later'; allowed: train, validation, test, valid, val, dev"),
        ("other", "row 4, column 'other': found 'val', and 'dev' before it; both mean validation"),
        ("prt", "Did you mean 'part'?"),
    ],
)
def test_a_wrong_split_column(tmp_path, column, message):
    write_table(
        tmp_path / "all.csv", frame(part=["test", "later", "train", "train"], other=["train", "dev", "val", "test"])
    )
    with pytest.raises(DataError, match=re.escape(message)):
        load_rows(dataset(source={"files": str(tmp_path / "all.csv")}, splits={"column": column}))


def many(count=200):
    return pd.DataFrame(
        {
            "key": [f"k{number}" for number in range(count)],
            "claim": ["A"] * count,
            "sentence": [f"text {number}" for number in range(count)],
            "stance": ["con" if number % 4 else "pro" for number in range(count)],  # 3 to 1
        }
    )


def cut(tmp_path, fractions, seed=1):
    rows = load(tmp_path, many(), id="key", splits={"fractions": fractions, "seed": seed})
    return {split: [row.id for row in members] for split, members in rows.items()}, rows


def test_fractions_are_disjoint_complete_and_stratified(tmp_path):
    ids, rows = cut(tmp_path, {"validation": 0.1, "test": 0.2})
    assert {split: len(members) for split, members in ids.items()} == {"train": 140, "validation": 20, "test": 40}
    everything = [name for members in ids.values() for name in members]
    assert sorted(everything) == sorted(many()["key"])
    for members in rows.values():
        counts = Counter(row.label for row in members)
        assert counts[0] == 3 * counts[1]


def test_fractions_depend_on_their_seed_alone(tmp_path):
    first, _ = cut(tmp_path, {"validation": 0.1})
    again, _ = cut(tmp_path, {"validation": 0.1})
    other, _ = cut(tmp_path, {"validation": 0.1}, seed=2)
    assert first == again
    assert set(first["validation"]) != set(other["validation"])


def test_a_fraction_that_cannot_be_stratified(tmp_path):
    with pytest.raises(DataError, match=r"cannot cut validation, 0\.1% of 200 rows, off train by label: there are 2"):
        cut(tmp_path, {"validation": 0.001})


def test_a_column_may_call_the_splits_otherwise(tmp_path):
    write_table(tmp_path / "all.csv", frame(part=["Train", "Train", "dev", "TEST"]))
    rows = load_rows(dataset(source={"files": str(tmp_path / "all.csv")}, splits={"column": "part"}))
    assert {split: len(members) for split, members in rows.items()} == {"train": 2, "validation": 1, "test": 1}


def test_fractions_of_many_labels(tmp_path):
    names = [f"intent {number}" for number in range(60)]
    table = many(120).assign(stance=names * 2)
    with pytest.raises(DataError) as raised:
        load(tmp_path, table, labels=names, splits={"fractions": {"test": 0.1}})
    assert (
        "there are 60 labels, and each needs a row among the 12 and among the other 108: allowed are 60 to 60"
        in str(raised.value)
    )
    with pytest.raises(DataError, match=r"cannot sample 5 of 60 rows.*a label has one row"):
        sample_rows([Row(str(number), ("a",), number) for number in range(60)], 5, 1)
    rows = load(tmp_path, table, labels=names, splits={"fractions": {"test": 0.5}})
    assert len({row.label for row in rows["test"]}) == len({row.label for row in rows["train"]}) == 60


def test_a_missing_header_and_an_invisible_character_in_a_name_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("great film,good\nx,bad\n")
    keys = {"source": {"files": str(tmp_path / "a.csv")}, "text": ["text"], "label": "label"}
    with pytest.raises(DataError, match=r"Columns found: great film, good\. If its header.*`skip_rows:`.*`header:`"):
        load_rows(dataset(**keys))
    (tmp_path / "a.csv").write_text("\u200btext,label\nx,con\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"Did you mean '<U\+200B>text'\?"):
        load_rows(dataset(**keys))


def test_a_split_cannot_come_from_two_places(tmp_path):
    folder = folder_with(tmp_path, train=many(), validation=many())
    files = {split: str(path) for split, path in folders.find_split_paths(folder).items()}
    divided = {"splits": {"fractions": {"validation": 0.1}}}
    with pytest.raises(DataError, match=r"splits\.fractions asks for validation, but the source has"):
        load_rows(dataset(source={"files": files}, **divided))
    # A folder given as DATA_DIR may be divided already: its splits stand.
    assert len(load_rows(dataset(**divided), folder)["validation"]) == len(many())


def test_require_split():
    rows = {"train": [Row("1", ("a",), 0)], "test": []}
    assert require_split(rows, "train", "to train on") == rows["train"]
    for split in ("validation", "test"):
        with pytest.raises(DataError, match=rf"no {split} rows, which are needed to score.*\{{{split}: 0\.1\}}"):
            require_split(rows, split, "to score")


# --- identity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["csv", "tsv", "jsonl", "xlsx", "parquet", "csv.gz"])
def test_the_fingerprint_does_not_know_the_file_format(tmp_path, name):
    changes = {"id": "key", "group": "claim", "weight": "weight"}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_table(tmp_path / "a" / f"train.{name}", frame(key=[1, 2, 3, 4]))
    wanted = rows_fingerprint(load(tmp_path / "b", frame(key=[1, 2, 3, 4]), **changes))
    assert rows_fingerprint(load_rows(dataset(**changes), tmp_path / "a")) == wanted


CHANGED = {
    "id": frame(key=["k1", "k2", "k3", "k5"]),
    "text": frame(sentence=["one", "two", "three", "four "]),
    "first text": frame(claim=["A", "A", "B", "C"]),
    "label": frame(stance=["con", "pro", "pro", "pro"]),
    "weight": frame(weight=[1, 2.5, 1, 1.5]),
    "order": frame().iloc[::-1],
    "number": frame().iloc[:3],
}


@pytest.mark.parametrize("change", CHANGED)
def test_the_fingerprint_knows_every_cell(tmp_path, change):
    changes = {"id": "key", "weight": "weight"}
    before = rows_fingerprint(load(tmp_path, **changes))
    assert rows_fingerprint(load(tmp_path, CHANGED[change], **changes)) != before


def test_the_fingerprint_knows_groups_and_splits():
    row = Row("1", ("a", "b"), 0)
    grouped = Row("1", ("a", "b"), 0, group="g")
    prints = {rows_fingerprint(rows) for rows in ({"train": [row]}, {"test": [row]}, {"train": [grouped]})}
    assert len(prints) == 3


# --- real data -------------------------------------------------------------------------------------------------------


def shared(name):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not on this machine")
    return SHARED / name


def test_cmv_stance():
    rows = load_rows(catalog.load_dataset("cmv-stance"), shared("cmv-stance"))
    assert {split: len(members) for split, members in rows.items()} == {"train": 50, "validation": 50, "test": 50}
    first = rows["train"][0]
    assert first.texts[0] == first.group == "Abortion should be legal."
    assert first.label == 1  # neu


def test_perspectrum():
    """Counts of its provenance; 17 rows have the id of another row, so rows are numbered."""
    rows = load_rows(catalog.load_dataset("perspectrum"), shared("perspectrum"))
    assert {split: len(members) for split, members in rows.items()} == {"train": 6978, "validation": 2071, "test": 2773}
    assert Counter(row.label for row in rows["test"]) == {0: 1302, 1: 1471}
    assert not {row.group for row in rows["train"]} & {row.group for row in rows["test"]}


def test_tweeteval_stance():
    """Counts of the shared task's files: 2,620 / 294 / 1,249 tweets, 715 against and 304 favor in test."""
    rows = load_rows(catalog.load_dataset("tweeteval-stance"), shared("tweeteval-stance"))
    assert {split: len(members) for split, members in rows.items()} == {"train": 2620, "validation": 294, "test": 1249}
    assert Counter(row.label for row in rows["test"]) == {0: 230, 1: 715, 2: 304}
    assert len({row.group for row in rows["test"]}) == 5


@pytest.mark.parametrize(
    ("name", "keys", "refused"),
    [
        ("a.jsonl", {"skip_rows": 1}, "skip_rows"),
        ("a.jsonl", {"header": ["text", "label"]}, "header"),
        ("a.parquet", {"encoding": "cp1252"}, "encoding"),
        ("a.jsonl", {"encoding": "utf-8"}, None),
        ("a.csv", {"separator": ","}, None),
    ],
)
def test_a_key_that_no_file_obeys_is_refused(tmp_path, name, keys, refused):
    write_table(tmp_path / name, pd.DataFrame({"text": ["a", "b"], "label": ["con", "pro"]}))
    read = dataset(text=["text"], label="label", source={"files": str(tmp_path / name), **keys})
    if refused is None:
        assert len(load_rows(read)["train"]) == 2
        return
    with pytest.raises(ConfigError, match=rf"source\.{refused} has no effect on {re.escape(name)}"):
        load_rows(read)
