"""`submit.json`, the record of a folder's newest submission; the name of its jobs; and where their logs are.

A run folder holds `submit.json` and `slurm/<number>/`, a folder per submission with batch file and log.
"""

import dataclasses
import enum
import hashlib
import re
from pathlib import Path

from common.core import files
from common.core.documents import from_json, read_object, to_json

SUBMIT = "submit.json"
LOGS = "slurm"
COLLECT = ".collect"  # in an outputs folder: the folder of the job that makes the report
PREDICTIONS = ".predictions"  # in an outputs folder: the paths of the plans of submitted predictions
MERGE = "merge"  # in the folder of such a plan: the folder of the job that merges


class SubmissionState(enum.StrEnum):
    """How far a submission has come; whether its job still runs is the scheduler's to say."""

    INTENT = "intent"  # written before the scheduler is called, so that a kill leaves a trace
    SUBMITTED = "submitted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"  # by `make cancel`; the job may still be ending


@dataclasses.dataclass(frozen=True)
class Submission:
    """Content of `submit.json`.

    Attributes:
        number: 1 for the first submission of the folder, 2 for the second, ….
        name: of the job.
        token: a random text that is the job's comment, so that the job is recognised where its id was not recorded.
        cluster: name of the profile.
        executor: "slurm" or "local".
        job_id: None until the scheduler has taken the job.
        error: why the scheduler rejected it.
        command: argv.
        time: UTC time of the intent.
    """

    number: int
    name: str
    token: str
    cluster: str
    executor: str
    state: SubmissionState
    job_id: str | None
    error: str | None
    command: list[str]
    time: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", SubmissionState(self.state))  # JSON holds its text

    def write(self, folder: Path) -> None:
        """Write the folder's `submit.json`."""
        files.write_json(folder / SUBMIT, to_json(self))


def read(folder: Path) -> Submission | None:
    """Return a folder's newest submission, None where it has none or the file is damaged."""
    try:
        return from_json(Submission, read_object(folder / SUBMIT))
    except (TypeError, ValueError):
        return None


def record_cancelled(folder: Path, job_id: str) -> None:
    """Record that a folder's job was cancelled: neither the local queue nor a Slurm without accounting remembers it."""
    submission = read(folder)
    if submission is not None and submission.job_id == job_id:
        dataclasses.replace(submission, state=SubmissionState.CANCELLED).write(folder)


def job_name(folder: Path) -> str:
    """Return the name of all jobs of a folder: readable, and unique to the folder among all jobs of a user."""
    folder = folder.resolve()
    suffix = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9._=-]", "_", "-".join(folder.parts[-3:]))[-80:].lstrip("-") + f"-{suffix}"


def newest_log(folder: Path) -> Path | None:
    """Return the log of a folder's newest job that has one."""
    logs = [log for log in (folder / LOGS).glob("*/*.log") if log.parent.name.isdigit()]
    return max(logs, key=lambda log: (int(log.parent.name), log.stat().st_mtime), default=None)


def newest_logs(folder: Path) -> list[Path]:
    """Return the logs of a folder's newest submission that has any: one, or one per task of an array, in order."""
    newest = newest_log(folder)
    return sorted(newest.parent.glob("*.log"), key=_task) if newest else []


def task_log(folder: Path, job: str) -> Path | None:
    """Return the log of an array's task "17_3", None where it has none."""
    return next((log for log in (folder / LOGS).glob("*/*.log") if log.stem == job), None)


def _task(log: Path) -> tuple[int, str]:
    number = log.stem.rpartition("_")[2]
    return int(number) if number.isdecimal() else -1, log.stem


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log that are not empty, at most `count` lines of its last 64 KiB."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 65536))
        lines = [line.rstrip() for line in stream.read().decode(errors="replace").splitlines()]
    return [line for line in lines if line][-count:]
