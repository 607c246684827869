"""A command to run as a job, on a Slurm cluster or on this machine, and the variables that it gets."""

import dataclasses
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cluster.profiles import Profile
from common.config.catalog import REPOSITORY, ROOT
from common.runs.requeue import MAX_REQUEUES
from common.runs.run_lock import SUBMISSION


@dataclasses.dataclass(frozen=True)
class Task:
    """A command to run as a job, on a cluster or on this machine.

    Attributes:
        name: unique to the folder that the job works on; at most one job of a name is active.
        command: argv.
        folder: of this submission, for batch file and log; its name is the submission's number.
        directory: where the command is run.
        token: of this submission, which becomes the job's comment.
        after: ids of jobs that must have ended, with or without success, before it starts.
        array: the numbers of an array's tasks; empty for a single job.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    directory: Path
    token: str
    after: tuple[str, ...] = ()
    array: tuple[int, ...] = ()


def make_task(name: str, command: Sequence[str], folder: Path, code: Path, **more: Any) -> Task:
    """Return a task that runs a script of peftable, with a new token.

    Args:
        name: of the job.
        command: the script's name and its arguments.
        folder: of the submission.
        code: the folder of the code that the task runs (`code_snapshot.keep_code`).
        more: `after`, `array`.
    """
    script, *arguments = command
    words = (sys.executable, "-u", str(code / "scripts" / f"{script}.py"), *arguments)
    return Task(name, words, folder, ROOT, f"peftable-{secrets.token_hex(8)}", **more)


def environment(task: Task, profile: Profile) -> dict[str, str]:
    """Return the variables that a task gets from us, on a cluster and on this machine."""
    return {
        SUBMISSION: str(task.folder),
        MAX_REQUEUES: str(profile.max_requeues),
        REPOSITORY: str(task.directory),
        "HF_HUB_OFFLINE": "1",
    }
