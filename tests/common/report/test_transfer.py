"""The gap between known and held-out groups: known numbers, what is drawn, and the same from what is published."""

import numpy as np
import pytest
from group_runs import fold_run

from common.core import files
from common.evaluation import resampling
from common.evaluation.intervals import Interval
from common.report import page, publish, results, transfer

GROUPS = ["claim a", "claim b", "claim c"]
RIGHT = [(36, 10), (32, 12), (28, 17)]  # of 40 rows of known groups and of 20 rows of the held-out one


def write(outputs, rights=RIGHT, **options):
    for number, right in enumerate(rights, start=1):
        options.setdefault("first_known", None)
        first = options["first_known"] if options["first_known"] is not None else 100 * number
        fold_run(outputs, GROUPS, number, right, **(options | {"first_known": first}))
    return results.load(outputs)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    place = tmp_path_factory.mktemp("folds")
    write(place)
    return place


def test_all_folds_together_and_each_by_its_held_out_group(outputs):
    [found] = results.load(outputs)
    whole, *folds = transfer.gaps(found)
    assert (whole.known.rows, whole.held_out.rows) == (120, 60)
    assert (whole.known.mean, whole.held_out.mean) == (pytest.approx(96 / 120), pytest.approx(39 / 60))
    assert whole.value == pytest.approx(0.15) and whole.held_out.interval == found.interval("test_accuracy")
    assert [fold.group for fold in folds] == GROUPS
    assert [fold.value for fold in folds] == [pytest.approx(n) for n in (0.4, 0.2, -0.15)]
    header, rows = transfer.table([found])
    assert header[0] == "model" and header[-1] == "gap"
    assert rows[0][:4] == ["minilm-lora (3 folds)", "all", "120", "60"] and rows[0][6].startswith("+15.0 [")
    assert [row[:4] for row in rows[1:]] == [["", name, "40", "20"] for name in GROUPS]
    assert [row[6].split()[0] for row in rows[1:]] == ["+40.0", "+20.0", "-15.0"]


def test_the_gaps_interval_is_made_of_both_sides(outputs):
    """For one fold against a bootstrap of both sides; the method is not the same, so 3 points may differ."""
    [found] = results.load(outputs)
    fold = transfer.gaps(found)[1]
    low, high = fold.interval
    known, held_out = fold.known.interval, fold.held_out.interval
    assert low == pytest.approx(fold.value - np.hypot(known.value - known.low, held_out.high - held_out.value))
    rng = np.random.default_rng(0)
    drawn = rng.binomial(40, 36 / 40, 50_000) / 40 - rng.binomial(20, 10 / 20, 50_000) / 20
    assert [low, high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)


def test_a_row_that_is_in_several_folds_is_drawn_once(tmp_path):
    """The same 40 rows in all three folds say as much as 40 rows, not as 120: the interval is √3 times as wide."""
    rights = [(30, 10)] * 3
    [apart] = write(tmp_path / "apart", rights)
    [again] = write(tmp_path / "again", rights, first_known=0)
    wide, narrow = (transfer.gaps(found)[0].known for found in (again, apart))
    assert wide.rows == narrow.rows == 120 and wide.mean == narrow.mean == 0.75

    def width(side):
        return side.interval.high - side.interval.low

    assert width(wide) / width(narrow) == pytest.approx(np.sqrt(3), rel=0.05)


def test_of_many_groups_groups_are_drawn_and_the_largest_gaps_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(resampling, "MIN_GROUPS", 5)
    monkeypatch.setattr(transfer, "_MOST_FOLDS", 3)
    names = [f"topic {n}" for n in range(5)]
    for number in range(1, 6):
        fold_run(tmp_path, names, number, (13, 3 + number), (20, 10), first_known=100 * number)
    [found] = results.load(tmp_path)
    units = transfer._known_units(found.fold_runs)
    assert units.grouped and units.numbers.sum() == 5 and found.units.grouped
    whole, *folds = transfer.gaps(found)
    assert whole.interval is not None and [fold.group for fold in folds] == names[:3]
    [first, last] = transfer.sentences([found])
    assert first == "Gap not distinguishable from 0: minilm-lora (5 folds) (+5.0 points)."
    assert "the 3 of 5 held-out groups with its largest gaps" in last


def test_several_seeds_are_averaged(tmp_path):
    write(tmp_path)
    [found] = write(tmp_path, [(40, 10), (40, 10), (40, 10)], seed=2)
    whole = transfer.gaps(found)[0]
    assert whole.known.scores == (pytest.approx(0.8), 1.0) and whole.value == pytest.approx(0.9 - (0.65 + 0.5) / 2)
    assert isinstance(whole.known.interval, Interval) and whole.known.interval.seed_variance > 0
    assert " ± " in transfer.table([found])[1][0][4]


def test_what_is_published_gives_the_same_table(outputs, tmp_path):
    published = tmp_path / "published"
    here = results.load(outputs)
    assert len(publish.publish(outputs, published)) == 3
    there = results.load(published)
    assert transfer.table(there) == transfer.table(here) and transfer.sentences(there) == transfer.sentences(here)
    outcomes = list(published.rglob("outcomes-in_group.json"))
    assert len(outcomes) == 3 and all("claim" not in file.read_text() for file in outcomes)
    assert publish.publish(outputs, published) == []
    outcomes[0].unlink()  # as a version published that did not know them
    assert publish.publish(outputs, published) == [outcomes[0].parent] and outcomes[0].exists()
    run = next((outputs / "toy").rglob("metrics-in_group.json")).parent
    place = published / run.relative_to(outputs)
    files.write_json(place / "metrics-in_group.json", {"schema": 1})  # of an evaluation before
    with_predictions = (run / "predictions-in_group.jsonl").rename(tmp_path / "kept.jsonl")
    assert publish.publish(outputs, published) == [place] and not (place / "outcomes-in_group.json").exists()
    with_predictions.rename(run / "predictions-in_group.jsonl")
    text = page.published_page(there, {}, {})
    assert "### In-group and held-out groups" in text and "- Lower on held-out groups: minilm-lora (3 folds)" in text


def test_without_outcomes_the_numbers_stand_without_an_interval(tmp_path):
    for seed in (1, 2):
        write(tmp_path, seed=seed)
    for file in tmp_path.rglob("predictions-in_group.jsonl"):
        file.unlink()
    _, rows = transfer.table(results.load(tmp_path))
    assert rows[0][4] == "80.0 ± 0.0 [–]" and rows[0][6] == rows[0][6].split()[0] + " [–]"
    assert transfer.sentences(results.load(tmp_path)) == []


def test_outcomes_of_other_predictions_are_refused(tmp_path):
    write(tmp_path)
    file = next(tmp_path.rglob("metrics-in_group.json"))
    files.write_json(file, files.read_json(file) | {"in_group_confusion": [[0, 20], [20, 0]]})
    assert results.load(tmp_path) == []  # this fold is damaged, so its job is not whole
    from common.report import finished_runs
    from common.report.statistics import Cache

    assert "predictions-in_group.jsonl: it does not belong to the metrics-in_group.json" in finished_runs.damage(
        file.parent, Cache()
    )


def test_without_rows_of_known_groups_there_is_no_table(tmp_path):
    found = write(tmp_path, with_in_group=False)
    assert transfer.table(found) is None and transfer.sentences(found) == []
