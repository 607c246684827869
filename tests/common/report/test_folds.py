"""Folds in the report: one row over all rows when every fold is finished; never variants to choose from."""

import dataclasses

import pytest
from toy_runs import finished_run, run_config

from common.config.dataset import Folds
from common.core.errors import ReportError
from common.report import best_runs, comparison_tables, page, publish, readme_tables, results
from common.report.statistics import Cache

FOLDED = {"splits": {"folds": 2, "fractions": {"validation": 0.1}}}
HISTORY = [{"step": 1, "validation_accuracy": 0.9}]


def fold(outputs, number, rights, seed=1, rows=40, sha256="a", history=None, **overrides):
    config = run_config(overrides={"fold": number, **overrides}, seed=seed, data_sha256=str(number) * 64, **FOLDED)
    dataset = config.dataset.with_fold(number)
    config = dataclasses.replace(config, dataset=dataset, folds=Folds(2, sha256 * 64))
    facts = {"history": history or HISTORY, "best_step": 1, "train_cpu_s": 100.0 * number}
    return finished_run(outputs, config, right=rights, rows=rows, gpu_memory_peak_bytes=None, **facts)


def test_folds_are_one_row_over_all_rows(tmp_path):
    """The fold with the better validation score is not chosen: both are shown, as one result."""
    for seed in (1, 2):
        fold(tmp_path, 1, 40, seed, history=[{"step": 1, "validation_accuracy": 0.5}])
        fold(tmp_path, 2, 10, seed, rows=20)
    [found] = results.load(tmp_path)
    assert found.name == "minilm-lora (2 folds)" and found.folds == 2 and len(found.documents) == 2
    assert found.values("test_accuracy") == [pytest.approx(50 / 60)] * 2
    assert found.documents[0]["test_n"] == 60 and found.values("train_cpu_s") == [300.0, 300.0]
    assert found.validation_score() == pytest.approx(0.7)
    assert found.settings["folds"] == 2 and "fold" not in found.settings
    assert len(found.outcomes[0].gold) == 60 and found.interval("test_accuracy").low < 50 / 60
    [cells] = readme_tables.summary_table([found])[1]
    assert cells[3] == "2" and cells[4].startswith("83.3 ± 0.0 [")
    text = page.published_page([found], {}, {})
    assert "60 test rows" in text and "- 2 folds: every row is a test row of one of 2 runs" in text
    assert "Toy stance 60 (2 folds)" in page.readme_block([found])


def test_scores_are_those_of_all_rows_together(tmp_path):
    """Against scikit-learn, on the rows of both folds; a mean over folds would be another number."""
    from sklearn.metrics import f1_score, matthews_corrcoef

    from common.core import files

    runs = [fold(tmp_path, 1, 31), fold(tmp_path, 2, 3, rows=21)]
    records = [record for run in runs for record in files.read_jsonl(run / "predictions-test.jsonl")]
    gold, predicted = ([record[key] for record in records] for key in ("gold", "predicted"))
    [found] = results.load(tmp_path)
    assert found.mean("test_f1_macro") == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert found.mean("test_matthews_corrcoef") == pytest.approx(matthews_corrcoef(gold, predicted))
    losses = [record["scores"][record["gold"]] for record in records]
    assert found.mean("test_loss") == pytest.approx(-sum(losses) / len(losses))
    assert found.mean("test_brier_score") is None  # not known of all rows together, so not shown


def test_two_variants_over_the_same_folds_are_tested_and_one_is_chosen(tmp_path):
    for number in (1, 2):
        fold(tmp_path, number, 40, **{"training.epochs": 1})
        fold(tmp_path, number, 20, history=[{"step": 1, "validation_accuracy": 0.95}])
    found = results.load(tmp_path)
    assert [result.name for result in found] == ["minilm-lora (2 folds)", "minilm-lora (training.epochs=1, 2 folds)"]
    assert best_runs.best_variants(found) == [found[0]]  # by the mean of validation over folds
    assert "Distinguishable from it at 80 rows" in comparison_tables.sentences(found)[0]


def test_some_folds_are_in_no_table_and_named(tmp_path):
    fold(tmp_path, 1, 40)
    fold(tmp_path, 1, 40, seed=2)
    fold(tmp_path, 2, 40, seed=2)
    [found] = results.load(tmp_path)
    assert [document["seed"] for document in found.documents] == [2]
    assert results.left_out(tmp_path, Cache()) == ["toy/minilm-lora, seed 1: of 2 folds only 1 are finished"]


@pytest.mark.parametrize(
    ("change", "line"), [({"sha256": "b"}, "the rows of all folds together"), ({}, "labels: ")], ids=["rows", "labels"]
)
def test_folds_of_other_rows_or_labels_are_not_joined(tmp_path, monkeypatch, change, line):
    fold(tmp_path, 1, 4, rows=4)
    if not change:
        monkeypatch.setitem(FOLDED, "labels", ["pro", "con"])
    fold(tmp_path, 2, 4, rows=4, **change)
    with pytest.raises(ReportError, match="its folds 1 and 2 cannot be joined") as raised:
        results.load(tmp_path)
    assert line in str(raised.value)


def test_a_run_without_folds_stands_beside_and_is_not_compared(tmp_path):
    for number in (1, 2):
        fold(tmp_path, number, 40)
    finished_run(tmp_path, right=30, rows=40, history=HISTORY, best_step=1)
    found = results.load(tmp_path)
    assert len(best_runs.best_variants(found)) == 2
    marks = [cells[5] for cells in readme_tables.summary_table(found)[1]]
    assert sorted(marks) == ["best", "other rows"]


def test_published_folds_are_the_same_row(tmp_path):
    outputs, published = tmp_path / "outputs", tmp_path / "published"
    for number in (1, 2):
        fold(outputs, number, 30)
    publish.publish(outputs, published)
    there, here = results.load(published), results.load(outputs)
    assert readme_tables.summary_table(there) == readme_tables.summary_table(here)
    assert there[0].outcomes[0].rows_sha256 == here[0].outcomes[0].rows_sha256
