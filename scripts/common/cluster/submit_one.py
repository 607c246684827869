"""Submit one task to a cluster: the intent is recorded before the scheduler is called, the job's id after it.

number, job_id = submit_job(folder, ["train", "--run", str(folder)], cluster, request, keep_code(outputs))
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cluster.profiles import Profile
from common.cluster.scheduler import Cluster
from common.cluster.slurm_commands import ActiveJob
from common.cluster.submit_record import LOGS, Submission, SubmissionState, job_name, read
from common.cluster.task import make_task
from common.core import files
from common.core.errors import PeftableError, SlurmError
from common.runs import run_lock


def submit_job(
    folder: Path, command: Sequence[str], cluster: Cluster, request: Profile, code: Path, **more: Any
) -> tuple[int, str]:
    """Submit one task that works in `folder`, and record it in the folder's `submit.json`.

    Args:
        folder: of a run, a prediction, or the job that makes the report.
        command: script and arguments.
        cluster: takes the task.
        request: the cluster's profile with what this job asks for.
        code: the folder of the code that the job runs.
        more: `after`, `array` of the task.

    Returns:
        The number of this submission, and the job's id.

    Raises:
        SlurmError: the scheduler rejects the task, which is recorded, or does not answer.
    """
    number = _last_number(folder) + 1
    logs = (folder / LOGS / str(number)).resolve()
    files.make_folder(logs)
    task = make_task(job_name(folder), command, logs, code, **more)
    submission = Submission(
        number=number,
        name=task.name,
        token=task.token,
        cluster=cluster.name,
        executor=request.executor,
        state=SubmissionState.INTENT,
        job_id=None,
        error=None,
        command=list(task.command),
        time=files.utc_now(),
    )
    submission.write(folder)
    try:
        job_id = cluster.scheduler.submit(task, request)
    except PeftableError as error:
        if not (isinstance(error, SlurmError) and error.is_silent):  # else it may be queued: the intent stays
            dataclasses.replace(submission, state=SubmissionState.REJECTED, error=str(error)).write(folder)
        raise
    dataclasses.replace(submission, state=SubmissionState.SUBMITTED, job_id=job_id).write(folder)
    return number, job_id


def _last_number(folder: Path) -> int:
    """Return the number of the folder's last submission in any of its files: a job with a lower one cannot start."""
    numbers = [int(path.name) for path in (folder / LOGS).glob("*") if path.name.isdigit()]
    if submission := read(folder):
        numbers.append(submission.number)
    if (holder := run_lock.read(folder)) and holder.submission is not None:
        numbers.append(holder.submission)
    return max(numbers, default=0)


def reconcile(folder: Path, job: ActiveJob) -> None:
    """Record the id of an active job whose submission was killed before it could, or was told of an error too early."""
    submission = read(folder)
    if submission is None or submission.state not in (SubmissionState.INTENT, SubmissionState.REJECTED):
        return
    if job.comment in ("", submission.token):
        found = dataclasses.replace(submission, state=SubmissionState.SUBMITTED, job_id=job.whole_id, error=None)
        found.write(folder)
