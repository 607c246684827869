"""One writer a run folder: `owner.json` says who, and whether that process still lives.

A start that Slurm made carries a key, (submission, restart): the number of the run's submission, and how often Slurm
has started that job again. The higher key takes over, even from a process that still lives: Slurm has given it up. The
older start finds out before its next write (`files.fenced`), and stops.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.core.errors import DiskFull, RunError, Superseded
from common.core.files import fenced, read_json, remove, remove_leftovers, utc_now, write_json
from common.core.locks import lock

FILE = "owner.json"
_MARK = "attempt-"
_SQUEUE_S = 10


@contextlib.contextmanager
def acquire(path: Path) -> Iterator[int]:
    """Be the one writer of a run folder; yields the number of this attempt, from 1.

    The lock file lies beside the folder's content and guards only the moments of taking over and of giving back;
    `owner.json` says who writes. A dead owner is replaced, and so is an older start of the same run by Slurm.

    Raises:
        RunError: another process, still alive, owns the folder.
        Superseded: a newer start owns or owned the folder; later, from any write: has taken over.
    """
    path.mkdir(parents=True, exist_ok=True)
    with lock(path / ".owner.lock"):
        if found := newer_holder(path):
            raise Superseded(superseded_message(path, found))
        if owner := live_holder(path):
            raise RunError(held_message(path, owner))
        mine = {
            "schema": 1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_started": process_start(os.getpid()),
            "job_id": os.environ.get("SLURM_JOB_ID"),
            "submission": submission(),
            "restart": restart(),
            "attempt": read(path).get("attempt", 0) + 1,
            "since": utc_now(),
            "released": None,
        }
        write_json(path / FILE, mine)

    def check() -> None:
        if (owner := read(path)) != mine:
            raise Superseded(superseded_message(path, owner))

    with fenced(path, check, f"{_MARK}{mine['attempt']}"):
        try:
            remove_leftovers(path, _MARK)
            yield mine["attempt"]
        finally:
            _release(path, mine)


def _release(path: Path, mine: dict[str, Any]) -> None:
    """Say in `owner.json` that nobody writes, unless another has taken over meanwhile."""
    with contextlib.suppress(OSError, RunError, Superseded):
        if read(path) == mine:  # else the folder may be gone, and the lock would make it anew
            with lock(path / ".owner.lock"):
                try:
                    write_json(path / FILE, mine | {"released": utc_now()})  # the fence looks once more
                except DiskFull:
                    remove(path / FILE)  # nobody writes where there is none, either


def submission() -> int | None:
    """Return the number of the submission that this process belongs to, None for one that a person started."""
    number = Path(os.environ.get("PEFTABLE_SUBMISSION", "")).name
    return int(number) if number.isdigit() else None


def restart() -> int:
    """Return how often Slurm has started this job again."""
    count = os.environ.get("SLURM_RESTART_COUNT", "")
    return int(count) if count.isdigit() else 0


def _key(owner: dict[str, Any]) -> tuple[int, int] | None:
    number = owner.get("submission")
    return None if number is None else (number, owner.get("restart") or 0)


def _our_key() -> tuple[int, int] | None:
    return _key({"submission": submission(), "restart": restart()})


def newer_holder(path: Path) -> dict[str, Any] | None:
    """Return the owner of a run folder, alive or not, when it is a newer start by Slurm than this process."""
    owner, ours = read(path), _our_key()
    theirs = _key(owner)
    return owner if ours is not None and theirs is not None and theirs > ours else None


def read(path: Path) -> dict[str, Any]:
    """Return a run folder's `owner.json`, {} where nobody has written there."""
    try:
        return dict(read_json(path / FILE))
    except (OSError, ValueError):
        return {}


def live_holder(path: Path) -> dict[str, Any] | None:
    """Return who writes a run folder and lives, or may live elsewhere; None where nobody does, or we may take over."""
    owner = read(path)
    if not owner or owner.get("released"):
        return None
    theirs, ours = _key(owner), _our_key()
    if (theirs is not None and ours is not None and ours > theirs) or not may_live(owner):
        return None
    # A controller that was killed starts a job again without counting it: Slurm runs a job once at a time.
    if (
        ours is not None
        and ours == theirs
        and owner.get("job_id")
        and owner["job_id"] == os.environ.get("SLURM_JOB_ID")
    ):
        return None
    # Whether a process of another host lives cannot be seen from here, but Slurm knows about its own.
    if owner.get("job_id") and (ours is None or theirs is None) and _is_gone(str(owner["job_id"])):
        return None
    return owner


def may_live(owner: dict[str, Any]) -> bool:
    """Return whether an owner, as `owner.json` says it, has not ended, for all that can be seen from this machine."""
    if not owner or owner.get("released"):
        return False
    return owner["host"] != socket.gethostname() or process_start(owner["pid"]) == owner["pid_started"]


def _is_gone(job: str) -> bool:
    """Return whether Slurm answers, and knows no job of that id that waits, runs or ends."""
    try:
        done = subprocess.run(
            ["squeue", "-h", "-j", job, "-o", "%i"], capture_output=True, text=True, timeout=_SQUEUE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode:
        return "Invalid job id" in done.stderr  # forgotten since
    return not done.stdout.strip()


def process_start(pid: int) -> str | None:
    """Return the kernel's start time of a process (field 22 of /proc/<pid>/stat), which tells a reused pid apart."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        # One that has ended and that nobody has asked about, as in a container without an init, is a zombie.
        return None if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return None


def this_process() -> dict[str, Any]:
    """Return what tells this process from any other, on this machine and on those that share its files."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": process_start(os.getpid())}


def held_message(path: Path, owner: dict[str, Any]) -> str:
    """Say that a live owner works on a run, and what to do."""
    process = f"process {owner['pid']} on {owner['host']}"
    if _key(owner) is None:
        return (
            f"{path}: {process} has been working on this run since {owner['since']}. "
            f"Wait for it or stop it. If that machine is gone, delete {path / FILE} and start again."
        )
    return (
        f"{path}: the Slurm job {owner['job_id']} ({process}) has been working on this run since {owner['since']}, and "
        f"Slurm does not say that it is gone. Wait for it, or stop it: scancel {owner['job_id']}. If Slurm itself is "
        f"gone, delete {path / FILE} and start again."
    )


def superseded_message(path: Path, owner: dict[str, Any]) -> str:
    """Say that a newer start owns a run, or that none does."""
    if not owner:
        return f"{path}: {FILE} has been removed meanwhile; this start has stopped, and writes nothing more."
    job = f"Slurm job {owner['job_id']}, " if owner.get("job_id") else ""
    number = "" if _key(owner) is None else f"submission {owner['submission']}, restart {owner['restart']}, "
    return (
        f"{path}: a newer start has taken this run over ({job}{number}process {owner['pid']} on {owner['host']}, since "
        f"{owner['since']}); this one has stopped, and writes nothing more."
    )
