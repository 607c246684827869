import pytest

from common.core.errors import DataError
from common.data import folders, table_files


@pytest.mark.parametrize("name", ["a.doc", "a", "a.gz", "a.xml", ".csv", "a.zip"])
def test_an_unknown_ending(tmp_path, name):
    with pytest.raises(DataError, match=r"unknown file format; allowed endings: xlsx, csv, tsv, jsonl, parquet"):
        table_files.format_of(tmp_path / name)


def test_format_of_takes_any_case_and_dots(tmp_path):
    assert table_files.format_of(tmp_path / "v1.2.CSV.GZ") == ("csv", True)
    assert table_files.format_of(tmp_path / "my.data.xlsx") == ("xlsx", False)


def test_find_split_files(tmp_path):
    for name in ("test.jsonl", "train.csv.gz", "other.csv", "train.txt"):
        (tmp_path / name).touch()
    found = folders.find_split_paths(tmp_path)
    assert {split: path.name for split, path in found.items()} == {"train": "train.csv.gz", "test": "test.jsonl"}
    assert list(found) == ["train", "test"]


@pytest.mark.parametrize("name", ["val.xlsx", "dev.tsv.gz", "validation.csv"])
def test_validation_has_further_names(tmp_path, name):
    for other in ("train.xlsx", "test.xlsx", name):
        (tmp_path / other).touch()
    found = folders.find_split_paths(tmp_path)
    assert {split: path.name for split, path in found.items()} == {
        **{"train": "train.xlsx", "validation": name, "test": "test.xlsx"}
    }


def test_two_names_of_one_split_are_refused(tmp_path):
    for name in ("train.xlsx", "val.xlsx", "validation.xlsx"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"found both validation\.xlsx and val\.xlsx"):
        folders.find_split_paths(tmp_path)


def test_find_split_files_refuses(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        folders.find_split_paths(tmp_path / "absent")
    with pytest.raises(DataError, match="no split found"):
        folders.find_split_paths(tmp_path)
    (tmp_path / "train.csv").touch()
    (tmp_path / "train.csv.gz").touch()
    with pytest.raises(DataError, match=r"found both train\.csv and train\.csv\.gz"):
        folders.find_split_paths(tmp_path)


def test_split_files_of_every_format_that_is_read(tmp_path):
    for name in ("train.csv", "dev.tsv.zip", "test.json"):
        (tmp_path / name).touch()
    found = folders.find_split_paths(tmp_path)
    assert {split: path.name for split, path in found.items()} == {
        "train": "train.csv",
        "validation": "dev.tsv.zip",
        "test": "test.json",
    }
