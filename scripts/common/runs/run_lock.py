"""The run lock: one writer per run folder. `owner.json` names the holder, and its fencing token says who is newer.

A start that Slurm made has a fencing token (submission, restart): the number of the run's submission, and how often
Slurm has restarted that job. A higher token takes the lock, even from a process that still runs: Slurm has given that
one up. The older start notices before its next write (`files.fenced`), and stops.
"""

import contextlib
import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from common.core.documents import from_json, read_object, to_json
from common.core.errors import DiskFull, RunError, Superseded
from common.core.files import fenced, make_folder, remove, remove_leftovers, utc_now, write_json
from common.core.locks import lock
from common.core.processes import Process, this_process

FILE = "owner.json"
SUBMISSION = "PEFTABLE_SUBMISSION"  # variable of a job: the folder of its submission, `<run folder>/slurm/<number>`
_MARK = "attempt-"
_SQUEUE_S = 10


@dataclasses.dataclass(frozen=True)
class Holder:
    """Content of `owner.json`: the process that holds the lock of a run folder, or held it last.

    Attributes:
        host, pid, pid_started: the process.
        job_id: of its Slurm job, None outside of Slurm.
        submission: number of the run's submission, None for a process that a person started.
        restart: how often Slurm had restarted the job.
        attempt: 1 for the first holder of this run folder, 2 for the second, ….
        since: UTC time at which it took the lock.
        released: UTC time at which it gave the lock back, None while it holds it or when it was killed.
    """

    host: str
    pid: int
    pid_started: str | None
    job_id: str | None = None
    submission: int | None = None
    restart: int | None = None
    attempt: int = 0
    since: str = ""
    released: str | None = None

    @property
    def token(self) -> tuple[int, int] | None:
        """The fencing token; None for a process that a person started."""
        return None if self.submission is None else (self.submission, self.restart or 0)

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return Process(self.host, self.pid, self.pid_started).is_here

    def may_run(self) -> bool:
        """Return whether it holds the lock and has not ended, as far as this machine can see."""
        return not self.released and Process(self.host, self.pid, self.pid_started).may_run()


@contextlib.contextmanager
def acquire(path: Path) -> Iterator[int]:
    """Hold the lock of a run folder; yields the number of this attempt, from 1.

    A file lock beside the folder's content guards only the moments of taking and releasing; `owner.json` names the
    holder. A holder that has ended is replaced, and so is an older start of the same run by Slurm.

    Raises:
        RunError: another process, which still runs, holds the lock.
        Superseded: a newer start holds or held it; later, from any write: a newer start has taken it.
    """
    make_folder(path)
    with lock(path / ".owner.lock"):
        if newer := newer_holder(path):
            raise Superseded(superseded_message(path, newer))
        if holder := running_holder(path):
            raise RunError(held_message(path, holder))
        last, process = read(path), this_process()
        mine = Holder(
            host=process.host,
            pid=process.pid,
            pid_started=process.started,
            job_id=os.environ.get("SLURM_JOB_ID"),
            submission=submission(),
            restart=restart(),
            attempt=(last.attempt if last else 0) + 1,
            since=utc_now(),
        )
        write_json(path / FILE, to_json(mine))

    def check() -> None:
        if (holder := read(path)) != mine:
            raise Superseded(superseded_message(path, holder))

    with fenced(path, check, f"{_MARK}{mine.attempt}"):
        try:
            remove_leftovers(path, _MARK)
            yield mine.attempt
        finally:
            _release(path, mine)


def _release(path: Path, mine: Holder) -> None:
    """Record in `owner.json` that nobody writes, unless another start has taken the lock meanwhile."""
    with contextlib.suppress(OSError, RunError, Superseded):
        if read(path) == mine:  # otherwise the folder may be gone, and the file lock would create it again
            with lock(path / ".owner.lock"):
                try:
                    write_json(path / FILE, to_json(dataclasses.replace(mine, released=utc_now())))  # checks the fence
                except DiskFull:
                    remove(path / FILE)  # without the file nobody holds the lock, either


def submission() -> int | None:
    """Return the number of the submission that this process belongs to, None for one that a person started."""
    number = Path(os.environ.get(SUBMISSION, "")).name
    return int(number) if number.isdigit() else None


def restart() -> int:
    """Return how often Slurm has restarted this job."""
    count = os.environ.get("SLURM_RESTART_COUNT", "")
    return int(count) if count.isdigit() else 0


def _our_token() -> tuple[int, int] | None:
    number = submission()
    return None if number is None else (number, restart())


def read(path: Path) -> Holder | None:
    """Return the holder in a run folder's `owner.json`, None where the file is missing or damaged."""
    try:
        return from_json(Holder, read_object(path / FILE))
    except TypeError:
        return None


def newer_holder(path: Path) -> Holder | None:
    """Return the last holder of a run folder, running or ended, when it is a newer start by Slurm than this process."""
    holder, ours = read(path), _our_token()
    if holder is None or holder.token is None or ours is None:
        return None
    return holder if holder.token > ours else None


def running_holder(path: Path) -> Holder | None:
    """Return the holder of a run folder that runs, or may run on another machine; None where we may take the lock."""
    holder, ours = read(path), _our_token()
    if holder is None or holder.released:
        return None
    theirs = holder.token
    if (theirs is not None and ours is not None and ours > theirs) or not holder.may_run():
        return None
    # A controller that was killed restarts a job without counting it: Slurm runs a job once at a time.
    if ours is not None and ours == theirs and holder.job_id and holder.job_id == os.environ.get("SLURM_JOB_ID"):
        return None
    # A process of another machine cannot be seen from here, but Slurm knows about its own jobs.
    if holder.job_id and (ours is None or theirs is None) and _has_left_slurm(holder.job_id):
        return None
    return holder


def _has_left_slurm(job: str) -> bool:
    """Return whether Slurm answers, and knows no job of that id that waits, runs or ends."""
    try:
        done = subprocess.run(
            ["squeue", "-h", "-j", job, "-o", "%i"], capture_output=True, text=True, timeout=_SQUEUE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode:
        return "Invalid job id" in done.stderr  # Slurm has forgotten it
    return not done.stdout.strip()


def held_message(path: Path, holder: Holder) -> str:
    """Return a message that names the running holder of a run folder, and says what to do."""
    process = f"process {holder.pid} on {holder.host}"
    if holder.token is None:
        return (
            f"{path}: {process} has been working on this run since {holder.since}. "
            f"Wait for it or stop it. If that machine is gone, delete {path / FILE} and start again."
        )
    return (
        f"{path}: the Slurm job {holder.job_id} ({process}) has been working on this run since {holder.since}, and "
        f"Slurm does not say that it is gone. Wait for it, or stop it: scancel {holder.job_id}. If Slurm itself is "
        f"gone, delete {path / FILE} and start again."
    )


def superseded_message(path: Path, holder: Holder | None) -> str:
    """Return a message that a newer start has taken the lock of a run, or that the lock's file is gone (None)."""
    if holder is None:
        return f"{path}: {FILE} has been removed meanwhile; this start has stopped, and writes nothing more."
    job = f"Slurm job {holder.job_id}, " if holder.job_id else ""
    number = "" if holder.token is None else f"submission {holder.submission}, restart {holder.restart}, "
    return (
        f"{path}: a newer start has taken this run over ({job}{number}process {holder.pid} on {holder.host}, since "
        f"{holder.since}); this one has stopped, and writes nothing more."
    )
