"""Folders as a source of rows: a dataset saved to disk, texts by class, a file or folder for each split."""

import unicodedata

import pytest
from toy_runs import dataset

from common.core.errors import ConfigError, DataError
from common.data.load import load_rows
from common.hub.presence import find_missing_rows

TEXTS = {"bad": ["boring", "dull"], "good": ["great", "fine"]}


def keys(folder, **source):
    return {"source": {"files": str(folder), **source}, "text": ["text"], "label": "label", "labels": ["bad", "good"]}


def texts_by_class(folder, texts=TEXTS, encoding="utf-8"):
    for label, members in texts.items():
        (folder / label).mkdir(parents=True)
        for number, text in enumerate(members):
            (folder / label / f"{number}.txt").write_bytes(text.encode(encoding) + b"\n")
    return folder


def found(rows):
    return {split: [(row.texts[0], row.label) for row in members] for split, members in rows.items()}


ROWS = [("boring", 0), ("dull", 0), ("great", 1), ("fine", 1)]


def test_texts_by_class(tmp_path, capsys):
    folder = texts_by_class(tmp_path / "rows")
    (folder / "urls.txt").write_text("http://x")
    (folder / ".DS_Store").touch()
    rows = load_rows(dataset(**keys(folder), id="file"))
    assert found(rows) == {"train": ROWS} and rows["train"][2].id == "good/0.txt"
    assert "not used: urls.txt" in capsys.readouterr().err and any("urls.txt" in note for note in rows.file_notes)
    assert found(load_rows(dataset(**keys("absent")), folder)) == {"train": ROWS}  # as DATA_DIR, too
    assert find_missing_rows(dataset(**keys(folder))) is find_missing_rows(dataset(**keys("absent")), folder) is None


def test_folders_of_splits(tmp_path):
    for split in ("train", "dev", "test"):
        texts_by_class(tmp_path / split)
    rows = load_rows(dataset(**keys(tmp_path)))
    assert list(rows) == ["train", "validation", "test"] and found(rows)["validation"] == ROWS
    named = {"train": str(tmp_path / "train"), "test": str(tmp_path / "test")}
    assert list(load_rows(dataset(**keys("") | {"source": {"files": named}}))) == ["train", "test"]


def test_a_folder_that_is_no_label_is_named_with_its_files(tmp_path):
    folder = texts_by_class(tmp_path, TEXTS | {"unsup": ["x"]})
    with pytest.raises(DataError, match=r"row unsup/0\.txt, column 'label': found 'unsup'"):
        load_rows(dataset(**keys(folder)))
    assert found(load_rows(dataset(**keys(folder), drop_labels=["unsup"]))) == {"train": ROWS}


def test_an_empty_text_is_named(tmp_path):
    with pytest.raises(DataError, match=r"row good/1\.txt, column 'text': the cell is empty"):
        load_rows(dataset(**keys(texts_by_class(tmp_path, TEXTS | {"good": ["x", ""]}))))


def test_names_of_folders_are_compared_in_nfc(tmp_path):
    folder = texts_by_class(tmp_path, {unicodedata.normalize("NFD", "für"): ["a"], "wider": ["b"]})
    rows = load_rows(dataset(**keys(folder) | {"labels": ["für", "wider"]}))
    assert [row.label for row in rows["train"]] == [0, 1]


def test_the_encoding_of_texts(tmp_path):
    folder = texts_by_class(tmp_path, TEXTS | {"good": ["café", "x"]}, "cp1252")
    with pytest.raises(DataError, match=r"0\.txt: it is not utf-8.*`encoding:`"):
        load_rows(dataset(**keys(folder)))
    assert ("café", 1) in found(load_rows(dataset(**keys(folder, encoding="cp1252"))))["train"]
    with pytest.raises(ConfigError, match=r"source\.separator has no effect"):
        load_rows(dataset(**keys(folder, separator=";")))


def test_what_is_no_text_of_a_class(tmp_path):
    folder = texts_by_class(tmp_path)
    (folder / "bad" / "a.html").touch()
    with pytest.raises(DataError, match=r"bad: it holds a\.html; .* only \.txt files"):
        load_rows(dataset(**keys(folder)))


def saved(folder, splits):
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    parts = {split: datasets.Dataset.from_dict(columns, features) for split in splits}
    whole = datasets.DatasetDict(parts) if len(parts) > 1 else next(iter(parts.values()))
    whole.save_to_disk(folder)
    return folder


def test_a_saved_dictionary_of_datasets(tmp_path, capsys):
    folder = saved(tmp_path / "rows", ["train", "test", "valid", "unsupervised"])
    wanted = {"train": ROWS, "validation": ROWS, "test": ROWS}
    assert found(load_rows(dataset(**keys(folder)))) == wanted
    assert "splits unsupervised are not used" in capsys.readouterr().err
    assert found(load_rows(dataset(**keys("absent")), folder)) == wanted
    with pytest.raises(ConfigError, match=r"source\.encoding has no effect"):
        load_rows(dataset(**keys(folder, encoding="utf-8")))


@pytest.mark.parametrize(
    ("content", "part"),
    [("{", "not valid JSON"), ("[]", "does not name"), ('{"splits": ["train"]}', "train, which is not")],
)
def test_a_broken_saved_dictionary(tmp_path, content, part):
    (tmp_path / "dataset_dict.json").write_text(content)
    with pytest.raises(DataError, match=part):
        load_rows(dataset(**keys(tmp_path)))


def test_a_saved_dataset(tmp_path):
    folder = saved(tmp_path / "rows", ["train"])
    assert found(load_rows(dataset(**keys(folder)))) == {"train": ROWS}
    (folder / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(DataError, match="this saved dataset cannot be read"):
        load_rows(dataset(**keys(folder)))


def test_a_folder_with_nothing_to_read(tmp_path):
    (tmp_path / "notes.md").touch()
    with pytest.raises(DataError, match=r"no split found; allowed are .*one folder of \.txt files for each label"):
        load_rows(dataset(**keys(tmp_path)))
