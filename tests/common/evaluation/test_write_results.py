"""Predictions, the metrics computed from them, and the paths of both."""

import json

import numpy as np
import pytest

from common.config import catalog
from common.core import files
from common.data.rows import Row
from common.evaluation import calibration, metrics, write_results
from common.runs import run_folder
from common.runs.run_config import RunConfig

LABELS = ["con", "neu", "pro"]
ROWS = [Row(f"r{n}", ("Claim.", f"Sentence {n}."), n % 3, group=f"Claim {n % 2}.") for n in range(12)]


@pytest.fixture
def config(tiny_job):
    return RunConfig("minilm-lora", "stance-sample", "v", 1, tiny_job(), catalog.load_dataset("stance-sample"), "ab")


def some_scores() -> np.ndarray:
    raw = np.random.default_rng(0).normal(size=(12, 3)) * 2
    return (raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))).astype(np.float32)


def test_names_of_the_files(tmp_path):
    assert write_results.metrics_file(tmp_path, "test").name == "metrics.json"
    assert write_results.metrics_file(tmp_path, "validation").name == "metrics-validation.json"
    assert write_results.predictions_file(tmp_path, "test").name == "predictions-test.jsonl"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_metrics_are_those_of_the_written_predictions(config, tmp_path, split):
    document = write_results.write_split(tmp_path, config, split, ROWS, some_scores(), {"train_s": 1.5})
    assert document == files.read_json(write_results.metrics_file(tmp_path, split))
    records = files.read_jsonl(tmp_path / f"predictions-{split}.jsonl")
    gold, predicted = [record["gold"] for record in records], [record["predicted"] for record in records]
    assert gold == [LABELS[n % 3] for n in range(12)]
    correct = sum(one == other for one, other in zip(gold, predicted, strict=True))
    assert 0 < correct < 12
    assert document[f"{split}_accuracy"] == correct / 12
    assert document[f"{split}_loss"] == pytest.approx(-np.mean([r["scores"][r["gold"]] for r in records]))
    again = metrics.prefixed(split, metrics.compute(records, LABELS))
    assert {key: document[key] for key in again} == json.loads(json.dumps(again))
    assert document["score"] == f"{split}_accuracy" and document["train_s"] == 1.5
    assert document["job"] == "minilm-lora" and document["variant"] == "v" and document["seed"] == 1
    assert document["data_sha256"] == "ab" and document["dataset_title"] == "Stance sample"
    assert run_folder.is_finished(tmp_path) == (split == "test")
    assert (tmp_path / calibration.FILE).exists() == (split == "validation")


def test_the_temperature_is_that_of_the_validation_rows(config, tmp_path):
    write_results.write_split(tmp_path, config, "validation", ROWS, some_scores(), {})
    fitted = calibration.fit_temperature(some_scores(), np.array([row.label for row in ROWS]))
    assert calibration.read_temperature(tmp_path, "make evaluate") == pytest.approx(fitted, rel=1e-4)


def test_groups_are_scored_on_their_own(config, tmp_path):
    document = write_results.write_split(tmp_path, config, "test", ROWS, some_scores(), {})
    records = files.read_jsonl(tmp_path / "predictions-test.jsonl")
    assert set(document["test_groups"]) == {"Claim 0.", "Claim 1."}
    for group, found in document["test_groups"].items():
        members = [record for record in records if record["group"] == group]
        assert found["n"] == len(members) == 6
        assert found["accuracy"] == sum(r["gold"] == r["predicted"] for r in members) / 6


def test_no_host_name_and_no_folder_in_the_metrics(config, tmp_path):
    import socket

    write_results.write_split(tmp_path, config, "test", ROWS, some_scores(), {})
    provenance = files.read_json(tmp_path / "metrics.json")["provenance"]
    assert provenance["packages"]["torch"] and provenance["python"] and provenance["time"].endswith("Z")
    text = json.dumps(provenance)
    assert socket.gethostname() not in text and str(tmp_path) not in text


def test_records_keep_integer_labels_and_missing_gold():
    scores = np.log(np.array([[0.2, 0.8], [0.9, 0.1]], dtype=np.float32))
    rows = [Row("a", ("x",), 0), Row("b", ("y",), None)]
    first, second = write_results.predictions(rows, scores, [0, 1])
    assert first == {"id": "a", "group": None, "gold": 0, "predicted": 1, "scores": {"0": -1.609438, "1": -0.223144}}
    assert second["gold"] is None and second["predicted"] == 0


def test_generated_texts_decide_what_is_predicted():
    scores = np.log(np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4]], dtype=np.float32))
    rows = [Row("a", ("x",), 0), Row("b", ("y",), 1), Row("c", ("z",), 1)]
    records = write_results.predictions(
        rows, scores, [0, 1], ["against", "Favor", "in favor"], ["against", " in favor"]
    )
    assert [record["predicted"] for record in records] == [0, None, 1]
    assert [record["generated"] for record in records] == ["against", "Favor", "in favor"]
    assert records[0]["scores"] == {"0": -1.609438, "1": -0.223144}  # as without generation
