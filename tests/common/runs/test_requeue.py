"""A time limit that is near, with a scontrol of our own that writes down how it was called."""

import signal

import pytest

from common.core import errors, files
from common.runs import requeue, run_lock

LIMIT = errors.TimeLimit("SIGUSR2 at step 3 of 9; the checkpoint is saved")


@pytest.fixture
def job(tmp_path, monkeypatch, fake_command):
    """The environment of a Slurm job's first start: (folder of the submission, calls of scontrol)."""
    submission = tmp_path / "run" / "slurm" / "1"
    submission.mkdir(parents=True)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("PEFTABLE_SUBMISSION", str(submission))
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "PEFTABLE_MAX_REQUEUES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(requeue, "TRY_AGAIN_S", 0.01)
    monkeypatch.setattr(requeue, "TRY_FOR_S", 1.0)
    requeue.note_saved("load", 0)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield submission, fake_command("scontrol")
    for number, handler in before.items():
        signal.signal(number, handler)


def lines(submission):
    return files.read_jsonl(submission / "requeues.jsonl") if (submission / "requeues.jsonl").exists() else []


def test_the_job_is_put_back_once_and_noted(job, monkeypatch):
    submission, calls = job
    requeue.note_saved("train", 3)
    error = requeue.requeue_job(LIMIT, "make train RUN=x")
    assert isinstance(error, errors.Interrupted) and "job 12 is back in the queue" in str(error)
    assert calls() == ["requeue 12"]
    [line] = lines(submission)
    assert (line["restart"], line["what"], line["done"]) == (0, "train", 3) and line["time"].endswith("Z")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # Slurm sends it to a job that it has put back

    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    requeue.note_saved("train", 5)
    assert isinstance(requeue.requeue_job(LIMIT), errors.Interrupted)
    assert [(line["restart"], line["done"]) for line in lines(submission)] == [(0, 3), (1, 5)]


def test_outside_of_a_job_there_is_nothing_to_put_back(job, monkeypatch):
    _, calls = job
    for name in ("SLURM_JOB_ID", "PEFTABLE_SUBMISSION"):
        with monkeypatch.context() as patch:
            patch.delenv(name)
            error = requeue.requeue_job(LIMIT, "make train RUN=x")
        assert isinstance(error, errors.Interrupted) and str(error).endswith("To continue: make train RUN=x")
    assert calls() == []


def test_a_start_that_did_nothing_is_the_last(job):
    submission, calls = job
    requeue.note_saved("train", 3)
    requeue.requeue_job(LIMIT)
    error = requeue.requeue_job(LIMIT, "make train RUN=x")
    assert isinstance(error, errors.RunError)
    assert "the time limit is too short: nothing was done since the last start. Raise `time`" in str(error)
    assert "make train RUN=x" in str(error)
    assert len(calls()) == len(lines(submission)) == 1


def test_no_more_often_than_allowed(job, monkeypatch):
    submission, calls = job
    monkeypatch.setenv("PEFTABLE_MAX_REQUEUES", "2")
    for step in (1, 2):
        requeue.note_saved("train", step)
        assert isinstance(requeue.requeue_job(LIMIT), errors.Interrupted)
    requeue.note_saved("train", 3)
    error = requeue.requeue_job(LIMIT)
    assert isinstance(error, errors.RunError) and "put back 2 times, and `max_requeues` allows 2" in str(error)
    assert len(calls()) == len(lines(submission)) == 2


def test_a_task_of_an_array_is_put_back_alone(job, monkeypatch):
    submission, calls = job
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "11")
    for task in ("4", "5"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        assert isinstance(requeue.requeue_job(LIMIT), errors.Interrupted)  # the other task's line is none of its own
    assert calls() == ["requeue 11_4", "requeue 11_5"]
    assert [line["task"] for line in lines(submission)] == ["4", "5"]
    assert isinstance(requeue.requeue_job(LIMIT), errors.RunError)


FAILURES = {"fails": "Unable to contact slurm controller", "invalid": "Invalid job id specified", "missing": ""}


@pytest.mark.parametrize("how", FAILURES)
def test_a_scontrol_that_fails(job, monkeypatch, fake_command, how):
    submission, calls = job
    if how == "missing":
        monkeypatch.setenv("PATH", "/nowhere")
    else:
        fake_command("scontrol", f"echo '{FAILURES[how]}' >&2; exit 1")
    error = requeue.requeue_job(LIMIT, "make train RUN=x")
    assert isinstance(error, errors.Interrupted) and "could not be put back into the queue (" in str(error)
    assert (FAILURES[how] or "No such file") in str(error)
    assert str(error).endswith("To continue: make train RUN=x")
    assert lines(submission) == []
    assert {"fails": len(calls()) > 1, "invalid": len(calls()) == 1, "missing": calls() == []}[how]


def test_a_controller_that_restarts_is_waited_for(job, fake_command, tmp_path):
    submission, calls = job
    down = (
        f"[ $(wc -l < '{tmp_path}/slurm commands/scontrol.log') -gt 2 ] || {{ echo 'Unable to contact' >&2; exit 1; }}"
    )
    fake_command("scontrol", down)
    assert "job 12 is back in the queue" in str(requeue.requeue_job(LIMIT))
    assert len(calls()) == 3 and len(lines(submission)) == 1


def test_a_superseded_start_does_not_touch_the_job(job, monkeypatch):
    """Slurm has restarted the job elsewhere; requeueing it would end that start."""
    submission, calls = job
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_RESTART_COUNT", "1")
        with run_lock.acquire(submission.parents[1]):
            pass
    assert isinstance(requeue.requeue_job(LIMIT), errors.Superseded)
    assert calls() == [] and lines(submission) == []
