"""Scores by group: the order of groups and models, their intervals, and a plot that shows any name."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import report_runs
from toy_runs import finished_run, run_config

from common.core.files import read_jsonl, write_jsonl
from common.report import drawn_text, group_plots, groups, page, plots, results


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A baseline and a model with two seeds on 60 rows of four groups."""
    place = tmp_path_factory.mktemp("groups")
    rows = report_runs.write_rows(place / "rows", 60)
    report_runs.scored_run(place / "outputs", rows, baseline="majority", right=0.2)
    for seed in (1, 2):
        report_runs.scored_run(place / "outputs", rows, seed=seed, right=0.8)
    return place / "outputs"


def test_the_best_model_first_and_its_worst_group_first(outputs):
    found = groups.find(results.load(outputs))
    assert found.models == ("minilm-lora", "majority class")
    assert sum(found.rows.values()) == 60 and found.all_groups == 4 and found.name == "accuracy"
    means = [found.cells[group][0].mean for group in found.rows]
    assert means == sorted(means)
    for group in found.rows:  # against the predictions themselves
        for cell, last in zip(found.cells[group], (("seed-1", "seed-2"), ("baseline-majority",)), strict=True):
            wanted = []
            for name in last:
                records = read_jsonl(next(outputs.rglob(f"{name}/predictions-test.jsonl")))
                wanted.append(np.mean([one["gold"] == one["predicted"] for one in records if one["group"] == group]))
            assert cell.scores == pytest.approx(wanted)
            assert cell.interval.low <= cell.mean <= cell.interval.high and cell.interval.low < cell.interval.high
    header, rows = groups.table(found)
    assert header[:3] == ["group", "rows", "minilm-lora"] and rows[0][2].count("±") == 1 and "[" in rows[0][2]


def test_a_groups_interval_is_that_of_its_rows_alone(outputs):
    from common.evaluation import intervals, resampling

    found = results.load(outputs)
    tuned = next(result for result in found if not result.baseline)
    cell = groups.find(found).cells["Claim 2"][0]
    folders = [outputs / "toy" / "minilm-lora" / f"seed-{seed}" for seed in (1, 2)]
    records = [
        [one for one in read_jsonl(folder / "predictions-test.jsonl") if one["group"] == "Claim 2"]
        for folder in folders
    ]
    labels = list(report_runs.LABELS)
    gold = np.array([labels.index(one["gold"]) for one in records[0]])
    predicted = np.array([[labels.index(one["predicted"]) for one in seed] for seed in records])
    wanted = intervals.intervals(resampling.units(gold, predicted, 3, None), ["accuracy"], (), 5)["accuracy"]
    assert cell.mean == pytest.approx(wanted.value) and tuned.mean("test_accuracy") != cell.mean
    assert (cell.interval.low, cell.interval.high) == pytest.approx((wanted.low, wanted.high), abs=0.02)


def test_without_outcomes_one_seed_has_an_interval_by_its_counts(outputs, tmp_path):
    import shutil

    shutil.copytree(outputs / "toy" / "minilm-lora" / "seed-1", tmp_path / "toy" / "minilm-lora" / "seed-1")
    with_outcomes = groups.find(results.load(tmp_path))
    next(tmp_path.rglob("predictions-test.jsonl")).unlink()
    without = groups.find(results.load(tmp_path))
    for group in without.rows:
        one, other = (found.cells[group][0].interval for found in (without, with_outcomes))
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=0.04)


def test_of_more_groups_and_models_the_worst_and_the_best_are_shown(tmp_path, monkeypatch):
    assert (groups.MOST_GROUPS, groups.MOST_MODELS) == (20, 8)
    monkeypatch.setattr(groups, "MOST_GROUPS", 2)
    monkeypatch.setattr(groups, "MOST_MODELS", 1)
    rows = report_runs.write_rows(tmp_path / "rows", 40)
    for job, right in (("minilm-lora", 0.9), ("minilm-full", 0.3)):
        report_runs.scored_run(tmp_path / "outputs", rows, job, right=right)
    found = groups.find(results.load(tmp_path / "outputs"))
    assert (len(found.rows), found.all_groups, found.models, found.other_models) == (2, 4, ("minilm-lora",), 1)
    first, second = groups.sentences(found)
    assert first.startswith("Accuracy by group, the 2 of 4 with the lowest; the group where minilm-lora is worst")
    assert second == "Models with lower scores on all rows, not shown: 1."


def test_no_groups_no_table(tmp_path):
    finished_run(tmp_path, run_config())
    found = results.load(tmp_path)
    assert groups.find(found) is None and "### Groups" not in page.published_page(found, {}, {})


def test_the_mean_f1_of_some_labels_is_known_by_group(tmp_path):
    rows = report_runs.write_rows(tmp_path / "rows", 60)
    options = {"score": "f1_mean_labels", "mean_f1_labels": ["con", "pro"]}
    report_runs.scored_run(tmp_path / "outputs", rows, **options)
    found = groups.find(results.load(tmp_path / "outputs"))
    assert found.name == "mean F1 of con and pro"
    from sklearn.metrics import f1_score

    records = read_jsonl(next((tmp_path / "outputs").rglob("predictions-test.jsonl")))
    for group, (cell,) in found.cells.items():
        own = [one for one in records if one["group"] == group]
        gold, predicted = ([one[key] for one in own] for key in ("gold", "predicted"))
        assert cell.mean == pytest.approx(f1_score(gold, predicted, labels=["con", "pro"], average="macro"))
        assert cell.interval.value == pytest.approx(cell.mean)


@pytest.mark.filterwarnings("error")
def test_the_plot_has_a_row_per_group_with_any_name(tmp_path):
    odd = ["a claim that is far longer than a plot has room for, and goes on", "$50 | R&D_x", "مرحبا", "line\nbreak"]
    rows = report_runs.write_rows(tmp_path / "rows", 40)
    for file in rows.iterdir():
        records = read_jsonl(file)
        for number, record in enumerate(records):
            record["claim"] = odd[number % 4]
        write_jsonl(file, records)
    for job in ("minilm-lora", "minilm-full"):
        report_runs.scored_run(tmp_path / "outputs", rows, job)
    loaded = results.load(tmp_path / "outputs")
    found = groups.find(loaded)
    figure = group_plots.score_by_group("Toy", found)
    [axes] = figure.axes
    shown = [text.get_text() for text in axes.get_yticklabels()]
    for name, text in zip(found.rows, shown, strict=True):
        wanted = drawn_text.cut(name, drawn_text.GROUP)
        assert text == f"{wanted} (10)" or (text.startswith("group ") and not drawn_text.is_drawable(wanted))
    assert "group n: the n-th group of the table" in axes.get_xlabel()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(found.models)
    plt.close(figure)
    paths = plots.draw("toy", loaded, tmp_path / "plots")
    assert "toy.groups.png" in [path.name for path in paths]
    assert '<img src="plots/toy.groups.png" alt="Toy stance: score by group"' in page.published_page(
        loaded, {"toy": ["plots/toy.groups.png"]}, {}
    )
