"""`labels: all`, `label_map` and `drop_labels` from check to predict: the run records the list and uses it."""

import json
import shutil

import pytest

from common.config import catalog
from common.core import files, yaml_io

MINE = """
schema: 1
title: Mine
source: {files: {train: nowhere.csv}}
text: [claim, sentence]
label: stance
labels: all
label_map: {Pro: pro}
drop_labels: [unsure]
answers: {con: no, neu: maybe, pro: yes}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch, rows_dir, tiny_arguments):
    """Arguments of a job on a dataset with `labels: all`, whose train rows have 1 row to rename and 2 to leave out."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(MINE)
    monkeypatch.setattr(catalog, "DATASETS", tmp_path / "data")
    rows = tmp_path / "mine rows"
    shutil.copytree(rows_dir, rows)
    train = files.read_jsonl(rows / "train.jsonl")
    next(row for row in train if row["stance"] == "pro")["stance"] = "Pro"
    train += [{**row, "id": f"extra {number}", "stance": "unsure"} for number, row in enumerate(train[:2])]
    files.write_jsonl(rows / "train.jsonl", train)
    words = ["--dataset", "mine", "--data-dir", str(rows)]
    return [*tiny_arguments("training.epochs=1", data=False), *words], rows


def test_a_run_records_the_labels_and_uses_them(run_script, mine, tmp_path):
    arguments, rows = mine
    code, out, err = run_script("check", *arguments)
    assert code == 0, err
    assert "labels: all, of the train rows: con, neu, pro" in out
    assert "rows left out by drop_labels: 2 of train, 0 of validation, 0 of test" in out
    code, out, err = run_script("train", *arguments)
    assert code == 0, err
    assert "note: rows left out by drop_labels: 2 of train" in out
    [folder] = [path.parent for path in (tmp_path / "outputs").rglob("metrics.json")]
    recorded = yaml_io.read(folder / "config.yaml")
    assert recorded["dataset"]["labels"] == ["con", "neu", "pro"]
    document = files.read_json(folder / "metrics.json")
    assert document["dropped_rows_count"] == {"train": 2, "validation": 0, "test": 0}
    assert document["test_labels"] == ["con", "neu", "pro"] and document["train_count"] == 48

    assert "is finished" in run_script("train", *arguments)[1]
    assert run_script("train", "--run", str(folder))[0] == 0
    code, out, err = run_script("evaluate", *arguments, "--split", "validation")
    assert code == 0, err
    output = tmp_path / "predicted.jsonl"
    code, _, err = run_script("predict", *arguments[:-2], "--input", str(rows / "test.jsonl"), "--output", str(output))
    assert code == 0, err
    assert {"probability_con", "probability_neu", "probability_pro"} < set(json.loads(output.open().readline()))

    # A label that train did not have is refused, not added.
    test = files.read_jsonl(rows / "test.jsonl")
    files.write_jsonl(rows / "test.jsonl", [*test, {**test[0], "id": "more", "stance": "other"}])
    code, _, err = run_script("evaluate", *arguments)
    assert code == 3 and "found 'other', which is not a label" in err and "Allowed: con, neu, pro" in err


def test_without_rows_the_command_says_what_it_needs(run_script, mine):
    arguments, _ = mine
    code, _, err = run_script("check", *arguments, "--no-data")
    assert code == 2 and "`labels: all`" in err and "NO_DATA=1" in err and "Traceback" not in err
    assert run_script("check", *arguments, "--config-only")[0] == 0


def test_strict_names_the_labels_of_the_rows(run_script, mine):
    arguments, rows = mine
    train = files.read_jsonl(rows / "train.jsonl")
    con = next(row for row in train if row["stance"] == "con")
    files.write_jsonl(rows / "train.jsonl", [*train, {**con, "id": "again", "stance": "neu"}])
    for script in ("check", "train"):
        code, _, err = run_script(script, *arguments, "--strict")
        assert code == 3 and "has different labels" in err and "= con; " in err and "= neu" in err
