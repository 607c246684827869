"""report/html_plots.py: the page has the numbers, texts and sentences of the tables."""

import json

import pytest
from toy_runs import finished_run, run_config

from common.evaluation import intervals
from common.report import curve_tables, curves, groups, html_plots, html_report, results


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(intervals, "DRAWS", 199)


def point(outputs, rows, right, sampling="nested"):
    overrides = {"training.max_train_samples": rows, "training.sampling": sampling}
    finished_run(outputs, run_config(overrides=overrides), right=right, rows=40, train_count=rows)


@pytest.fixture
def sampled(tmp_path):
    """A curve whose last point is the run on all rows, and one over few rows of each of two labels."""
    for rows, right in ((40, 12), (80, 22), (160, 28)):
        point(tmp_path, rows, right)
    finished_run(tmp_path, right=34, rows=40, train_count=400)
    finished_run(tmp_path, run_config("minilm-full"), right=20, rows=40, train_count=400)
    point(tmp_path, 160, 30, "balanced")
    point(tmp_path, 16, 10, "balanced")
    config = run_config("minilm-full", overrides={"training.max_train_samples": 80, "training.sampling": "nested"})
    finished_run(tmp_path, config, right=18, rows=40, train_count=80)
    return curves.find(results.load_all(tmp_path))


def test_a_curve_is_that_of_the_tables(sampled):
    more, few = html_plots.more_labels(sampled)
    by_kind = curve_tables.by_dataset(sampled)
    for kind, per_label in ((more, False), (few, True)):
        members = by_kind["toy", per_label]
        header, rows = curve_tables.table(members)
        texts = [[cell["text"] if cell else "–" for cell in line["cells"]] for line in kind["lines"]]
        assert kind["header"] == header and [line["name"] for line in kind["lines"]] == [row[0] for row in rows]
        assert texts == [row[1:] for row in rows]
        assert kind["sentences"] == [curve_tables.sentence(curve) for curve in members]
        assert kind["title"] == curve_tables.title(members)
    assert more["sizes"] == [40, 80, 160, 400] and few["sizes"] == [8, 80]
    lines = {line["name"]: line for line in more["lines"]}
    full, lora = lines["minilm-full"], lines["minilm-lora"]
    assert [cell and cell["mean"] for cell in full["cells"]] == [None, 0.45, None, 0.5] and full["law"] is None
    [cell] = lora["cells"][3:]
    [interval] = [one.lead.interval("test_accuracy") for one in sampled if one.forecast]
    assert (cell["mean"], cell["low"], cell["high"]) == (0.85, interval.low, interval.high)
    assert lora["now"] == 400 and {40, 400, 800} <= set(map(round, lora["law"]["rows"]))
    json.dumps([more, few], allow_nan=False)


def test_a_wide_band_does_not_make_the_points_small(sampled):
    [one] = [curve for curve in sampled if curve.forecast]
    low, high = curves.score_range([one])
    ends = [point.result.interval("test_accuracy") for point in one.points]
    lowest, highest = (min(end.low for end in ends), max(end.high for end in ends))
    assert low <= lowest and high >= highest and low <= min(one.forecast.score)
    one.forecast.low[:] = [-3.0] * len(one.forecast.low)
    one.forecast.high[:] = [2.0] * len(one.forecast.high)
    low, high = curves.score_range([one])
    assert (low, high) == (0.0, 1.0)  # there are no other scores
    one.forecast.low[:] = [lowest - 0.01] * len(one.forecast.low)
    assert curves.score_range([one]) == (lowest - 0.01, 1.0)


def test_groups_are_those_of_the_tables(tmp_path):
    assert html_plots.by_group(None) is None
    import report_runs

    rows = report_runs.write_rows(tmp_path / "rows", 24)
    for seed in (1, 2):
        report_runs.scored_run(tmp_path / "outputs", rows, seed=seed, right=0.5)
    report_runs.scored_run(tmp_path / "outputs", rows, baseline="majority", right=0.0)
    found = groups.find(results.load(tmp_path / "outputs"))
    content = html_plots.by_group(found)
    header, table = groups.table(found)
    assert [*content["models"]] == header[2:] and content["sentences"] == groups.sentences(found)
    texts = [[row["group"], f"{row['n']:,}", *(cell["text"] for cell in row["cells"])] for row in content["rows"]]
    assert texts == table and len(table) == 4
    cell, one = content["rows"][0]["cells"][0], found.cells[content["rows"][0]["group"]][0]
    assert (cell["mean"], cell["low"], cell["high"]) == (one.mean, one.interval.low, one.interval.high)


def test_a_dataset_with_curves_alone_is_in_the_page(tmp_path):
    for rows, right in ((16, 10), (32, 20)):
        point(tmp_path, rows, right, "balanced")
    sampled = curves.find(results.load_all(tmp_path))
    [dataset] = html_report.data([], tmp_path, tmp_path, {}, {}, sampled)["datasets"]
    assert (dataset["name"], dataset["title"], dataset["models"]) == ("toy", "Toy stance", [])
    assert [kind["sizes"] for kind in dataset["more_labels"]] == [[8, 16]] and dataset["groups"] is None
