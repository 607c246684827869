"""Where jobs are carried out, behind one interface: a Slurm cluster through submitit, or this machine's own queue."""

import contextlib
import dataclasses
import io
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from common.cluster import local_queue, profiles, slurm_commands
from common.cluster.batch_script import Task, batch_text, environment
from common.cluster.profiles import Profile
from common.cluster.slurm_commands import LiveJob
from common.config.catalog import ROOT
from common.core.errors import ConfigError, SlurmError

AUTO = "auto"


class Scheduler(Protocol):
    """Carries tasks out."""

    def jobs(self) -> dict[str, LiveJob]:
        """Return what waits or runs, by name, asked once; an array by its first task."""

    def submit(self, task: Task, profile: Profile) -> str:
        """Hand a task over and return its job id."""

    def check(self, task: Task, profile: Profile) -> str:
        """Return what would become of a task, which is not handed over."""

    def cancel(self, ids: list[str]) -> None:
        """Take jobs back."""

    def start(self) -> None:
        """Begin to work; called once after the last task."""


Chosen = tuple[str, Profile, Scheduler]  # name, profile, who carries tasks out


class _Executor(submitit.SlurmExecutor):
    """submitit's executor for a command that is a script of ours, as a person would type it: nothing is pickled."""

    def __init__(self, task: Task, profile: Profile) -> None:
        super().__init__(folder=task.folder)
        self.task, self.profile = task, profile

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return batch_text(self.task, self.profile)

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        hidden = [f"--unset={name}" for name in (*slurm_commands.secrets(), *slurm_commands.habits())]
        return ["env", *hidden, "sbatch", str(submission_file_path)]


class SlurmScheduler:
    """A cluster."""

    def jobs(self) -> dict[str, LiveJob]:
        """Return what waits or runs."""
        return slurm_commands.by_name(slurm_commands.queue())

    def submit(self, task: Task, profile: Profile) -> str:
        """Write the batch file and hand it to sbatch.

        Raises:
            SlurmError: sbatch refuses it, or does not answer.
        """
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):  # submitit prints what it raises, too
                return str(_Executor(task, profile)._submit_command("").job_id)
        except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
            raise SlurmError(" ".join(str(error).split())) from error

    def check(self, task: Task, profile: Profile) -> str:
        """Return when and where the job would start; a `SlurmError` where sbatch would refuse it."""
        return slurm_commands.test_only(batch_text(task, profile))

    def cancel(self, ids: list[str]) -> None:
        """Cancel jobs."""
        slurm_commands.cancel(ids)

    def start(self) -> None:
        """Slurm begins by itself."""


class LocalScheduler:
    """This machine's queue below an outputs folder."""

    def __init__(self, outputs: Path, slots: int | None = None) -> None:
        self.queue, self.slots = local_queue.folder_of(outputs), slots

    def jobs(self) -> dict[str, LiveJob]:
        """Return what waits or runs."""
        found = local_queue.jobs(self.queue)
        return {job.name: dataclasses.replace(job, reason="") for job in found}  # `start` mends what there may be

    def submit(self, task: Task, profile: Profile) -> str:
        """Put a task into the queue; it begins with `start`."""
        entry = {
            "name": task.name,
            "command": list(task.command),
            "directory": str(task.directory),
            "log": str(task.folder / "local.log"),
            "environment": environment(task, profile),
            "expanded": dict(profile.env),  # as it is written there: a value may mean a token
            "after": list(task.after),
        }
        return local_queue.add(self.queue, entry)

    def check(self, task: Task, profile: Profile) -> str:
        """Return where it would run; nothing is limited here."""
        return f"on this machine, {self.slots or len(local_queue.slots())} at a time"

    def cancel(self, ids: list[str]) -> None:
        """Cancel jobs."""
        local_queue.cancel(self.queue, ids)

    def start(self) -> None:
        """Start workers."""
        local_queue.start_workers(self.queue, self.slots)


def choose_scheduler(name: str, outputs: Path) -> Chosen:
    """Return the cluster that CLUSTER= means: its name, profile and scheduler.

    "auto" is the profile of the cluster whose controller answers, by its ClusterName, or this machine where there is
    no Slurm.

    Raises:
        ConfigError: no such profile.
        SlurmError: Slurm is there and does not answer.
    """
    if name == AUTO:
        found = slurm_commands.cluster_name()
        if found is not None and not profiles.exists(found):
            raise ConfigError(
                f"this is the Slurm cluster '{found}', and there is no slurm/{found}.yaml yet: copy an example of "
                "slurm/ to that name and fill in what your site calls things (slurm/README.md), or CLUSTER=local."
            )
        name = found or profiles.LOCAL
    profile = profiles.load(name)
    if profile.executor == "local":
        return name, profile, LocalScheduler(outputs, profile.slots)
    return name, profile, SlurmScheduler()


def make_task(name: str, command: Sequence[str], folder: Path, **more: Any) -> Task:
    """Return a task that runs a script of this repository, with a token of its own.

    Args:
        name: of the job.
        command: the script's name and its arguments.
        folder: of the submission.
        more: `after`, `array`.
    """
    script, *arguments = command
    words = (sys.executable, "-u", f"scripts/{script}.py", *arguments)
    return Task(name, words, folder, ROOT, f"peftable-{secrets.token_hex(8)}", **more)
