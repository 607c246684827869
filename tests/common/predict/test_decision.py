"""A plan with a decision: its columns in every format, its record, and the refusal of another one in its place."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from toy_runs import run_config
from toy_scores import Score, table, truth

from common.core.errors import DataError, RunError
from common.data.table_reader import read_table
from common.data.table_writer import write_table
from common.evaluation.calibration import Abstention
from common.predict import shards
from common.predict.columns import prediction_columns
from common.predict.create_plan import create_plan
from common.predict.decision import PLAIN, Decision, decide
from common.predict.merge import merge_parts, merge_summary
from common.predict.plan import PLAN, read_plan

LABELS = ["con", "pro"]
DECISION = Decision(2.5, (0.3, 0.7), Abstention(0.55, 0.8, 0.1, 0.2), ("a line",))


@pytest.fixture
def plan_of(tmp_path):
    """`plan_of("in.csv", rows, "out.csv", decision)` plans two shards with parts of 4 rows."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")

    def create(source, rows, output, decision, **options):
        write_table(tmp_path / source, table(rows))
        given = (run_config(), tmp_path / "model", False, 2)
        return create_plan(tmp_path / output, [tmp_path / source], *given, part_rows=4, decision=decision, **options)

    return create


def work(plan):
    for number in range(plan.shards):
        shards.score_shard(plan, number, Score())


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "xlsx"])
def test_every_format_gets_the_columns_of_the_decision(tmp_path, plan_of, ending):
    plan = plan_of(f"in.{ending}", 19, f"out.{ending}", DECISION)
    assert read_plan(plan.folder) == plan
    work(read_plan(plan.folder))
    report = merge_parts(plan)
    frame = read_table(tmp_path / f"in.{ending}")
    scores = truth(frame["sentence"].map(str).tolist())
    added = prediction_columns(scores, LABELS, DECISION)
    write_table(tmp_path / f"whole.{ending}", frame.assign(**added))
    pd.testing.assert_frame_equal(read_table(plan.output), read_table(tmp_path / f"whole.{ending}"))
    # By hand: the temperature divides, the thresholds choose, the rule leaves rows of little confidence.
    powers = np.exp(scores / 2.5)
    chances = powers / powers.sum(axis=1, keepdims=True)
    places = (chances / [0.3, 0.7]).argmax(axis=1)
    assert added["predicted"] == [LABELS[place] for place in places]
    assert added["probability_pro"] == pytest.approx(chances[:, 1], abs=1e-6)
    left = chances[np.arange(19), places] < 0.55
    assert added["abstained"].tolist() == left.tolist() and 0 < left.sum() < 19
    assert report["abstained_count"] == left.sum()
    assert f"; {left.sum()} of them ({left.mean():.1%}) are left to a person: column abstained" in merge_summary(
        plan, report
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_no_rows(plan_of, ending):
    plan = plan_of(f"in.{ending}", 0, f"out.{ending}", DECISION)
    work(plan)
    assert "left to a person" not in merge_summary(plan, merge_parts(plan))
    found = read_table(plan.output)
    assert list(found.columns)[-4:] == ["predicted", "probability_con", "probability_pro", "abstained"]
    assert len(found) == 0


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        (PLAIN, "temperature: 2.5 → absent"),
        (dataclasses.replace(DECISION, temperature=2.0), "temperature: 2.5 → 2.0"),
        (dataclasses.replace(DECISION, thresholds=(0.4, 0.6)), "threshold of con: 0.3 → 0.4"),
        (
            dataclasses.replace(DECISION, abstention=Abstention(0.6, 0.7, 0.1, 0.2)),
            "least probability that does not abstain: 0.55 → 0.6",
        ),
    ],
)
def test_another_decision_is_refused_or_starts_over(plan_of, changed, word):
    plan = plan_of("in.csv", 9, "out.csv", DECISION)
    work(plan)
    assert plan_of("in.csv", 9, "out.csv", DECISION).id == plan.id and shards.unfinished(plan) == []
    with pytest.raises(RunError, match=f"another prediction was planned here:(?s:.*){word}"):
        plan_of("in.csv", 9, "out.csv", changed)
    again = plan_of("in.csv", 9, "out.csv", changed, force=True)
    assert again.id != plan.id and shards.unfinished(again) == [0, 1]


def test_parts_of_another_decision_are_not_used(plan_of):
    plan = plan_of("in.csv", 9, "out.csv", DECISION)
    work(plan)
    kept = {path: path.read_bytes() for path in (plan.folder / "parts").iterdir()}
    again = plan_of("in.csv", 9, "out.csv", PLAIN, force=True)
    (again.folder / "parts").mkdir()
    for path, content in kept.items():
        path.write_bytes(content)
    assert shards.unfinished(again) == [0, 1]
    with pytest.raises(RunError, match="made for another plan"):
        merge_parts(again)


def test_a_plan_from_before_decisions_is_plain(plan_of):
    plan = plan_of("in.csv", 3, "out.csv", PLAIN)
    document = json.loads((plan.folder / PLAN).read_text())
    del document["decision"]
    (plan.folder / PLAN).write_text(json.dumps(document))
    assert read_plan(plan.folder) == plan


def test_a_column_of_that_name_is_refused(tmp_path, plan_of):
    write_table(tmp_path / "in.csv", table(3).assign(abstained="no"))
    given = ([tmp_path / "in.csv"], run_config(), tmp_path / "model", False, 1)
    create_plan(tmp_path / "plain.csv", *given)
    with pytest.raises(DataError, match="a column 'abstained' already"):
        create_plan(tmp_path / "out.csv", *given, decision=DECISION)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({}, "SEED=1 SPLIT=validation"),
        ({"training.epochs": 2, "method.r": 4}, "SPLIT=validation SET='method.r=4 training.epochs=2'"),
        ({"method.target_modules": ["query", "key"]}, "SPLIT=validation and the SET= of the variant "),
    ],
)
def test_the_command_that_scores_a_variant_s_validation_rows(tmp_path, overrides, words):
    with pytest.raises(RunError) as raised:
        decide(tmp_path / "model", run_config(overrides=overrides), True, None, None)
    assert words in str(raised.value)
