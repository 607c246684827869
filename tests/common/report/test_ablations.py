"""Ablations: a line per model with paired differences; in no other table, and never the best."""

import numpy as np
import pytest
from toy_runs import finished_run, run_config

from common.core.files import read_jsonl
from common.evaluation import paired_tests
from common.report import (
    ablations,
    best_runs,
    formats,
    html_report,
    page,
    plots,
    publish,
    readme_tables,
    records,
    results,
)

BEST = [{"step": 1, "validation_accuracy": 0.99}]
PLAIN = [{"step": 1, "validation_accuracy": 0.60}]


def run(outputs, right, ablation=None, job="minilm-lora", seed=1, baseline="", **facts):
    config = run_config(job, seed, {"ablation": ablation} if ablation else None)
    options = {"history": BEST if ablation else PLAIN, "best_step": 1} | facts
    return finished_run(outputs, config, right=right, rows=200, baseline=baseline, **options)


@pytest.fixture
def outputs(tmp_path):
    """A model that needs the second text and hardly the first one; an ablation is the best on validation and test."""
    run(tmp_path, 150)
    run(tmp_path, 148, "second-text")
    run(tmp_path, 100, "first-text")
    run(tmp_path, 170, "shuffled-first")
    run(tmp_path, 140, baseline="untuned")
    run(tmp_path, 141, "first-text", baseline="untuned")
    return tmp_path


def test_a_line_per_model_with_paired_differences(outputs):
    header, rows = ablations.table(results.load(outputs))
    assert header == ["model", "seeds", "all texts", "without claim", "without sentence", "claim shuffled"]
    assert [row[0] for row in rows] == ["minilm-lora, untuned", "minilm-lora"]
    assert rows[1][2].startswith("75.0 [")
    assert [cell.split()[0] for cell in rows[1][3:]] == ["-1.0", "-25.0", "+10.0"]
    assert all("[" in cell and "–" not in cell for cell in rows[1][3:])
    assert rows[0][3] == rows[0][5] == "–" and rows[0][4].startswith("+0.5 [")


def test_the_tests_are_paired_and_corrected(outputs):
    found = results.load(outputs)
    [_, line] = ablations.lines(found)
    place = outputs / "toy" / "minilm-lora"
    one, other = (
        read_jsonl(place / f"{part}/predictions-test.jsonl") for part in ("ablation=first-text/seed-1", "seed-1")
    )
    arrays = [
        np.array([record[key] for record in rows])
        for rows, key in ((other, "gold"), (one, "predicted"), (other, "predicted"))
    ]
    compared = line.compared["first-text"]
    assert compared.p == paired_tests.mcnemar(*arrays).p and compared.adjusted == pytest.approx(4 * compared.p)
    lower, same, higher = ablations.sentences(found)
    assert lower.startswith("Lower than with all texts") and "minilm-lora without sentence (Holm p" in lower
    assert same.startswith("Not distinguishable from all texts: ") and "minilm-lora without claim" in same
    assert higher.startswith("Higher than with all texts: minilm-lora claim shuffled")


def test_an_ablation_is_in_no_other_table_and_never_the_best(outputs):
    found = results.load(outputs)
    assert best_runs.best_model(found).variant == "" and [r.variant for r in best_runs.best_variants(found)] == ["", ""]
    assert [cells[1] for cells in readme_tables.summary_table(found)[1]] == ["minilm-lora, untuned", "minilm-lora"]
    text = page.published_page(found, {}, {})
    scores, used = text.split("### Use of the texts")
    assert "ablation" not in scores and "shuffled" not in scores and "| minilm-lora | 1 | 75.0 [" in used
    assert "- Lower than with all texts" in used
    named = {one.name: one.table for one in formats.text_tables(found)}
    assert "toy-ablations" in named and len(named["toy-scores"][1]) == 2
    standing = records.standings(found)
    assert standing[id(best_runs.best_model(found))].mark == "highest on test"
    assert all(id(result) not in standing for result in found if result.ablation)


def test_the_html_report_has_the_table(outputs):
    found = results.load(outputs)
    [dataset] = html_report.data(found, outputs, outputs, {}, records.standings(found))["datasets"]
    [table] = dataset["tables"]
    assert table["title"].startswith("Use of the texts") and table["rows"][1][0] == "minilm-lora"
    assert any(line.startswith("Lower than with all texts") for line in dataset["sentences"])
    models = {model["name"]: model for model in dataset["models"]}
    assert len(models) == 6 and models["minilm-lora"]["best"]
    assert not models["minilm-lora (ablation=shuffled-first)"]["chosen"]


def test_published_ablations_give_the_same_line(outputs, tmp_path):
    publish.publish(outputs, tmp_path / "published")
    there = results.load(tmp_path / "published")
    assert ablations.table(there) == ablations.table(results.load(outputs))


def test_without_the_whole_pair_the_score_stands_alone(tmp_path):
    run(tmp_path, 150, job="minilm-full")
    run(tmp_path, 120, "second-text")
    _, [row] = ablations.table(results.load(tmp_path))
    assert row[1:3] == ["–", "–"] and row[3].startswith("score 60.0 [")


def test_a_dataset_with_ablations_alone_shows_them_as_variants(tmp_path):
    run(tmp_path, 120, "second-text")
    run(tmp_path, 130, "first-text")
    found = results.load(tmp_path)
    assert ablations.table(found) is None and len(readme_tables.score_tables(found)) == 1
    text = page.published_page(found, {}, {})
    assert "| ablation |" in text and "### Use of the texts" not in text
    assert readme_tables.summary_table(found)[1] == [] and plots.draw("toy", found, tmp_path / "plots") == []


def test_seeds_are_averaged(tmp_path):
    for seed in (1, 2):
        run(tmp_path, 150 + seed, seed=seed)
        run(tmp_path, 120 + seed, "second-text", seed=seed)
    _, [row] = ablations.table(results.load(tmp_path))
    assert row[1] == "2" and row[3].startswith("-15.0 [")
