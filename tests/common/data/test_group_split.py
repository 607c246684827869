"""Splits by column and fraction together, by group, as a copy of validation; labels with one row."""

from collections import Counter

import pandas as pd
import pytest
from toy_runs import dataset

from common.core.errors import DataError
from common.data.group_split import cut_groups, find_shared_groups
from common.data.load import load_rows
from common.data.rows import Row
from common.data.table_writer import write_table


def rows_of(sizes, classes=2):
    """Rows of groups g0, g1, … with as many rows as `sizes` says; the labels take turns."""
    return [
        Row(f"{group}-{number}", (f"text {group} {number}",), number % classes, group=f"g{group}")
        for group, size in enumerate(sizes)
        for number in range(size)
    ]


def table(count=60, groups=12, **columns):
    numbers = range(count)
    return pd.DataFrame(
        {
            "claim": [f"topic {number % groups}" for number in numbers],
            "sentence": [f"text {number}" for number in numbers],
            "stance": ["con" if number // groups % 2 else "pro" for number in numbers],
            **columns,
        }
    )


def load(tmp_path, frame, **changes):
    write_table(tmp_path / "all.csv", frame)
    return load_rows(dataset(source={"files": str(tmp_path / "all.csv")}, **changes))


# --- by group --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("sizes", [[10] * 20, [1, 2, 3, 4, 5, 6, 7, 8] * 5, [40, *[3] * 30]])
def test_groups_stay_whole_and_the_share_is_near(sizes, share):
    rows = rows_of(sizes)
    kept, cut = cut_groups(rows, share, ["a", "b"], seed=1)
    assert not {row.group for row in kept} & {row.group for row in cut}
    assert sorted(row.id for row in kept + cut) == sorted(row.id for row in rows)
    assert abs(len(cut) / len(rows) - share) < 0.05
    assert abs(sum(row.label for row in cut) / len(cut) - sum(row.label for row in rows) / len(rows)) < 0.1


def test_the_seed_alone_decides():
    rows = rows_of([5] * 20)
    first, again, other = (cut_groups(rows, 0.2, ["a", "b"], seed)[1] for seed in (1, 1, 2))
    assert first == again != other


def test_train_keeps_every_label():
    """Only one group has the label 2."""
    rows = rows_of([10] * 9)
    rows += [Row(f"9-{number}", ("text",), 2, group="g9") for number in range(10)]
    for seed in range(5):
        kept, cut = cut_groups(rows, 0.3, ["a", "b", "c"], seed)
        assert {row.label for row in kept} == {0, 1, 2} and cut


def test_groups_that_cannot_be_divided():
    with pytest.raises(DataError, match="all 4 train rows have the group 'g0'"):
        cut_groups(rows_of([4]), 0.5, ["a", "b"], 1)
    rows = [Row(str(number), ("text",), number % 2, group=f"g{number % 2}") for number in range(10)]
    with pytest.raises(DataError, match=r"takes all rows of a label out of train.* rows of (con|pro)\."):
        cut_groups(rows, 0.5, ["con", "pro"], 1)


def test_fractions_by_group(tmp_path):
    splits = {"fractions": {"validation": 0.2, "test": 0.25}, "by": "group"}
    rows = load(tmp_path, table(120), group="claim", splits=splits)
    groups = {split: {row.group for row in members} for split, members in rows.items()}
    assert {split: len(members) for split, members in groups.items()} == {"train": 7, "validation": 2, "test": 3}
    assert len(set().union(*groups.values())) == 12
    assert any("validation has 2 of 12 groups: 20 rows (16.7% of 120; asked were 20.0%)" in note for note in rows.notes)
    assert not any("warning" in note for note in rows.notes)


def test_a_validation_split_of_known_groups_is_too_hopeful(tmp_path):
    part = ["test" if number % 12 < 4 else "validation" if number > 100 else "train" for number in range(120)]
    changes = {"group": "claim", "splits": {"column": "part"}}
    notes = load(tmp_path, table(120, part=part), **changes).notes
    assert any("validation shares 8 of its 8 groups with train" in note and "by: group" in note for note in notes)


@pytest.mark.parametrize(
    ("train", "validation", "test", "warns"),
    [("ab", "ab", "c", True), ("ab", "a", "ac", False), ("ab", "c", "d", False), ("ab", "a", "", False)],
)
def test_which_groups_are_too_hopeful(train, validation, test, warns):
    parts = {"train": train, "validation": validation, "test": test}
    rows = {split: [Row(name, ("text",), 0, group=name) for name in names] for split, names in parts.items()}
    assert (find_shared_groups(rows) is not None) == warns


def test_rows_without_groups_are_not_compared():
    rows = {split: [Row("1", ("text",), 0)] for split in ("train", "validation", "test")}
    assert find_shared_groups(rows) is None


# --- a column and fractions ------------------------------------------------------------------------------------------


def test_a_fraction_cuts_what_the_column_lacks(tmp_path):
    part = ["test" if number < 20 else "train" for number in range(120)]
    splits = {"column": "part", "fractions": {"validation": 0.1}}
    rows = load(tmp_path, table(120, part=part), splits=splits)
    assert {split: len(members) for split, members in rows.items()} == {"train": 90, "validation": 10, "test": 20}


def test_a_fraction_of_a_split_that_the_column_has(tmp_path):
    part = ["test" if number < 20 else "train" for number in range(120)]
    splits = {"column": "part", "fractions": {"test": 0.1}}
    with pytest.raises(DataError, match="asks for test, but the source has a test split"):
        load(tmp_path, table(120, part=part), splits=splits)


# --- labels with one row ---------------------------------------------------------------------------------------------


def test_the_only_row_of_a_label_stays_in_train(tmp_path):
    frame = table(60)
    frame.loc[7, "stance"] = "rare"
    splits = {"fractions": {"validation": 0.2, "test": 0.2}}
    for seed in range(3):
        rows = load(tmp_path, frame, labels=["con", "pro", "rare"], splits=splits | {"seed": seed})
        assert Counter(row.label for row in rows["train"])[2] == 1
        assert {split: len(members) for split, members in rows.items()} == {"train": 36, "validation": 12, "test": 12}
        assert any("only row of the labels rare" in note for note in rows.notes)


def test_no_rows_cannot_be_divided(tmp_path):
    with pytest.raises(DataError, match="the train split is empty"):
        load(tmp_path, table(0), splits={"fractions": {"validation": 0.1}})


# --- test as a copy of validation ------------------------------------------------------------------------------------


def test_test_is_a_copy_of_validation(tmp_path):
    for split, frame in {"train": table(60), "validation": table(24), "test": table(12, stance=[None] * 12)}.items():
        write_table(tmp_path / f"{split}.jsonl", frame)
    rows = load_rows(dataset(splits={"test": "validation"}), tmp_path)
    assert rows["test"] == rows["validation"] and len(rows["test"]) == 24
    assert any("test is a copy of validation" in note for note in rows.notes)


def test_a_copy_of_a_fraction(tmp_path):
    rows = load(tmp_path, table(60), splits={"fractions": {"validation": 0.2}, "test": "validation"})
    assert rows["test"] == rows["validation"] and len(rows["train"]) == 48


def test_a_copy_needs_validation(tmp_path):
    with pytest.raises(DataError, match=r"no validation rows, which are needed because splits\.test"):
        load(tmp_path, table(60), splits={"test": "validation"})
