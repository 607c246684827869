"""report/html_rows.py: predictions as columns, row sets, and what a page can hold."""

import base64
import math
from pathlib import Path

import numpy as np
import pytest
import report_runs

from common.core.files import read_jsonl, write_jsonl
from common.report import html_rows
from common.report.html_rows import ABSENT, NO_LABEL, ScoredRun
from common.runs import run_folder


def numbers(packed: str) -> list[int]:
    return np.frombuffer(base64.b64decode(packed), dtype="<u2").tolist()


def scored(number: int, *folders: Path) -> ScoredRun:
    return ScoredRun(number, folders, tuple(map(run_folder.load_run_config, folders)))


@pytest.fixture
def two_runs(tmp_path):
    rows = report_runs.write_rows(tmp_path / "rows", 12)
    folders = [report_runs.scored_run(tmp_path / "outputs", rows, seed=seed) for seed in (1, 2)]
    return [scored(n + 3, path) for n, path in enumerate(folders)]


def test_columns_are_the_predictions(two_runs):
    [rows] = html_rows.read(two_runs)
    found = html_rows.document(rows, 100)
    assert (found["split"], found["total"], found["notes"]) == ("test", 12, [])
    assert found["ids"] == [f"test-{number}" for number in range(12)]
    assert numbers(found["gold"]) == [number % 3 for number in range(12)]
    assert [found["groups"][place] for place in numbers(found["group"])] == [f"Claim {n % 4}" for n in range(12)]
    for run, entry in zip(two_runs, found["predictions"], strict=True):
        records = read_jsonl(run.folders[0] / "predictions-test.jsonl")
        assert entry["run"] == run.number and entry["generated"] == {}
        assert numbers(entry["predicted"]) == [report_runs.LABELS.index(one["predicted"]) for one in records]
        for name, key in (("confidence", "predicted"), ("gold", "gold")):
            wanted = [math.exp(one["scores"][one[key]]) for one in records]
            assert numbers(entry[name]) == pytest.approx([10_000 * share for share in wanted], abs=0.51)


def test_claims_that_repeat_are_stored_once(two_runs):
    [rows] = html_rows.read(two_runs)
    claim, sentence = html_rows.document(rows, 100)["texts"]
    assert claim["texts"] == [f"Claim {n}" for n in range(4)] and claim["places"] == [n % 4 for n in range(12)]
    assert sentence == {"name": "sentence", "texts": [f"Sentence {n} of test." for n in range(12)]}


def test_folds_are_one_run_on_all_rows(tmp_path):
    """The source's train and test rows, 12 each, are test rows of one fold or the other, with their texts."""
    rows, splits = report_runs.write_rows(tmp_path / "rows", 12), {"folds": 2, "fractions": {"validation": 0.3}}
    folds = [
        report_runs.scored_run(tmp_path / "outputs", rows, fold=number, splits=splits, group=None) for number in (1, 2)
    ]
    [found] = html_rows.read([scored(0, *folds)])
    document = html_rows.document(found, 100)
    assert document["total"] == 24 and document["notes"] == [] and len(set(document["ids"])) == 24
    records = {one["id"]: one for folder in folds for one in read_jsonl(folder / "predictions-test.jsonl")}
    [entry], sentences = document["predictions"], document["texts"][1]["texts"]
    for place, (name, predicted) in enumerate(zip(document["ids"], numbers(entry["predicted"]), strict=True)):
        split, number = name.split("-")
        assert sentences[place] == f"Sentence {number} of {split}."
        assert report_runs.LABELS[predicted] == records[name]["predicted"]


def test_a_generated_text_that_is_no_label(tmp_path):
    rows = report_runs.write_rows(tmp_path / "rows", 3)
    folder = report_runs.scored_run(
        tmp_path / "outputs", rows, baseline="few-shot", generated=["con", "maybe", "pro"], group=None
    )
    [found] = html_rows.read([scored(0, folder)])
    document = html_rows.document(found, 100)
    [entry] = document["predictions"]
    assert numbers(entry["predicted"]) == [0, NO_LABEL, 2] and entry["generated"] == {"1": "maybe"}
    assert numbers(entry["confidence"])[1] == ABSENT and numbers(entry["gold"])[1] < ABSENT
    assert (document["groups"], document["group"]) == ([], None)


def test_a_run_that_scored_fewer_rows(two_runs):
    file = two_runs[0].folders[0] / "predictions-test.jsonl"
    write_jsonl(file, read_jsonl(file)[4:])
    [rows] = html_rows.read(two_runs)
    found = html_rows.document(rows, 100)
    assert found["ids"] == [f"test-{n}" for n in [*range(4, 12), *range(4)]]  # what the first run lacks comes last
    first, second = found["predictions"]
    assert numbers(first["predicted"])[8:] == [ABSENT] * 4 and ABSENT not in numbers(second["predicted"])


def test_rows_that_changed_since_show_no_texts(two_runs, tmp_path):
    file = tmp_path / "rows" / "test.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("Sentence 3", "Another 3"), encoding="utf-8")
    [rows] = html_rows.read(two_runs)
    found = html_rows.document(rows, 100)
    assert found["texts"] == [] and "have changed since" in found["notes"][0]
    file.unlink()
    (tmp_path / "rows" / "train.jsonl").unlink()
    [note] = html_rows.document(rows, 100)["notes"]
    assert "The texts are not shown" in note and str(tmp_path / "rows") in note


def test_other_data_are_another_row_set(two_runs, tmp_path):
    other = report_runs.write_rows(tmp_path / "other rows", 6, ["another text"])
    folder = report_runs.scored_run(tmp_path / "outputs", other, "minilm-full")
    found = html_rows.read([*two_runs, scored(9, folder)])
    assert sorted((len(rows.places), sorted(rows.predictions)) for rows in found) == [(6, [9]), (12, [3, 4])]


def test_more_rows_than_fit_are_sampled(two_runs):
    [rows] = html_rows.read(two_runs)
    found = html_rows.document(rows, 5)
    assert len(found["ids"]) == 5 and found["notes"] == ["Shown are 5 of 12 rows, drawn at random."]
    kept = [int(name.removeprefix("test-")) for name in found["ids"]]
    assert kept == sorted(kept) and numbers(found["gold"]) == [number % 3 for number in kept]
    everything = html_rows.document(rows, 100)["predictions"][0]
    for name in ("predicted", "confidence", "gold"):
        whole = numbers(everything[name])
        assert numbers(found["predictions"][0][name]) == [whole[number] for number in kept]
    assert found["texts"][1]["texts"] == [f"Sentence {number} of test." for number in kept]


def test_the_limit_of_rows_counts_all_runs(two_runs):
    [rows] = html_rows.read(two_runs)
    assert html_rows.row_limit([rows]) == html_rows.MAX_ROWS
    assert html_rows.row_limit([rows, rows], max_bytes=8 * 2 * 2 * 7) == 7  # bytes × runs × row sets × rows
    assert html_rows.row_limit([rows], max_rows=4) == 4
