"""FOLDS=: every fold is a run of its own, and when the last is finished, all rows have a prediction."""

import json

import pytest

DATASET = ["--dataset", "stance-sample-by-claim"]


def out_of_fold(outputs, job, name):
    [file] = (outputs / "stance-sample-by-claim" / job).glob(f"out-of-fold-{name}.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_baseline_in_each_fold(run_script, rows_dir, tmp_path):
    words = [*DATASET, "--baseline", "tfidf", "--data-dir", str(rows_dir), "--outputs", str(tmp_path)]
    code, _, err = run_script("baseline", *words)
    assert code == 2 and "FOLDS=all takes each" in err
    for fold, claim in (("1", "Claim 0."), ("2", "Claim 1.")):
        code, out, err = run_script("baseline", *words, "--folds", fold)
        assert code == 0 and f"fold {fold} of 2: test has 36 rows, group {claim}" in out, err
    [first, second] = sorted(tmp_path.rglob("fold=*/baseline-tfidf"))
    assert (first / "metrics-in_group.json").exists() and (second / "metrics-in_group.json").exists()
    records = out_of_fold(tmp_path, "classical", "baseline-tfidf")
    assert len({record["id"] for record in records}) == len(records) == 72
    assert [record["fold"] for record in records] == [1] * 36 + [2] * 36
    [file] = tmp_path.rglob("out-of-fold-*.jsonl")
    whole = file.read_bytes()
    file.unlink()  # as if the last fold had been killed between its metrics and this file
    assert run_script("baseline", *words, "--folds", "1")[0] == 0 and file.read_bytes() == whole


@pytest.mark.slow
def test_all_folds_of_a_job(run_script, tiny_arguments, tmp_path):
    words = [*DATASET, *tiny_arguments("training.epochs=1")]
    code, _, err = run_script("train", *words, "--folds", "all")
    assert code == 0, err
    records = out_of_fold(tmp_path / "outputs", "minilm-lora", "model=tiny_bert*-seed-1")
    assert len({record["id"] for record in records}) == len(records) == 72
    assert run_script("evaluate", *words, "--folds", "2", "--split", "in_group")[0] == 0
    written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("metrics.json")}
    assert run_script("train", *words, "--folds", "all")[0] == 0 and len(written) == 2
    assert {file: file.stat().st_mtime_ns for file in written} == written  # finished folds are left alone
