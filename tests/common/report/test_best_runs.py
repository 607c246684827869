import pytest
from toy_runs import finished_run, run_config

from common.core import files
from common.report import best_runs, results

JOB = "minilm-emotion-lora"


def test_validation_chooses_the_variant_not_test(swept):
    chosen = best_runs.best_variants(swept)
    assert [(result.job, result.settings.get("method.alpha")) for result in chosen if result.job == JOB] == [(JOB, 8.0)]
    assert [result.name for result in chosen if result.job != JOB] == ["minilm-lora, untuned", "minilm-emotion-full"]
    best = best_runs.best_model(swept)
    assert (best.job, best.settings["method.alpha"]) == (JOB, 8.0)


def test_the_score_is_that_of_the_kept_checkpoint(swept):
    scores = {result.settings.get("method.alpha"): result.validation_score() for result in swept if result.job == JOB}
    assert scores == {8.0: 0.7, 16.0: 0.6, 32.0: 0.6}


def test_a_score_of_all_validation_rows_comes_first(tmp_path):
    run = finished_run(tmp_path, history=[{"step": 2, "validation_accuracy": 0.9}], best_step=2)
    document = {"validation_accuracy": 0.8, "train_s": 1.0, "score": "validation_accuracy"}
    files.write_json(run / "metrics-validation.json", files.read_json(run / "metrics.json") | document)
    (result,) = results.load(tmp_path)
    assert result.validation_score() == 0.8
    assert (result.score_key, result.mean("train_s")) == ("test_accuracy", 125.0)


def test_variants_stay_where_one_has_no_validation_score(tmp_path):
    for r in (2, 4):
        finished_run(tmp_path, run_config(overrides={"method.r": r}), history=[])
    found = results.load(tmp_path)
    assert [result.validation_score() for result in found] == [None, None]
    assert best_runs.best_variants(found) == found
    assert best_runs.best_model(found) is found[0]


def test_validation_chooses_the_variant_of_a_baseline(tmp_path):
    for calibration, validation in (("none", 0.4), ("content-free", 0.5)):
        config = run_config("smollm2-135m-prompt", overrides={"calibration": calibration})
        run = finished_run(tmp_path, config, baseline="zero-shot")
        document = {"validation_accuracy": validation, "score": "validation_accuracy"}
        files.write_json(run / "metrics-validation.json", files.read_json(run / "metrics.json") | document)
    found = results.load(tmp_path)
    assert [result.validation_score() for result in found] == [0.4, 0.5]
    assert best_runs.best_variants(found) == found[1:]


def test_one_seed_without_a_validation_score_leaves_none(tmp_path):
    finished_run(tmp_path, run_config(seed=1), history=[{"step": 1, "validation_accuracy": 0.5}], best_step=1)
    finished_run(tmp_path, run_config(seed=2), history=[], best_step=1)
    assert results.load(tmp_path)[0].validation_score() is None


def test_methods_of_one_job_are_groups(tmp_path):
    for method in ({}, {"method.r": 4}, {"method.name": "full"}):
        history = [{"step": 1, "validation_accuracy": 0.5}]
        finished_run(tmp_path, run_config("minilm-lora", overrides=method), history=history, best_step=1)
    found = results.load(tmp_path)
    groups = best_runs.groups(found)
    expected = {"minilm-lora (lora, classification head)": 2, "minilm-lora (full, classification head)": 1}
    assert {name: len(members) for name, members in groups.items()} == expected
    assert len(best_runs.best_variants(found)) == 2


@pytest.mark.parametrize("baseline", ["majority", "untuned"])
def test_baselines_alone_have_no_best_model(tmp_path, baseline):
    finished_run(tmp_path, baseline=baseline)
    found = results.load(tmp_path)
    assert best_runs.best_model(found) is None and best_runs.best_variants(found) == found
