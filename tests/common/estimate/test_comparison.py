"""`make bench COMPARE=1`: both sides do the same work, and a side that does other work stops the comparison."""

import json

import pytest
from toy_runs import dataset

from common.config import catalog
from common.core.errors import ConfigError, DataError, ModelError
from common.data.rows import Row
from common.estimate import compare_classification, comparison, plain_baselines, side_by_side
from common.estimate.side_by_side import Way
from common.report import speed

WORDS = ("harmful", "unclear", "useful", "really", "always", "maybes")
ROWS = [
    Row(f"r{n}", (f"Claim {n % 2}.", f"{WORDS[n % 3]} idea " + " ".join(WORDS[: n * 5 % 7])), n % 3) for n in range(12)
]
PROMPT = {"system": "You judge.", "user": "Is it pro or con?\nClaim: {claim}\nSentence: {sentence}\nStance:"}


def subject(job, **changes) -> comparison.Subject:
    described = dataset(labels=["con", "neu", "pro"], prompt=PROMPT)
    rows = {"train": ROWS, "test": ROWS[:7], **changes}
    return comparison.Subject("toy", job, "toys", described, rows, count=9)


@pytest.fixture
def encoder_job(tiny_model):
    settings = {"model": str(tiny_model), "training.batch_size": 3, "training.token_budget": 40}
    return catalog.load_job("minilm-lora", settings)[0]


def compared(job) -> dict:
    document = comparison.compare(subject(job), rounds=2)
    assert json.loads(json.dumps(document)) == document
    assert next(iter(document["train_memory_bytes"])) == "peftable" and min(document["train_memory_bytes"].values()) > 0
    for task in document["tasks"]:
        assert next(iter(task["times"])) == "peftable"
        for times in task["times"].values():
            assert len(times["cpu_s"]) == len(times["wall_s"]) == 2 and min(times["cpu_s"]) > 0
    return document


def test_a_classification_job_beside_plain_scripts(encoder_job, tmp_path):
    document = compared(encoder_job)
    equal = document["equivalence"]["differences"]
    assert document["equivalence"]["equal_predictions_count"] == 7
    assert len(equal) == 4 and all(0 <= value <= 1e-5 for value in equal.values())
    assert [(task["task"], task["rows"], list(task["times"])[1:]) for task in document["tasks"]] == [
        ("training", 9, ["plain loop", "Trainer, group_by_length"]),
        ("scoring", 7, ["one at a time", "sorted batches of 32"]),
    ]
    comparison.write(document, tmp_path / speed.FOLDER)
    assert speed.read(tmp_path) == [document]


@pytest.mark.parametrize("family", ["qwen"])
def test_a_prompt_job_beside_plain_scripts(prompt_job, family):
    pytest.importorskip("trl")
    document = compared(prompt_job(family, **{"training.batch_size": 3, "max_length": 512}))
    equal = document["equivalence"]["differences"]
    assert document["equivalence"]["equal_predictions_count"] == 7
    assert 0 <= document["equivalence"]["generated_predictions_count"] <= 7
    assert set(equal) == {"losses", "gradients", "scores"} and all(0 <= value <= 1e-5 for value in equal.values())
    tasks = {task["task"]: list(task["times"])[1:] for task in document["tasks"]}
    assert tasks == {
        "training": ["SFTTrainer"],
        "scoring": ["whole logits", "whole logits, per label", "generate, batch 1", "generate, batch 8"],
        "scoring, 6 labels": ["whole logits, per label"],
    }


@pytest.mark.parametrize("wrong", ["scores", "losses"])
def test_other_work_is_not_measured(encoder_job, monkeypatch, wrong):
    where, name = {"scores": (plain_baselines, "classify"), "losses": (compare_classification, "_losses")}[wrong]
    plain = getattr(where, name)
    monkeypatch.setattr(where, name, lambda *a, **k: 1.001 * plain(*a, **k))
    with pytest.raises(ModelError, match=f"{wrong} differ by .* allowed is 1e-05 in float32"):
        comparison.compare(subject(encoder_job), rounds=1)


def test_the_device_is_said_first(run_script, monkeypatch, tmp_path):
    compared = {"tasks": [], "job": "minilm-lora", "dataset": "stance-sample"}
    monkeypatch.setattr(comparison, "compare", lambda *arguments: compared)
    monkeypatch.setattr(speed, "table", lambda documents: (("ways",), []))
    code, out, err = run_script("bench", "--model", "minilm-lora", "--compare", "--published", str(tmp_path))
    assert (code, err) == (0, "") and out.startswith("device: ")


def test_what_the_plain_scripts_cannot_do(encoder_job):
    other = encoder_job.model_copy(update={"pooling": "mean"})
    with pytest.raises(ConfigError, match="pooling mean"):
        comparison.check(other)
    full = catalog.load_job("minilm-full")[0]
    with pytest.raises(ConfigError, match="the job's is full"):
        comparison.check(full)
    with pytest.raises(DataError, match="needs 6 train rows and 3 test rows"):
        comparison.compare(subject(encoder_job, test=ROWS[:2]), rounds=1)


def test_ways_take_turns_and_the_first_round_is_left_out():
    order: list[str] = []
    ways = [Way(name, lambda _, name=name: order.append(name), lambda name=name: name) for name in ("a", "b")]
    times = side_by_side.measure(ways, rounds=2)
    assert order == ["a", "b"] * 3 and [len(found.cpu_s) for found in times.values()] == [2, 2]
