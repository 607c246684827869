"""One writer a run folder: `owner.json` says who, and whether that process still lives."""

import contextlib
import datetime
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import RunError
from common.files import lock, read_json, write_json

OWNER = "owner.json"


@contextlib.contextmanager
def ownership(path: Path) -> Iterator[int]:
    """Be the one writer of a run folder; yields the number of this attempt, from 1.

    The lock file lies beside the folder's content and guards only the moment of taking over; `owner.json` says who
    writes. A dead owner is replaced.

    Raises:
        RunError: another process, still alive, owns the folder.
    """
    path.mkdir(parents=True, exist_ok=True)
    with lock(path / ".owner.lock"):
        if owner := live_owner(path):
            raise RunError(busy(path, owner))
        attempt = _read_owner(path).get("attempt", 0) + 1
        mine = {
            "schema": 1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_started": _process_start(os.getpid()),
            "job_id": os.environ.get("SLURM_JOB_ID"),
            "attempt": attempt,
            "since": utc_now(),
            "released": None,
        }
        write_json(path / OWNER, mine)
    try:
        yield attempt
    finally:
        if _read_owner(path) == mine:  # another may have taken over meanwhile
            write_json(path / OWNER, mine | {"released": utc_now()})


def _read_owner(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path / OWNER))
    except (OSError, ValueError):
        return {}


def live_owner(path: Path) -> dict[str, Any] | None:
    """Return who writes a run folder and still lives, or may live on another host; None where nobody does."""
    owner = _read_owner(path)
    if not owner or owner.get("released"):
        return None
    if owner["host"] != socket.gethostname():
        return owner  # whether it lives cannot be seen from here
    started = _process_start(owner["pid"])
    return owner if started is not None and started == owner["pid_started"] else None


def _process_start(pid: int) -> str | None:
    """Return the kernel's start time of a process (field 22 of /proc/<pid>/stat), which tells a reused pid apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def busy(path: Path, owner: dict[str, Any]) -> str:
    """Say that a live owner works on a run, and what to do."""
    return (
        f"{path}: process {owner['pid']} on {owner['host']} has been working on this run since {owner['since']}. "
        f"Wait for it or stop it. If that machine is gone, delete {path / OWNER} and start again."
    )


def utc_now() -> str:
    """Return the time as "2026-11-21T03:12:00Z"."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
