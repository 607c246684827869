"""Slurm's own commands, asked once each: what is queued, what accounting remembers, cancel, test.

What Slurm does not answer is an error, never an empty answer: silence must not look like "nothing is running".
Standard library only.
"""

import dataclasses
import os
import re
import subprocess
from collections.abc import Sequence

from common.core.errors import SlurmError

TIMEOUT_S = 20  # a stopped controller keeps clients waiting for about 10 s
# Jobs need no token: they run offline. What Slurm's commands do not see stands in no environment that Slurm keeps.
_SECRET = re.compile(
    r"TOKEN(?!IZERS)|SECRET|PASSW|API_?KEY|CREDENTIAL|ACCESS_?KEY|PRIVATE_?KEY|_(KEY|PAT|PWD)$", re.IGNORECASE
)
_NEEDED = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")  # to reach the controller
# Worst first, as far as a person has to do something about it.
_ILL = ["FAILED", "OUT_OF_MEMORY", "TIMEOUT", "DEADLINE", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "CANCELLED"]
RUNNING = ("RUNNING", "COMPLETING", "STAGE_OUT", "SUSPENDED", "STOPPED")


@dataclasses.dataclass(frozen=True)
class LiveJob:
    """A job that is queued or runs.

    Attributes:
        id: "17", of an array's task "17_3".
        name: its job name.
        state: Slurm's word, such as PENDING or RUNNING.
        node: where it runs, "" while it waits.
        elapsed, limit: as Slurm writes times, "1-02:03:04".
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
        """Whether it has begun."""
        return self.state in RUNNING

    @property
    def whole_id(self) -> str:
        """The id of the array that it is a task of, else its own."""
        return self.id.partition("_")[0]


@dataclasses.dataclass(frozen=True)
class PastJob:
    """What accounting says of a job that is over: its final state, such as OUT_OF_MEMORY, and exit code "3:0".

    For some seconds the name may be "" (Slurm says "allocation"): it is not known yet. An array is what its worst task
    is, and `failed` holds all that have not ended well, "17_3" or "17_[4-9]".
    """

    id: str
    name: str
    state: str
    exit_code: str
    node: str
    elapsed: str
    failed: "tuple[PastJob, ...]" = ()


def secrets() -> list[str]:
    """Return the names of the variables of our environment that hold tokens, keys and passwords."""
    return [name for name in sorted(os.environ) if _SECRET.search(name)]


def habits() -> list[str]:
    """Return the names of the variables of our environment that change what Slurm's commands do by default.

    Also those of a job that we may be part of: a job made from there would take itself for a task of that one's array,
    and put that one back at its own time limit.
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


def queue() -> list[LiveJob]:
    """Return our jobs that are queued or run, by one `squeue`; an array's tasks one by one.

    Raises:
        SlurmError: it does not answer.
    """
    text = _call("squeue", "--me", "--noheader", "--array", "--format=%i|%j|%T|%N|%M|%l|%r|%k")
    jobs = []
    for line in text.splitlines():
        # Names and comments of jobs that are not ours may hold anything, line breaks too; the comment comes last.
        if len(fields := line.split("|", 7)) < 8:
            continue
        number, name, state, node, elapsed, limit, reason, comment = fields
        reason = "" if reason == "None" else reason
        jobs.append(LiveJob(number, name, state, node, elapsed, limit, reason, "" if comment == "(null)" else comment))
    return jobs


def by_name(jobs: list[LiveJob]) -> dict[str, LiveJob]:
    """Return the jobs by name; an array by a task that runs, where one does."""
    found: dict[str, LiveJob] = {}
    for job in jobs:
        if job.name not in found or (job.is_running and not found[job.name].is_running):
            found[job.name] = job
    return found


def accounting(ids: Sequence[str], since: str) -> dict[str, PastJob]:
    """Return what accounting knows of some jobs, by id, by one `sacct`; of an array its tasks and the whole.

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
    found: dict[str, PastJob] = {}
    tasks: dict[str, list[PastJob]] = {}
    for line in text.splitlines():
        if len(columns := line.split("|", 5)) < 6:
            continue
        number, state, code, node, elapsed, name = columns
        node = "" if node == "None assigned" else node
        name = "" if name == "allocation" else name
        job = PastJob(number, name, state.split()[0] if state else "", code, node, elapsed)
        found[number] = job
        whole, is_task, _ = number.partition("_")
        if is_task:
            tasks.setdefault(whole, []).append(job)
    return found | {whole: _array(whole, members) for whole, members in tasks.items()}


def _array(number: str, tasks: list[PastJob]) -> PastJob:
    failed = [task for task in tasks if task.state in _ILL]
    worst = min(failed, key=lambda task: _ILL.index(task.state), default=tasks[0])
    return dataclasses.replace(worst, id=number, failed=tuple(failed))


def cancel(ids: list[str]) -> None:
    """Cancel jobs, an array as a whole; those that are over already are no error."""
    if ids:
        _call("scancel", *dict.fromkeys(number.partition("_")[0] for number in ids))


def stop(ids: Sequence[str]) -> None:
    """Ask running jobs, by SIGTERM to their one process, to save and end; Slurm kills nothing meanwhile.

    One that has ended since is no error.
    """
    failed: dict[str, SlurmError] = {}
    for number in dict.fromkeys(ids):
        try:
            _call("scancel", "--batch", "--signal=TERM", number)
        except SlurmError as error:
            failed[number] = error
    for job in queue() if failed else []:
        if job.state == "RUNNING" and job.whole_id in failed:
            raise failed[job.whole_id]


def test_only(text: str) -> str:
    """Have sbatch check a batch text without queueing it, and return what it says: when and where it would start.

    Raises:
        SlurmError: it would be refused.
    """
    said = _call("sbatch", "--test-only", text=text).strip().splitlines()
    return said[-1].removeprefix("sbatch: ") if said else ""


def _call(*command: str, text: str | None = None, **environment: str) -> str:
    # Of a user's habits SQUEUE_STATES and the like would hide jobs from us, SBATCH_… outdo the batch text.
    hidden = {*secrets(), *habits()}
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
        # libslurm says so where there is no slurm.conf and none in DNS
        absent = "Could not establish a configuration source" in said
        raise SlurmError(f"{command[0]}: {said}", is_absent=absent)
    return done.stdout + (done.stderr if text is not None else "")  # sbatch --test-only answers on stderr
