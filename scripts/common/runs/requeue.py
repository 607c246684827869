"""The time limit of a Slurm job is near: the job puts itself back into the queue, once, if that is of any use.

Slurm announces the limit with SIGUSR2. `errors.TimeLimit` carries that news up to where a failure is recorded, and
`settle` acts on it: `scontrol requeue`, and a line in `requeues.jsonl` of the submission.
"""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from common.core.errors import Interrupted, PeftableError, RunError, Superseded, TimeLimit
from common.core.files import append_jsonl, read_jsonl, utc_now
from common.runs import run_lock

LINES = "requeues.jsonl"
_TIMEOUT_S = 60
_TRY_AGAIN_S = 5.0
_TRY_FOR_S = 60.0  # a controller that restarts is back by then, and the time limit not yet reached
_progress: dict[str, Any] = {"what": "load", "done": 0}


def lasting(what: str, done: int) -> None:
    """Say what of this start's work is on disk by now, for the next start to build on.

    Args:
        what: "train", "score test", …; the default, "load", leaves nothing behind.
        done: steps, rows or the like.
    """
    _progress.update(what=what, done=done)


def settle(limit: TimeLimit, command: str = "the same command") -> PeftableError:
    """Put this process's Slurm job back into the queue, and return the error to end with.

    Args:
        limit: what stopped us.
        command: continues the run, for a person to type when the job is not put back.

    Returns:
        Interrupted: the job is back in the queue, or could not be put there, or this is no job.
        RunError: the job must not go back: it has been there too often, or gained nothing since.
        Superseded: a newer start owns the run, and with it the job.
    """
    job, submission = _job(), os.environ.get("PEFTABLE_SUBMISSION")
    if job is None or not submission:
        return Interrupted(f"{limit}. To continue: {command}")
    # Slurm ends a job that it has put back with SIGTERM; scontrol inherits that we do not listen any more.
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
        return Interrupted(f"{limit}. The Slurm job {job} is back in the queue, but not noted: {error}")
    return Interrupted(f"{limit}. The Slurm job {job} is back in the queue, and continues by itself.")


def _job() -> str | None:
    """Return what scontrol calls this job; a task of an array is "<array>_<task>"."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _refusal(lines: list[dict[str, Any]]) -> str | None:
    """Return why a job that went back `lines` times before must not do so again, None where it may."""
    if lines and all(lines[-1].get(key) == value for key, value in _progress.items()):
        return (
            "the time limit is too short: nothing was done since the last start. "
            "Raise `time` in slurm/<cluster>.yaml or in the job."
        )
    most = os.environ.get("PEFTABLE_MAX_REQUEUES", "")
    if most.isdigit() and len(lines) >= int(most):
        return f"it was put back {len(lines)} times, and `max_requeues` allows {most}. Raise that, or `time`."
    return None


def _requeue(job: str) -> str | None:
    """Have Slurm put a job back, trying for a while; return what went wrong in the end, None for nothing."""
    until = time.monotonic() + _TRY_FOR_S
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
        if is_final or time.monotonic() + _TRY_AGAIN_S > until:
            return failed
        time.sleep(_TRY_AGAIN_S)
