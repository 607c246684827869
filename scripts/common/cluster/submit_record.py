"""What is written about a submission, and under which name its job is found again.

A run folder holds `submit.json`, its newest submission, and `slurm/<number>/`, a folder each with batch file and log.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from common.core import files

SUBMIT = "submit.json"
LOGS = "slurm"
COLLECT = ".collect"  # in an outputs folder: of the job that makes the report
PREDICTIONS = ".predictions"  # in an outputs folder: where the plans of submitted predictions lie
MERGE = "merge"  # in the folder of such a plan: of the job that merges
SCHEMA = 1


def job_name(folder: Path) -> str:
    """Return the one name of a run's jobs: readable, and unique to its folder among all of a user's."""
    folder = folder.resolve()
    mark = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9._=-]", "_", "-".join(folder.parts[-3:]))[-80:].lstrip("-") + f"-{mark}"


def read(folder: Path) -> dict[str, Any]:
    """Return a folder's `submit.json`, {} where it was never submitted."""
    try:
        return dict(files.read_json(folder / SUBMIT))
    except (OSError, ValueError):
        return {}


def newest_log(folder: Path) -> Path | None:
    """Return the log of a folder's newest job that has one."""
    logs = [log for log in (folder / LOGS).glob("*/*.log") if log.parent.name.isdigit()]
    return max(logs, key=lambda log: (int(log.parent.name), log.stat().st_mtime), default=None)


def newest_logs(folder: Path) -> list[Path]:
    """Return the logs of a folder's newest submission that has any: one, or of an array one a task, in order."""
    newest = newest_log(folder)
    return sorted(newest.parent.glob("*.log"), key=_task) if newest else []


def task_log(folder: Path, job: str) -> Path | None:
    """Return the log of an array's task "17_3", None where it has written none."""
    return next((log for log in (folder / LOGS).glob("*/*.log") if log.stem == job), None)


def _task(log: Path) -> tuple[int, str]:
    number = log.stem.rpartition("_")[2]
    return int(number) if number.isdecimal() else -1, log.stem


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log that hold something, at most `count` and 64 KiB."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 65536))
        lines = [line.rstrip() for line in stream.read().decode(errors="replace").splitlines()]
    return [line for line in lines if line][-count:]
