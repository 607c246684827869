"""The one interface to a Slurm cluster and to this machine's own queue, and the choice of the cluster by CLUSTER=."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from common.cluster import local_queue, profiles, slurm_commands
from common.cluster.profiles import Profile
from common.cluster.slurm_commands import ActiveJob, EndedJob
from common.cluster.task import Task, environment
from common.core.errors import ConfigError

AUTO = "auto"
SLURM, LOCAL = "slurm", "local"  # executors, as a profile names them


class Scheduler(Protocol):
    """Queues tasks as jobs, runs them, and knows which of them are active."""

    def jobs(self) -> dict[str, ActiveJob]:
        """Return the jobs that wait or run, by name; of an array one task.

        Raises:
            SlurmError: the scheduler does not answer.
        """

    def ended(self, ids: Sequence[str], since: str) -> dict[str, EndedJob]:
        """Return what is remembered of jobs that ended, by id; {} where nothing is remembered.

        Args:
            ids: of the jobs.
            since: UTC time before the first of them was submitted.

        Raises:
            SlurmError: the scheduler's accounting does not answer.
        """

    def submit(self, task: Task, profile: Profile) -> str:
        """Queue a task and return its job id.

        Raises:
            SlurmError: the scheduler rejects it, or does not answer.
        """

    def check(self, task: Task, profile: Profile) -> str:
        """Return when and where a task would run, without queueing it; a `SlurmError` where it would be rejected."""

    def start(self) -> None:
        """Begin to run queued tasks; called once after the last `submit`."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Remove jobs that wait, and end jobs that run."""

    def stop(self, ids: Sequence[str]) -> list[str]:
        """Ask running jobs to save and end; return the ids of those that this call has not waited for."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A place where jobs run: the name of its profile, the profile, and its scheduler."""

    name: str
    profile: Profile
    scheduler: Scheduler


class SlurmScheduler:
    """A Slurm cluster."""

    def jobs(self) -> dict[str, ActiveJob]:
        """Return the jobs that wait or run."""
        return slurm_commands.by_name(slurm_commands.queue())

    def ended(self, ids: Sequence[str], since: str) -> dict[str, EndedJob]:
        """Return what accounting remembers of jobs."""
        return slurm_commands.accounting(ids, since) if ids else {}

    def submit(self, task: Task, profile: Profile) -> str:
        """Write the batch file and submit it by sbatch."""
        from common.cluster import batch_script  # here: `make status` needs no submitit, which is slow to import

        return batch_script.submit(task, profile)

    def check(self, task: Task, profile: Profile) -> str:
        """Return what `sbatch --test-only` says."""
        from common.cluster import batch_script

        return slurm_commands.test_only(batch_script.batch_text(task, profile))

    def start(self) -> None:
        """Do nothing: Slurm starts jobs by itself."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs; Slurm kills a running one that does not end soon."""
        slurm_commands.cancel(ids)

    def stop(self, ids: Sequence[str]) -> list[str]:
        """Send running jobs SIGTERM and do not wait: a checkpoint may take longer than Slurm waits before SIGKILL."""
        slurm_commands.stop(ids)
        return list(ids)


class LocalScheduler:
    """This machine's queue in an outputs folder."""

    def __init__(self, outputs: Path, slots: int | None = None) -> None:
        self.queue, self.slots = local_queue.folder_of(outputs), slots

    def jobs(self) -> dict[str, ActiveJob]:
        """Return the tasks that wait or run."""
        return {job.name: job for job in local_queue.jobs(self.queue)}

    def ended(self, ids: Sequence[str], since: str) -> dict[str, EndedJob]:
        """Return {}: the queue remembers nothing of tasks that ended."""
        return {}

    def submit(self, task: Task, profile: Profile) -> str:
        """Put a task into the queue; it starts after `start`."""
        return local_queue.add(
            self.queue,
            name=task.name,
            command=task.command,
            directory=str(task.directory),
            log=str(task.folder / "local.log"),
            environment=environment(task, profile),
            expanded=dict(profile.env),  # unexpanded: a value may refer to a secret, which must not be in a file
            after=task.after,
        )

    def check(self, task: Task, profile: Profile) -> str:
        """Return where it would run; this machine has no limits to check."""
        return f"on this machine, {self.slots or len(local_queue.slots())} at a time"

    def start(self) -> None:
        """Start workers."""
        local_queue.start_workers(self.queue, self.slots)

    def cancel(self, ids: Sequence[str]) -> None:
        """Remove tasks; a running one is asked to save and end, and killed when it does not within a minute."""
        local_queue.cancel(self.queue, ids)

    def stop(self, ids: Sequence[str]) -> list[str]:
        """Cancel tasks, and return []: `cancel` waits until they have ended."""
        self.cancel(ids)
        return []


def scheduler_of(executor: str, outputs: Path) -> Scheduler:
    """Return the scheduler of an executor, "slurm" or "local", for runs below an outputs folder."""
    return LocalScheduler(outputs) if executor == LOCAL else SlurmScheduler()


def choose_cluster(name: str, outputs: Path) -> Cluster:
    """Return the cluster that CLUSTER= names.

    "auto" is the profile named like the cluster whose controller answers, or this machine where there is no Slurm.

    Raises:
        ConfigError: there is no such profile.
        SlurmError: Slurm is installed and does not answer.
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
    if profile.executor == LOCAL:
        return Cluster(name, profile, LocalScheduler(outputs, profile.slots))
    return Cluster(name, profile, SlurmScheduler())
