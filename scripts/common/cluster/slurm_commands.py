"""Slurm's own commands: squeue and sacct parsed into jobs, scancel, and `sbatch --test-only`. Standard library only.

A command that gets no answer is an error, never an empty result: a silent controller must not look like an empty queue.
"""

import dataclasses
import enum
import os
import re
import subprocess
from collections.abc import Sequence

from common.core.errors import SlurmError

TIMEOUT_S = 20  # a stopped controller keeps clients waiting for about 10 s
# Jobs need no token: they run offline. Slurm stores the environment of its commands, so these get no secret.
_SECRET = re.compile(
    r"TOKEN(?!IZERS)|SECRET|PASSW|API_?KEY|CREDENTIAL|ACCESS_?KEY|PRIVATE_?KEY|_(KEY|PAT|PWD)$", re.IGNORECASE
)
_NEEDED = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")  # to reach the controller


class JobState(enum.StrEnum):
    """Slurm's states of a job, as far as this project compares them; a job may have others."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETING = "COMPLETING"
    STAGE_OUT = "STAGE_OUT"
    SUSPENDED = "SUSPENDED"
    STOPPED = "STOPPED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMEOUT = "TIMEOUT"
    DEADLINE = "DEADLINE"
    NODE_FAIL = "NODE_FAIL"
    BOOT_FAIL = "BOOT_FAIL"
    PREEMPTED = "PREEMPTED"
    CANCELLED = "CANCELLED"


_STARTED = (JobState.RUNNING, JobState.COMPLETING, JobState.STAGE_OUT, JobState.SUSPENDED, JobState.STOPPED)
# The states of a job that did not succeed; first those that a person must do most about.
_UNSUCCESSFUL = (
    *(JobState.FAILED, JobState.OUT_OF_MEMORY, JobState.TIMEOUT, JobState.DEADLINE),
    *(JobState.NODE_FAIL, JobState.BOOT_FAIL, JobState.PREEMPTED, JobState.CANCELLED),
)


@dataclasses.dataclass(frozen=True)
class ActiveJob:
    """A job that is queued or runs.

    Attributes:
        id: "17", or "17_3" of an array's task.
        name: its job name.
        state: a `JobState`, or a rarer state of Slurm's.
        node: where it runs, "" while it waits.
        elapsed, limit: times as Slurm writes them, "1-02:03:04".
        reason: why it waits.
        comment: the token of its submission.
    """

    id: str
    name: str
    state: str
    node: str = ""
    elapsed: str = ""
    limit: str = ""
    reason: str = ""
    comment: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it has started."""
        return self.state in _STARTED

    @property
    def is_held(self) -> bool:
        """Whether it waits until a person releases it."""
        return not self.is_running and bool(
            re.search(r"hel?d|hold|SPECIAL_EXIT", f"{self.reason} {self.state}", re.IGNORECASE)
        )

    @property
    def release_command(self) -> str:
        """What releases a job that is held; an administrator's hold only an administrator can release."""
        command = f"scontrol release {self.whole_id}"
        return f"ask an administrator for {command}" if "admin" in self.reason.lower() else command

    @property
    def whole_id(self) -> str:
        """Of an array's task the id of the array, else its own id."""
        return self.id.partition("_")[0]


@dataclasses.dataclass(frozen=True)
class EndedJob:
    """A job as Slurm's accounting remembers it: its final state, such as OUT_OF_MEMORY, and exit code "3:0".

    For some seconds the name may be "", while accounting does not know it yet (Slurm prints "allocation"). An array has
    the state of its worst task, and `failed` holds all its tasks that did not succeed, "17_3" or "17_[4-9]".
    """

    id: str
    name: str
    state: str
    exit_code: str
    node: str
    elapsed: str
    failed: "tuple[EndedJob, ...]" = ()


def secret_variables() -> list[str]:
    """Return the names of the environment variables that hold tokens, keys and passwords."""
    return [name for name in sorted(os.environ) if _SECRET.search(name)]


def slurm_variables() -> list[str]:
    """Return the names of the environment variables that change what Slurm's commands do by default.

    They include those of a job that this process may be part of: a job submitted with them would take itself for a task
    of that job's array, and requeue that job at its own time limit.
    """
    prefixes = ("SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SLURM_", "SLURMD_")
    return [name for name in sorted(os.environ) if name.startswith(prefixes) and name not in _NEEDED]


def cluster_name() -> str | None:
    """Return the name of the cluster whose controller answers, None where there is no Slurm.

    Raises:
        SlurmError: Slurm is installed and configured, and its controller does not answer.
    """
    try:
        found = re.search(r"^ClusterName\s*=\s*(\S+)", _call("scontrol", "show", "config"), re.MULTILINE)
    except SlurmError as error:
        # No commands, or commands without a configuration: a machine outside every cluster.
        if error.is_absent:
            return None
        raise
    return found[1] if found else None


def queue() -> list[ActiveJob]:
    """Return this user's jobs that are queued or run, by one `squeue`; an array's tasks one by one.

    Raises:
        SlurmError: it does not answer.
    """
    text = _call("squeue", "--me", "--noheader", "--array", "--format=%i|%j|%T|%N|%M|%l|%r|%k")
    jobs = []
    for line in text.splitlines():
        # Names and comments of other jobs of the user may hold any text, also line breaks; the comment comes last.
        if len(fields := line.split("|", 7)) < 8:
            continue
        number, name, state, node, elapsed, limit, reason, comment = fields
        reason = "" if reason == "None" else reason
        jobs.append(
            ActiveJob(number, name, state, node, elapsed, limit, reason, "" if comment == "(null)" else comment)
        )
    return jobs


def by_name(jobs: list[ActiveJob]) -> dict[str, ActiveJob]:
    """Return the jobs by name; of an array one task, one that runs where there is one."""
    found: dict[str, ActiveJob] = {}
    for job in jobs:
        if job.name not in found or (job.is_running and not found[job.name].is_running):
            found[job.name] = job
    return found


def accounting(ids: Sequence[str], since: str) -> dict[str, EndedJob]:
    """Return what accounting knows of some jobs, by id, by one `sacct`; of an array its tasks and the whole array.

    Args:
        ids: of the jobs.
        since: UTC time "2026-11-21T03:12:00Z" before the first of them was submitted.

    Raises:
        SlurmError: there is no accounting, or it does not answer.
    """
    fields = "--format=JobID,State,ExitCode,NodeList,ElapsedRaw,JobName"
    # sacct reads local times; this one is in UTC.
    text = _call(
        *("sacct", "-X", "-n", "-P", f"--jobs={','.join(ids)}", f"--user={os.getuid()}"),
        *(f"--starttime={since.rstrip('Z')}", fields),
        TZ="UTC",
    )
    found: dict[str, EndedJob] = {}
    tasks: dict[str, list[EndedJob]] = {}
    for line in text.splitlines():
        if len(columns := line.split("|", 5)) < 6:
            continue
        number, state, code, node, elapsed, name = columns
        node = "" if node == "None assigned" else node
        name = "" if name == "allocation" else name
        job = EndedJob(number, name, state.split()[0] if state else "", code, node, elapsed)
        found[number] = job
        whole, is_task, _ = number.partition("_")
        if is_task:
            tasks.setdefault(whole, []).append(job)
    return found | {whole: _array(whole, members) for whole, members in tasks.items()}


def _array(number: str, tasks: list[EndedJob]) -> EndedJob:
    failed = [task for task in tasks if task.state in _UNSUCCESSFUL]
    worst = min(failed, key=lambda task: _UNSUCCESSFUL.index(JobState(task.state)), default=tasks[0])
    return dataclasses.replace(worst, id=number, failed=tuple(failed))


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs, an array as a whole; those that have ended already are no error."""
    if ids:
        _call("scancel", *dict.fromkeys(number.partition("_")[0] for number in ids))


def stop(ids: Sequence[str]) -> None:
    """Send SIGTERM to the one process of each running job, so that it saves and ends; Slurm kills nothing meanwhile.

    A job that has ended meanwhile is no error.
    """
    failed: dict[str, SlurmError] = {}
    for number in dict.fromkeys(ids):
        try:
            _call("scancel", "--batch", "--signal=TERM", number)
        except SlurmError as error:
            failed[number] = error
    for job in queue() if failed else []:
        if job.state == JobState.RUNNING and job.whole_id in failed:
            raise failed[job.whole_id]


def test_only(text: str) -> str:
    """Return what sbatch says of a batch text without queueing it: when and where the job would start.

    Raises:
        SlurmError: sbatch would reject it.
    """
    said = _call("sbatch", "--test-only", text=text).strip().splitlines()
    return said[-1].removeprefix("sbatch: ") if said else ""


def _call(*command: str, text: str | None = None, **environment: str) -> str:
    # A user's SQUEUE_STATES and the like would hide jobs from squeue; SBATCH_… would override the batch text.
    hidden = {*secret_variables(), *slurm_variables()}
    try:
        done = subprocess.run(
            command,
            env={name: value for name, value in os.environ.items() if name not in hidden} | environment,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            errors="replace",
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: Slurm is not installed on this machine.", is_absent=True) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: Slurm has not answered within {TIMEOUT_S} s.") from None
    if done.returncode:
        said = " ".join(done.stderr.split()).removeprefix(f"{command[0]}: ") or f"exit code {done.returncode}"
        # libslurm prints this where there is no slurm.conf and DNS names none
        absent = "Could not establish a configuration source" in said
        raise SlurmError(f"{command[0]}: {said}", is_absent=absent)
    return done.stdout + (done.stderr if text is not None else "")  # sbatch --test-only answers on stderr
