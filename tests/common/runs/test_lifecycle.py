"""The life of a run: a failure is recorded in failure.json."""

import json

import pytest

from common.core.errors import Interrupted, ModelError, RunError
from common.runs import run_folder
from common.runs.lifecycle import recorded_failure


@pytest.mark.parametrize(
    ("error", "interrupted", "expected"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), False, False),
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


def test_a_full_gpu_is_no_bug(tmp_path):
    class OutOfMemoryError(RuntimeError):
        """As torch's, which is not imported here."""

    with pytest.raises(ModelError, match=r"out of memory.*max_length"), recorded_failure(tmp_path, "make train"):
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    document = json.loads((tmp_path / run_folder.FAILURE).read_text())
    assert document["expected"] and document["error"].startswith("ModelError: out of memory")


def test_success_removes_an_older_failure(tmp_path):
    (tmp_path / run_folder.FAILURE).write_text("{}")
    with recorded_failure(tmp_path, "make train"):
        assert not (tmp_path / run_folder.FAILURE).exists()
    assert not (tmp_path / run_folder.FAILURE).exists()
