"""Interrupted scoring resumes after its last saved batch, with the scores of an uninterrupted run."""

import json
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.core import files, signals
from common.core.errors import TimeLimit
from common.core.progress import Progress
from common.evaluation import inference, partial_results
from common.evaluation.partial_results import PartialResults
from common.model.batching import token_batches
from common.runs import requeue

ROWS = list(range(10))  # of 10, 9, …, 1 tokens, so that this is the order of the batches
BUDGET = 20  # 2, 2, 3, 3 rows


class Head:
    """Scores a row by its number, and is stopped before the batch `stops_at`."""

    device, precision, batch_parts = torch.device("cpu"), "float32", 1

    def prior(self):
        return None

    def __init__(self, stops_at=None):
        self.stops_at, self.seen = stops_at, []
        self.model = torch.nn.Linear(1, 1)
        self.encoder = SimpleNamespace(encode=list, longest_answer=0)

    def scoring_groups(self, rows, budget):
        return token_batches([10 - row for row in rows], budget)

    def scoring_batch(self, rows):
        return {"rows": torch.tensor(rows)}

    def scores(self, batch):
        if len(self.seen) == self.stops_at:
            raise TimeLimit
        self.seen.append(batch["rows"].tolist())
        return torch.log_softmax(torch.stack([batch["rows"].sin(), batch["rows"].cos()], 1), 1)


class Writer(Head):
    def __init__(self, stops_at=None):
        super().__init__(stops_at)
        self.encoder.encode = lambda rows: [SimpleNamespace(input_ids=[0] * (10 - row), number=row) for row in rows]

    def generate(self, rows):
        if len(self.seen) == self.stops_at:
            raise TimeLimit
        self.seen.append([row.number for row in rows])
        return [f"text {row.number}" for row in rows]


def start(folder, head, work=inference.score):
    with (
        PartialResults(folder, "score test") as partial,
        Progress("score test", len(ROWS), "row", partial.rows) as progress,
    ):
        return work(head, ROWS, BUDGET, progress, partial), partial, progress


@pytest.fixture(autouse=True)
def reached(monkeypatch):
    """The progress that decides about requeueing a job."""
    monkeypatch.setattr(requeue, "_progress", found := {"what": "load", "done": 0})
    return found


@pytest.mark.parametrize(("head", "work"), [(Head, inference.score), (Writer, inference.generate)])
def test_stopped_twice(tmp_path, reached, head, work):
    whole = work(head(), ROWS, BUDGET, "score test")
    for stops_at, seen, done in ((1, [[0, 1]], 2), (2, [[2, 3], [4, 5, 6]], 7)):
        stopped = head(stops_at)
        with pytest.raises(TimeLimit):
            start(tmp_path, stopped, work)
        assert stopped.seen == seen and reached == {"what": "score test", "done": done}
    last = head()
    result, partial, progress = start(tmp_path, last, work)
    assert last.seen == [[7, 8, 9]] and progress.done == partial.rows == 10
    assert np.array_equal(result, whole)
    again = head()
    assert np.array_equal(start(tmp_path, again, work)[0], whole) and again.seen == []


def test_texts_are_generated_in_parts_where_the_memory_is_full(capsys):
    plain, full = Writer(), Writer()
    write = full.generate

    def bounded(rows):
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return write(rows)

    full.generate = bounded
    assert inference.generate(full, ROWS, BUDGET, "test") == inference.generate(plain, ROWS, BUDGET, "test")
    assert full.batch_parts == 4 and capsys.readouterr().out.count("out of memory while generating") == 2


def test_an_attempt_without_progress_records_none(tmp_path, reached):
    for stops_at in (1, 0):
        with pytest.raises(TimeLimit):
            start(tmp_path, Head(stops_at))
        assert reached == {"what": "score test", "done": 2}  # the second time the job is not put back


def test_no_file_without_results(tmp_path, reached):
    with pytest.raises(TimeLimit):
        start(tmp_path, Head(0))
    assert list(tmp_path.iterdir()) == [] and reached == {"what": "load", "done": 0}


def test_every_minute(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    partial = PartialResults(tmp_path, "score test")
    for number in range(5):
        now[0] += 25
        partial.add([number], [[0.5]])
    assert [batch[0] for batch in files.read_json(partial.file)["batches"]] == [[0], [1], [2]]  # after 75 seconds
    partial.save()
    later = PartialResults(tmp_path, "score test")
    now[0] += 10
    assert later.seconds == 135 and later.rows == 5


def test_saved_numbers_are_exact(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with PartialResults(tmp_path, "score test") as partial:
        partial.add(list(range(50)), values.tolist())
    assert json.loads(partial.file.read_text())["batches"]
    [(_, found)] = PartialResults(tmp_path, "score test").batches
    assert np.array_equal(np.asarray(found, dtype=np.float32), values)


def test_remove(tmp_path):
    for what in ("score test", "generate validation"):
        with PartialResults(tmp_path, what) as partial:
            partial.add([0], ["x"])
    (tmp_path / "metrics.json").touch()
    partial_results.remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_results_of_other_batches_are_not_used(tmp_path, monkeypatch):
    """The second attempt runs where batches are smaller: on a CPU after a GPU, or by another version."""
    with pytest.raises(TimeLimit):
        start(tmp_path, Head(stops_at=2))
    head = Head()
    with PartialResults(tmp_path, "score test") as partial:
        assert partial.rows > 0
        found = inference.score(head, ROWS, BUDGET // 2, "score", partial)
    assert sorted(row for batch in head.seen for row in batch) == ROWS  # every row again, once
    np.testing.assert_array_equal(found, inference.score(Head(), ROWS, 1000, "score"))


def test_a_signal_while_a_library_destroys_something(tmp_path):
    """Python drops what is raised in a destructor; scoring stops after that batch all the same, and keeps it."""

    class Signals:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGUSR2)

    class Signalled(Head):
        def scores(self, batch):
            if len(self.seen) == 1:
                Signals()
            return super().scores(batch)

    with signals.kept(), pytest.raises(TimeLimit), PartialResults(tmp_path, "score test") as partial:
        inference.score(Signalled(), ROWS, BUDGET, Progress("score test", 10, "row"), partial)
    assert PartialResults(tmp_path, "score test").rows == 4
