"""Batched scoring: the order of the rows, whatever the batches; and the prediction records."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_runs import dataset, run_config
from transformers import set_seed

from common.data.rows import Row
from common.evaluation import inference, write_results
from common.model.build import build_head
from common.model.load import quiet_libraries

DATASET = dataset(labels=["con", "neu", "pro"])
LABELS = list(DATASET.labels)
ROWS = [
    Row(f"r{n}", (f"Claim {n}.", "different words here " * (n * 7 % 11 + 1)), n % 3, group=f"g{n % 2}")
    for n in range(17)
]


@pytest.fixture(scope="module")
def head(tiny_job):
    quiet_libraries()
    set_seed(2)
    built = build_head(tiny_job("minilm-full", model_config_overrides={"hidden_dropout_prob": 0.5}), DATASET)
    with torch.no_grad():  # scores that differ from row to row
        for parameter in built.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return built


def test_scores_come_in_the_rows_order(head):
    together = inference.score(head, ROWS, 100_000, "test")
    assert together.shape == (17, 3) and together.dtype == np.float32
    one_by_one = np.concatenate([inference.score(head, [row], 100_000, "test") for row in ROWS])
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)
    assert np.abs(together - together[::-1]).max() > 1e-3  # another order would be seen
    backwards = inference.score(head, ROWS[::-1], 100_000, "test")
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-5)


@pytest.mark.parametrize("budget", [16, 70, 500])
def test_the_token_budget_does_not_matter(head, budget):
    np.testing.assert_allclose(
        inference.score(head, ROWS, budget, "test"), inference.score(head, ROWS, 100_000, "test"), atol=1e-5
    )


def test_scoring_in_parts_where_the_memory_is_full(head, monkeypatch, capsys):
    """On a CPU that says so: the same scores, the batches in four parts from then on, and it is said once."""
    whole, scores, sizes = inference.score(head, ROWS, 100_000, "test"), head.scores, []

    def bounded(batch):
        sizes.append(len(batch["input_ids"]))
        if len(batch["input_ids"]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return scores(batch)

    monkeypatch.setattr(head, "scores", bounded)
    monkeypatch.setattr(head, "scoring_groups", lambda rows, budget: [list(range(17))])
    monkeypatch.setattr(head, "batch_parts", 1)
    np.testing.assert_allclose(inference.score(head, ROWS, 100_000, "test"), whole, atol=1e-5)
    assert sizes == [17, 9, 5, 5, 5, 2] and head.batch_parts == 4
    assert capsys.readouterr().out.count("out of memory while scoring") == 2
    np.testing.assert_allclose(inference.score(head, ROWS, 100_000, "test"), whole, atol=1e-5)
    assert sizes[6:] == [5, 5, 5, 2] and "out of memory" not in capsys.readouterr().out


def test_the_next_batch_is_padded_before_the_cpu_waits_for_the_last(head, monkeypatch):
    events, pad, scores = [], head.scoring_batch, head.scores

    class Scores:
        """As a tensor on a GPU: what reads it waits."""

        def __init__(self, found):
            self.found = found

        def cpu(self):
            events.append("wait")
            return self.found

    def padded(rows):
        events.append("pad")
        return pad(rows)

    def launched(batch):
        events.append("launch")
        return Scores(scores(batch))

    monkeypatch.setattr(head, "scoring_batch", padded)
    monkeypatch.setattr(head, "scores", launched)
    monkeypatch.setattr(head, "scoring_groups", lambda rows, budget: [[0, 1], [2, 3], [4, 5]])
    inference.score(head, ROWS[:6], 100, "test")
    assert events == ["pad", *["launch", "pad", "wait"] * 2, "launch", "wait"]


def test_every_batch_is_pinned_for_the_head_s_device(head, monkeypatch):
    places = []
    monkeypatch.setattr(inference, "pinned", lambda batch, device: places.append(device) or batch)
    monkeypatch.setattr(head, "scoring_groups", lambda rows, budget: [[0, 1], [2, 3], [4, 5]])
    inference.score(head, ROWS[:6], 100, "test")
    assert places == [head.device] * 3


def test_probabilities_sum_to_one(head):
    scores = inference.score(head, ROWS, 256, "test").astype(np.float64)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-6)
    assert (scores < 0).all()


def test_scoring_is_without_dropout_and_leaves_the_mode(head):
    head.model.train()
    one, two = (inference.score(head, ROWS, 256, "test") for _ in range(2))
    assert np.array_equal(one, two)
    assert head.model.training
    head.model.eval()
    assert np.array_equal(inference.score(head, ROWS, 256, "test"), one)
    assert not head.model.training


def test_rows_without_labels(head):
    bare = [Row(row.id, row.texts, None) for row in ROWS]
    assert np.array_equal(inference.score(head, bare, 256, "test"), inference.score(head, ROWS, 256, "test"))


def test_no_rows(head):
    assert inference.score(head, [], 256, "test").size == 0


def test_records(head):
    scores = inference.score(head, ROWS, 256, "test")
    records = write_results.predictions(ROWS, scores, LABELS)
    assert [record["id"] for record in records] == [row.id for row in ROWS]
    for record, row, found in zip(records, ROWS, scores, strict=True):
        assert list(record) == ["id", "group", "gold", "predicted", "scores"]
        assert record["gold"] == LABELS[row.label] and record["group"] == row.group
        assert list(record["scores"]) == LABELS
        assert record["predicted"] == max(record["scores"], key=record["scores"].get) == LABELS[found.argmax()]
        assert math.fsum(map(math.exp, record["scores"].values())) == pytest.approx(1, abs=1e-5)


def test_scoring_a_split_measures_its_time(tmp_path, monkeypatch):
    config, seen = run_config(labels=LABELS), []

    def score(head, rows, budget, progress, partial):
        assert partial is None
        seen.append((head, len(rows), budget, progress.what, progress.folder))
        return np.log(np.full((len(rows), len(LABELS)), 1 / 3, dtype=np.float32))

    monkeypatch.setattr(inference, "score", score)
    head, budget = SimpleNamespace(batch_parts=4), config.job.runtime.score_token_budget
    document = inference.score_split(tmp_path, config, "validation", ROWS, head, {"steps": 4})
    assert seen == [(head, 17, budget, "score validation", tmp_path)]
    assert document["score_token_budget"] == budget // 4  # what the memory left of it
    assert document["validation_examples_per_s"] > 0 and document["validation_s"] >= 0 and document["steps"] == 4
