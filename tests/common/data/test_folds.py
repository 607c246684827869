"""Folds: every row is tested once, no group is on two sides, and the same seed gives the same folds."""

from collections import Counter

import pytest
from toy_runs import dataset

from common.core.errors import ConfigError, DataError
from common.data import folds
from common.data.load import load_rows
from common.data.rows import Row, rows_fingerprint

VALIDATION = {"validation": 0.2}


def members(count: int, groups: int = 0) -> list[Row]:
    return [
        Row(f"r{n}", ("a", f"text {n}"), n % 2, f"topic {n * 7 % groups + 1}" if groups else None) for n in range(count)
    ]


def divided(wanted, **changes):
    return dataset(splits={"folds": wanted, "fractions": VALIDATION}, **changes)


def test_folds_have_like_labels_and_every_row_once():
    rows = members(40)
    found = folds.find_folds(rows, divided(5))
    assert sorted(place for fold in found for place in fold) == list(range(40))
    assert [Counter(rows[place].label for place in fold) for fold in found] == [{0: 4, 1: 4}] * 5
    assert found == folds.find_folds(rows, divided(5))


def test_another_seed_gives_other_folds():
    other = dataset(splits={"folds": 5, "fractions": VALIDATION, "seed": 2})
    assert folds.find_folds(members(40), other) != folds.find_folds(members(40), divided(5))


def test_rows_of_a_group_are_in_one_fold():
    rows = members(60, groups=12)
    found = folds.find_folds(rows, divided(4, group="topic"))
    groups = [{rows[place].group for place in fold} for fold in found]
    assert sum(map(len, groups)) == 12 and len(set().union(*groups)) == 12


def test_a_fold_for_each_group_in_the_order_of_their_names():
    rows = members(60, groups=12)
    found = folds.find_folds(rows, divided("group", group="topic"))
    assert [{rows[place].group for place in fold} for fold in found] == [{f"topic {n}"} for n in range(1, 13)]


@pytest.mark.parametrize(
    ("wanted", "rows", "message"),
    [
        ("group", members(4, groups=1), "all rows have the group"),
        (5, members(20, groups=3), "there are 3 groups"),
        (30, members(20), "cannot be divided into 30 folds"),
    ],
)
def test_what_cannot_be_divided(wanted, rows, message):
    group = {"group": "topic"} if rows[0].group else {}
    with pytest.raises(DataError, match=message):
        folds.find_folds(rows, divided(wanted, **group))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"folds": 3}, "fractions: {validation: 0.1}"),
        ({"folds": 1, "fractions": VALIDATION}, "greater than or equal to 2"),
        ({"folds": 3, "fractions": {**VALIDATION, "test": 0.1}}, "the test split"),
        ({"folds": 3, "fractions": {**VALIDATION, "in_group": 0.1}}, "folds: group"),
        ({"folds": 3, "fractions": VALIDATION, "column": "part"}, "the test split"),
        ({"folds": "group", "fractions": VALIDATION}, "`group` names no column"),
        ({"fold": 2}, "belongs to `folds`"),
    ],
)
def test_what_the_yaml_cannot_say(splits, message):
    with pytest.raises(ConfigError, match=message):
        dataset(splits=splits)


def test_a_fold_is_given_where_there_are_folds_and_nowhere_else():
    assert divided(3).with_fold(2).splits.fold == 2
    with pytest.raises(ConfigError, match="FOLDS=all"):
        divided(3).with_fold(None)
    with pytest.raises(ConfigError, match="not divided into folds"):
        dataset().with_fold(1)
    assert dataset().with_fold(None) == dataset()


# --- from files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def load(tmp_path):
    """`load(fold, splits)`: the rows of two files, of four groups, with that fold as test."""
    for name, start, count in (("train", 0, 60), ("test", 60, 20)):
        lines = [f"{n},c{n % 4},text {n},{('con', 'pro')[n // 4 % 2]}" for n in range(start, start + count)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,claim,sentence,stance", *lines]) + "\n")

    def load(fold, **splits):
        given = dataset(
            source={"files": {split: str(tmp_path / f"{split}.csv") for split in ("train", "test")}},
            splits={"folds": "group", "fractions": {**VALIDATION, "in_group": 0.1}, **splits},
            group="claim",
            id="id",
        )
        return load_rows(given.with_fold(fold))

    return load


def test_the_rows_of_all_files_are_divided(load):
    seen = Counter()
    for fold in range(1, 5):
        rows = load(fold)
        sizes = {split: len(part) for split, part in rows.items()}
        assert sizes == {"train": 42, "validation": 12, "test": 20, "in_group": 6}
        assert {row.group for row in rows["test"]} == {f"c{fold - 1}"}
        assert f"c{fold - 1}" not in {row.group for part in ("train", "in_group") for row in rows[part]}
        assert {row.group for row in rows["in_group"]} <= {row.group for row in rows["train"]}
        assert any(f"fold {fold} of 4" in note for note in rows.notes)
        seen.update(row.id for row in rows["test"])
    assert sorted(seen, key=int) == [str(n) for n in range(80)] and set(seen.values()) == {1}


def test_validation_by_group_leaves_known_groups_to_in_group(load):
    rows = load(1, by="group")
    groups = {split: {row.group for row in part} for split, part in rows.items()}
    assert groups["validation"].isdisjoint(groups["train"] | groups["test"]) and groups["in_group"] <= groups["train"]


def test_the_same_rows_every_time(load):
    assert rows_fingerprint(load(2)) == rows_fingerprint(load(2)) != rows_fingerprint(load(3))
    assert load(2).folds == load(3).folds and load(2).folds.count == 4


def test_a_changed_row_changes_the_hash_of_all_folds(load, tmp_path):
    before = load(1).folds
    (tmp_path / "test.csv").write_text((tmp_path / "test.csv").read_text().replace("text 79", "text 79!"))
    assert load(1).folds != before


def test_a_fold_that_does_not_exist(load):
    with pytest.raises(ConfigError, match=r"fold=5: .* has 4 folds"):
        load(5)


def test_an_id_in_two_files(load, tmp_path):
    (tmp_path / "test.csv").write_text("id,claim,sentence,stance\n1,c1,again,pro\n")
    with pytest.raises(DataError, match="id '1' occurs in two splits"):
        load(1)
