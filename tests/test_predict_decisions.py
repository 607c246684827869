"""scripts/predict.py with CALIBRATED, THRESHOLDS and ABSTAIN: what validation has taught, applied to new rows."""

import shutil

import numpy as np
import pandas as pd
import pytest

from common.core import files
from common.core.errors import ConfigError
from common.data.table_reader import read_table
from common.data.table_writer import write_table
from common.evaluation import calibration
from common.predict import shards
from common.predict.decision import PLAIN, decide
from common.runs import run_folder

LABELS = ["con", "neu", "pro"]
PROBABILITIES = [f"probability_{label}" for label in LABELS]


@pytest.fixture
def predict(run_script, trained, tmp_path):
    """`predict(*options)` of nine new rows: what was printed, and the table that was written."""
    _, folder = trained
    rows = [{"sentence": "good idea " * (n * 5 % 7 + 1), "claim": f"Claim {n % 2}."} for n in range(9)]
    write_table(tmp_path / "new.csv", pd.DataFrame(rows, dtype=object))

    def run(*options):
        words = ["--run", str(folder), "--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "out.csv")]
        code, out, err = run_script("predict", *words, "--force", *options)
        return code, out + err, read_table(tmp_path / "out.csv") if code == 0 else None

    run.script = run_script
    return run


def chances(table):
    return table[PROBABILITIES].astype(float).to_numpy()


def test_calibrated_probabilities_change_no_label(predict, trained):
    temperature = calibration.read_temperature(trained[1], "")
    _, _, plain = predict()
    _, out, calibrated = predict("--calibrated")
    assert f"temperature {temperature:.3f}" in out
    assert calibrated["predicted"].tolist() == plain["predicted"].tolist()
    expected = np.exp(calibration.with_temperature(np.log(chances(plain)), temperature))
    assert chances(calibrated) == pytest.approx(expected, abs=1e-4)
    assert list(calibrated.columns) == list(plain.columns)


def test_abstaining_rows_are_those_below_the_threshold(predict, trained):
    file = trained[1] / "predictions-validation.jsonl"
    records = files.read_jsonl(file)
    for number, record in enumerate(sorted(records, key=lambda one: max(one["scores"].values()))):
        best = max(record["scores"], key=record["scores"].get)
        record["gold"] = best if number >= len(records) // 2 else next(label for label in LABELS if label != best)
    files.write_jsonl(file, records)
    code, out, table = predict("--abstain", "0.2")
    assert code == 0
    scores, gold = validation(trained[1])
    confidence, right = np.exp(scores).max(axis=1), scores.argmax(axis=1) == gold
    rule = calibration.fit_abstention(confidence, right, 0.2)
    assert f"on validation {rule.coverage:.1%} of {len(gold)} rows are kept" in out
    assert table["abstained"].astype(str).str.lower().tolist() == [
        str(one).lower() for one in chances(table).max(axis=1) < rule.least
    ]
    assert "are left to a person: column abstained" in out


def test_a_decision_is_part_of_the_plan(predict, trained, tmp_path, monkeypatch):
    """What was scored with another decision is refused and never mixed; shards give what one table gives."""
    monkeypatch.setattr("common.predict.create_plan.PART_ROWS", 4)
    learned = ["--calibrated", "--thresholds", "f1_macro"]
    _, _, whole = predict(*learned)
    scored, real = [], shards.to_rows

    def stops(frame, *arguments, **options):
        scored.append(len(frame))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return real(frame, *arguments, **options)

    words = ["predict", "--run", str(trained[1]), "--input", str(tmp_path / "new.csv"), "--output"]
    output = tmp_path / "again.csv"
    with monkeypatch.context() as patch:
        patch.setattr(shards, "to_rows", stops)
        assert predict.script(*words, str(output), *learned)[0] == 75
    code, _, err = predict.script(*words, str(output))
    assert code == 5 and "temperature: " in err and "threshold of pro: " in err and "→ absent" in err
    code, _, err = predict.script(*words, str(output), "--calibrated")
    assert code == 5 and "temperature" not in err and "threshold of pro: " in err
    assert not output.exists()
    assert predict.script(*words, str(output), *learned)[0] == 0
    pd.testing.assert_frame_equal(read_table(output), whole)
    code, out, _ = predict.script(*words, str(tmp_path / "sharded.csv"), *learned, "--shards", "2")
    assert code == 0 and "every row once" in out
    pd.testing.assert_frame_equal(read_table(tmp_path / "sharded.csv"), whole)


def test_an_exported_folder_has_no_validation_rows(trained, tmp_path):
    _, folder = trained
    shutil.copytree(folder / "model", tmp_path / "exported")
    file = tmp_path / "exported" / "peftable.json"
    files.write_json(file, files.read_json(file) | {"format": "peft"})
    config = run_folder.load_run_config(folder)
    with pytest.raises(ConfigError, match="an exported folder has none"):
        decide(tmp_path / "exported", config, True, None, None)
    assert decide(tmp_path / "exported", config, False, None, None) == PLAIN


def validation(folder):
    records = files.read_jsonl(folder / "predictions-validation.jsonl")
    scores = np.array([[record["scores"][label] for label in LABELS] for record in records])
    return scores, np.array([LABELS.index(record["gold"]) for record in records])


def test_thresholds_are_those_of_validation(predict, trained):
    _, out, table = predict("--thresholds", "f1_macro")
    thresholds = calibration.fit_thresholds(*validation(trained[1]), "f1_macro")
    assert "thresholds for f1_macro on 12 validation rows" in out and f"pro {thresholds[2]:.3f}" in out
    expected = (np.log(chances(table)) - np.log(thresholds)).argmax(axis=1)
    assert table["predicted"].tolist() == [LABELS[place] for place in expected]


def test_an_error_that_no_row_keeps_is_refused(predict, trained):
    file = trained[1] / "predictions-validation.jsonl"
    wrong = {"gold": "con", "scores": {"con": -9.0, "neu": -0.1, "pro": -3.0}}
    files.write_jsonl(file, [record | wrong for record in files.read_jsonl(file)])
    code, out, _ = predict("--abstain", "0.05")
    assert code == 5 and "ABSTAIN=0.05" in out and "of all rows 100.0% are" in out


def test_a_threshold_of_a_label_without_validation_rows_is_refused(predict, trained):
    """The best score on validation would never predict that label again."""
    file = trained[1] / "predictions-validation.jsonl"
    files.write_jsonl(file, [record for record in files.read_jsonl(file) if record["gold"] != "neu"])
    code, out, _ = predict("--thresholds", "f1_macro")
    assert code == 5 and "8 validation rows have no row of the label neu" in out


@pytest.mark.parametrize("value", ["1", "-0.1", "five"])
def test_an_impossible_error_rate_is_refused(run_script, value):
    code, _, err = run_script("predict", "--model", "minilm-lora", "--text", "x", "--abstain", value)
    assert code == 2 and f"ABSTAIN is '{value}'" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--calibrated", "--adapter", "x"], ["CALIBRATED", "ADAPTER"]),
        (["--abstain", "0.1", "--thresholds", "f1_macro", "--adapter", "x"], ["THRESHOLDS and ABSTAIN", "ADAPTER"]),
    ],
)
def test_what_cannot_be_learned_or_kept_is_refused(run_script, options, words):
    code, _, err = run_script("predict", "--model", "minilm-lora", "--input", "a.csv", *options)
    assert code == 2 and all(word in err for word in words)


@pytest.mark.parametrize(
    ("option", "file"), [("--calibrated", calibration.FILE), ("--abstain=0.5", "predictions-validation.jsonl")]
)
def test_a_run_without_scored_validation_says_what_to_do(predict, trained, option, file):
    (trained[1] / file).unlink()
    code, out, _ = predict(option)
    assert code == 5 and file in out and "make evaluate MODEL=" in out and "SEED=1 SPLIT=validation" in out
