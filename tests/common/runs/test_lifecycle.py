"""The life of a run: a failure is recorded in failure.json."""

import json

import pytest

from common.core.errors import Interrupted, RunError
from common.runs import run_folder
from common.runs.lifecycle import recorded_failure


@pytest.mark.parametrize(
    ("error", "interrupted", "expected"),
    [
        (RuntimeError("CUDA out of memory"), False, False),
        (RunError("no"), False, True),
        (Interrupted("SIGTERM"), True, True),
        (KeyboardInterrupt(), True, False),
    ],
)
def test_a_failure_is_recorded_and_raised(tmp_path, error, interrupted, expected):
    with pytest.raises(type(error)), recorded_failure(tmp_path, "make train MODEL=x"):
        raise error
    document = json.loads((tmp_path / run_folder.FAILURE).read_text())
    assert document["error"] == f"{type(error).__name__}: {error}".removesuffix(": ")  # Ctrl-C
    assert (document["interrupted"], document["expected"]) == (interrupted, expected)
    assert document["continue_with"] == "make train MODEL=x"


def test_success_removes_an_older_failure(tmp_path):
    (tmp_path / run_folder.FAILURE).write_text("{}")
    with recorded_failure(tmp_path, "make train"):
        assert not (tmp_path / run_folder.FAILURE).exists()
    assert not (tmp_path / run_folder.FAILURE).exists()
