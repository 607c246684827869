"""Learning curves over train rows in the report: a table and sentences of their own, and in no other table."""

import dataclasses

import pandas as pd
import pytest
from toy_runs import finished_run, run_config

from common.core import files
from common.evaluation import intervals, power_law
from common.report import best_runs, curve_plots, curve_tables, curves, formats, page, publish, readme_tables, results


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(intervals, "DRAWS", 199)


SAMPLE, SAMPLING = "training.max_train_samples", "training.sampling"
SIZES = {40: 12, 80: 22, 160: 28, 280: 32}  # train rows: test rows of 40 that are right


def point(outputs, rows, right, sampling="nested", baseline="", seed=1):
    overrides = {"training.max_train_samples": rows, "training.sampling": sampling}
    config = run_config(seed=seed, overrides=overrides)
    return finished_run(outputs, config, right=right, rows=40, baseline=baseline, train_count=rows)


def curve(outputs, sizes=SIZES, full=34, **settings):
    for rows, right in sizes.items():
        point(outputs, rows, right, **settings)
    if full:
        finished_run(outputs, right=full, rows=40, train_count=400)


def found(outputs):
    return curves.find(results.load_all(outputs))


def test_points_are_in_no_other_table_and_never_chosen(tmp_path):
    finished_run(tmp_path, right=20, rows=40, train_count=400)
    alone = results.load(tmp_path)
    tables = readme_tables.summary_table(alone), readme_tables.score_tables(alone), page.readme_block(alone)
    curve(tmp_path, full=None)
    curve(tmp_path, {24: 39, 48: 40}, full=None, sampling="balanced")
    beside = results.load(tmp_path)
    assert [result.name for result in beside] == ["minilm-lora"] and best_runs.best_variants(beside) == beside
    assert (
        readme_tables.summary_table(beside),
        readme_tables.score_tables(beside),
        page.readme_block(beside),
    ) == tables


def test_the_run_on_all_rows_is_the_last_point(tmp_path):
    curve(tmp_path)
    [one] = found(tmp_path)
    assert one.name == "minilm-lora" and [point.rows for point in one.points] == [40, 80, 160, 280, 400]
    header, [cells] = curve_tables.table([one])
    assert header == ["model", "40 rows", "80 rows", "160 rows", "280 rows", "400 rows"]
    assert cells[0] == "minilm-lora" and cells[1].startswith("30.0 [") and cells[5].startswith("85.0 [")


def test_a_variant_that_a_user_samples_is_no_point(tmp_path):
    finished_run(tmp_path, run_config(overrides={"training.max_train_samples": 20}), train_count=20)
    curve(tmp_path)
    assert [len(one.points) for one in found(tmp_path)] == [5]
    assert len(results.load(tmp_path)) == 2


def test_a_job_s_own_limit_that_cuts_nothing(tmp_path):
    """Its run on all rows is the last point, whether the limit is above their number or equal to it."""
    for limit in (500, 400):
        outputs = tmp_path / str(limit)
        curve(outputs, full=None)
        finished_run(outputs, run_config(overrides={SAMPLE: limit}), right=34, rows=40, train_count=400)
        finished_run(outputs, baseline="tfidf", right=9, rows=40, train_count=400)
        assert [one.points[-1].rows for one in found(outputs)] == [400]


def test_training_arguments_are_no_part_of_a_baseline_s_curve(tmp_path):
    for rows, right in SIZES.items():
        point(tmp_path, rows, right, baseline="embedding")
    config = run_config(overrides={"training.learning_rate": 3e-5})  # the job's YAML was changed meanwhile
    finished_run(tmp_path, config, right=34, rows=40, baseline="embedding", train_count=400)
    assert [[point.rows for point in one.points] for one in found(tmp_path)] == [[*SIZES, 400]]


def test_two_names_of_one_size_are_one_point(tmp_path):
    curve(tmp_path)
    again = run_config(overrides={SAMPLE: 400, SAMPLING: "nested"})
    finished_run(tmp_path, again, right=34, rows=40, train_count=400)
    [one] = found(tmp_path)
    assert [point.rows for point in one.points] == [*SIZES, 400] and one.forecast is not None


def test_baselines_that_learn_nothing_have_no_curve(tmp_path):
    for rows in (40, 80):
        point(tmp_path, rows, 10, baseline="untuned")
    assert found(tmp_path) == [] and len(results.load(tmp_path)) == 2


def test_a_point_has_the_rows_that_there_were(tmp_path):
    overrides = {SAMPLE: 100_000, SAMPLING: "nested"}
    finished_run(tmp_path, run_config(overrides=overrides), right=34, rows=40, train_count=400)
    assert [result.curve_rows for result in results.load_all(tmp_path)] == [400]


def test_another_setting_is_another_curve(tmp_path):
    curve(tmp_path)
    for rows in (40, 80):
        overrides = {"training.max_train_samples": rows, "training.sampling": "nested", "method.r": 4}
        finished_run(tmp_path, run_config(overrides=overrides), rows=40, train_count=rows)
    assert {one.name: len(one.points) for one in found(tmp_path)} == {"minilm-lora": 5, "minilm-lora (method.r=4)": 2}


def test_few_labels_are_a_curve_of_their_own(tmp_path):
    curve(tmp_path)
    curve(tmp_path, {16: 10, 32: 20, 64: 25, 128: 28}, full=None, sampling="balanced")
    few, one = found(tmp_path)
    assert (one.per_label, few.per_label) == (False, True) and len(few.points) == 4
    assert curve_tables.table([few])[0][1:] == ["8 per label", "16 per label", "32 per label", "64 per label"]
    assert few.more == 2 * 20 and "another 20 rows of each label" in curve_tables.sentence(few)


def test_the_gain_of_a_curve_is_said(tmp_path):
    curve(tmp_path)
    [one] = found(tmp_path)
    assert one.more == 200  # a round number, at most half as many rows again
    text = curve_tables.sentence(one)
    assert text.startswith("minilm-lora: ") and "another 200 rows" in text and "400 now" in text


@pytest.mark.parametrize(
    ("gains", "text"),
    [
        (
            (0.004, 0.019),
            "m: another 200 rows: +0.4 to +1.9 points (95 %), with 400 now. Fitted: error = 0.100 + 2 · n^-0.50.",
        ),
        (
            (0.0, 0.04),
            "m: the data cannot tell whether another 200 rows help: +0.0 to +4.0 points (95 %), with 400 now.",
        ),
        (
            (-0.0, 0.04),
            "m: the data cannot tell whether another 200 rows help: +0.0 to +4.0 points (95 %), with 400 now.",
        ),
        ((0.0001, 0.006), "m: another 200 rows hardly help: at most +0.6 points (95 %), with 400 now."),
    ],
)
def test_sentences(tmp_path, gains, text):
    curve(tmp_path)
    [one] = found(tmp_path)
    forecast = power_law.Forecast(power_law.Law(0.1, 0.1, 0.5, 400), gain_low=gains[0], gain_high=gains[1])
    one = dataclasses.replace(one, name="m")
    one.__dict__["forecast"] = forecast
    assert curve_tables.sentence(one) == text


def test_what_the_data_cannot_tell_has_its_reason(tmp_path):
    curve(tmp_path, {40: 12, 80: 20})
    [short] = found(tmp_path)
    assert curve_tables.sentence(short).endswith(
        "cannot tell what more rows would bring: 3 sizes; a curve needs at least 4."
    )
    run = point(tmp_path, 160, 28)
    (run / "predictions-test.jsonl").unlink()
    [unknown] = found(tmp_path)
    assert "the predictions of the same test rows are not known" in curve_tables.sentence(unknown)


def test_points_on_other_rows_make_no_curve(tmp_path):
    curve(tmp_path)
    config = run_config(
        overrides={"training.max_train_samples": 20, "training.sampling": "nested"}, data_sha256="e" * 64
    )
    finished_run(tmp_path, config, rows=40, train_count=20)
    assert [[point.rows for point in one.points] for one in found(tmp_path)] == [[40, 80, 160, 280, 400]]


def test_page_and_plot_of_published_runs(tmp_path):
    outputs, published = tmp_path / "outputs", tmp_path / "published"
    curve(outputs)
    curve(outputs, {16: 10, 32: 20}, full=None, sampling="balanced")
    publish.publish(outputs, published)
    there = found(published)
    assert [curve_tables.table([one]) for one in there] == [curve_tables.table([one]) for one in found(outputs)]
    plots = curve_plots.draw(there, published / "plots")
    names = [path.relative_to(published).as_posix() for path in plots]
    assert names == ["plots/curves/toy.more-labels.png", "plots/curves/toy.few-labels.png"]
    assert all(path.stat().st_size > 10_000 for path in plots)
    parts = curve_tables.section(there, curve_plots.of_page(published))
    text = page.published_page(results.load(published), {}, {}, curves=parts)
    for part in (
        "## More labels?",
        "| 400 rows |",
        "### Toy stance: accuracy by train rows of each label",
        *(f'src="{one}"' for one in names),
    ):
        assert part in text
    assert curve_tables.section([], {}) == []
    for form in ("latex", "csv"):
        assert formats.write(form, results.load(published), tmp_path / form, {}, there) == []
    assert "400 rows" in (tmp_path / "latex" / "toy-more-labels.tex").read_text(encoding="utf-8")
    table = pd.read_csv(tmp_path / "csv" / "curves.csv")
    assert table.train_rows.tolist() == [16, 32, 40, 80, 160, 280, 400] and table.score_mean[6] == 0.85


def test_baselines_of_older_versions_take_the_number_of_all_rows_from_other_runs(tmp_path):
    curve(tmp_path)
    for rows, right in SIZES.items():
        point(tmp_path, rows, right, baseline="embedding")
    full = finished_run(tmp_path, right=30, rows=40, baseline="embedding")
    assert "train_count" not in files.read_json(full / "metrics.json")
    assert [[point.rows for point in one.points][-1] for one in found(tmp_path)] == [400, 400]
