"""Requeue a Slurm job before its time limit, if it has saved progress since its last start.

Slurm announces the limit with SIGUSR2. The signal raises `errors.TimeLimit` up to where a failure is recorded, and
`requeue_job` acts on it: `scontrol requeue`, and a line in `requeues.jsonl` of the submission.
"""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from common.core import signals
from common.core.errors import Interrupted, PeftableError, RunError, Superseded, TimeLimit
from common.core.files import append_jsonl, read_jsonl, utc_now
from common.runs import run_lock

LINES = "requeues.jsonl"
MAX_REQUEUES = "PEFTABLE_MAX_REQUEUES"  # variable of a job: how often it may be requeued
_TIMEOUT_S = 60
TRY_AGAIN_S = 5.0
TRY_FOR_S = 60.0  # a controller that restarts answers again by then, and the time limit is not yet reached
_progress: dict[str, Any] = {"what": "load", "done": 0}


def note_saved(what: str, done: int) -> None:
    """Note which progress of this process is saved on disk, so that the next start resumes from there.

    Args:
        what: "train", "score test", …; before the first call it is "load", which saves nothing.
        done: steps, rows or the like.
    """
    _progress.update(what=what, done=done)


def requeue_job(limit: TimeLimit, command: str = "the same command") -> PeftableError:
    """Requeue this process's Slurm job, and return the error to end with.

    Args:
        limit: the signal that stopped this process.
        command: resumes the run, for a person to type when the job is not requeued.

    Returns:
        Interrupted: the job is back in the queue, or could not be put there, or this process is no job.
        RunError: the job must not be requeued: it was requeued too often, or saved no progress since its last start.
        Superseded: a newer start holds the run lock, and the job is its job.
    """
    signals.set_raised()
    if (cancelled := signals.name()) not in (None, signals.TIME_LIMIT):
        return Interrupted(f"{limit}; then {cancelled} came. To continue: {command}")
    job, submission = _job(), os.environ.get(run_lock.SUBMISSION)
    if job is None or not submission:
        return Interrupted(f"{limit}. To continue: {command}")
    # Slurm sends SIGTERM to the processes of a job that was requeued; scontrol inherits that we ignore it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if newer := run_lock.newer_holder(Path(submission).parents[1]):
        return Superseded(run_lock.superseded_message(Path(submission).parents[1], newer))
    file = Path(submission) / LINES
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    lines = [line for line in (read_jsonl(file) if file.exists() else []) if line.get("task") == task]
    if refusal := _refusal(lines):
        return RunError(
            f"{limit}. The Slurm job {job} is not put back into the queue: {refusal} To continue: {command}"
        )
    if failed := _requeue(job):
        return Interrupted(
            f"{limit}. The Slurm job {job} could not be put back into the queue ({failed}). To continue: {command}"
        )
    line = {"time": utc_now(), "restart": run_lock.restart(), **_progress, "task": task}
    try:
        append_jsonl(file, line)
    except (OSError, PeftableError) as error:
        return Interrupted(f"{limit}. The Slurm job {job} is back in the queue, but {file} has no line of it: {error}")
    return Interrupted(f"{limit}. The Slurm job {job} is back in the queue, and continues by itself.")


def _job() -> str | None:
    """Return the id of this job as scontrol takes it; of a task of an array it is "<array>_<task>"."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _refusal(lines: list[dict[str, Any]]) -> str | None:
    """Return why a job with these earlier requeues must not be requeued again, None when it may."""
    if lines and all(lines[-1].get(key) == value for key, value in _progress.items()):
        return (
            "the time limit is too short: nothing was done since the last start. "
            "Raise `time` in slurm/<cluster>.yaml or in the job."
        )
    most = os.environ.get(MAX_REQUEUES, "")
    if most.isdigit() and len(lines) >= int(most):
        return f"it was put back {len(lines)} times, and `max_requeues` allows {most}. Raise that, or `time`."
    return None


def _requeue(job: str) -> str | None:
    """Requeue a job, trying again for a while; return the last error's text, None after success."""
    until = time.monotonic() + TRY_FOR_S
    while True:
        try:
            done = subprocess.run(
                ["scontrol", "requeue", job], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            failed = str(error)
            is_final = isinstance(error, FileNotFoundError)
        else:
            if not done.returncode:
                return None
            failed = f"scontrol: {done.stderr.strip() or done.returncode}"
            is_final = "Invalid job id" in failed
        if is_final or time.monotonic() + TRY_AGAIN_S > until:
            return failed
        time.sleep(TRY_AGAIN_S)
