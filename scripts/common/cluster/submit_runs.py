"""Submit runs to a cluster, each one once, whatever happens meanwhile: a kill, a second `make submit`, a silent Slurm.

For every run a config.yaml is written, then an intent (`submit.json`), then sbatch is called, then the job's id is
recorded. Whether a run is active is what the scheduler says of its job name, asked once for all runs; when the
scheduler does not answer, nothing is submitted.
"""

import dataclasses
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from common.cluster import batch_script, local_queue, profiles, run_index
from common.cluster.scheduler import LOCAL, SLURM, Cluster, scheduler_of
from common.cluster.selection import Fingerprints, RunSpec, Skipped
from common.cluster.slurm_commands import ActiveJob, JobState
from common.cluster.submit_one import reconcile, submit_job
from common.cluster.submit_record import COLLECT, SubmissionState, job_name, read
from common.core import files
from common.core.documents import SCHEMA, read_fields
from common.core.errors import ConfigError, PeftableError, SlurmError
from common.core.locks import lock
from common.hub import presence
from common.runs import code_snapshot, run_folder, run_lock
from common.runs.run_config import RunConfig, differences


class _Expected(TypedDict, total=False):
    """Content of the report job's expected.json: names of runs, and the ids of their jobs."""

    runs: list[str]
    after: list[str]


class Action(enum.StrEnum):
    """The result for one run of a submission, as `make submit` prints it."""

    SUBMITTED = "submitted"
    RESUMED = "resumed"  # submitted; it has run before
    FINISHED = "finished"
    QUEUED = "queued"
    RUNNING = "running"
    ENDING = "ending"  # its job is about to end, so it can be submitted in a minute
    CHANGED = "changed"  # its config differs from the job's current one
    REFUSED = "refused"
    SKIPPED = "left out"  # its job cannot be read, or its model or rows are not on this machine


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result for one run.

    Attributes:
        name: of the run: its path below the outputs folder.
        action: see there.
        job_id: of its active job, "" where it has none.
        detail: the reason, or the differences of the config.
    """

    name: str
    action: Action
    job_id: str = ""
    detail: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether a person has to act."""
        return self.action in (Action.CHANGED, Action.REFUSED, Action.ENDING)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line asks of a submission.

    Attributes:
        resources: RESOURCES=.
        force: FORCE=1: start changed runs over; of runs that a person named, also unchanged ones.
        of_all_jobs: whether `make submit-all` selected the runs, rather than a person who named a job. Then a run whose
            model or rows are missing is skipped, which is an error otherwise, and a last job makes the report.
    """

    resources: dict[str, Any] = dataclasses.field(default_factory=dict)
    force: bool = False
    of_all_jobs: bool = False

    def starts_over(self, changes: Sequence[str]) -> bool:
        """Return whether a run whose config has these changes is to be started over."""
        return self.force and (bool(changes) or not self.of_all_jobs)


def submit_runs(
    specs: Sequence[RunSpec], skipped: Sequence[Skipped], outputs: Path, cluster: Cluster, options: Options
) -> list[Outcome]:
    """Submit every run that is neither finished nor active; return what was done about each.

    Args:
        specs: the runs, in order.
        skipped: jobs whose runs cannot be named; they are listed.
        outputs: the folder that is locked meanwhile: a second `make submit` waits, and then finds these jobs.
        cluster: where the runs are submitted.
        options: of the command line.

    Raises:
        SlurmError: the scheduler does not answer; nothing was submitted after that.
        ConfigError: RESOURCES= is wrong, or no job can write a log below `outputs`.
        PeftableError: a file that a run needs is missing, and a person named its job.
    """
    profiles.for_job(cluster.profile, None, options.resources, gpu=True)  # an error of all runs is raised once
    profiles.check_cache(cluster.profile)
    if cluster.profile.executor == SLURM:
        batch_script.check_log_path(outputs.resolve())
    outcomes = [Outcome(one.name, Action.SKIPPED, detail=one.reason) for one in skipped]
    with lock(outputs / ".submit.lock"):
        active = {**_jobs_elsewhere(specs, cluster.profile.executor, outputs), **cluster.scheduler.jobs()}
        code_snapshot.remove_unneeded(outputs, run_index.code_in_use(outputs, active, cluster.profile.executor))
        submitter = _Submitter(outputs, cluster, options, active)
        try:
            for spec in specs:
                outcomes.append(submitter.submit(spec))
            if options.of_all_jobs:
                outcomes += submitter.submit_report(specs, outcomes)
        except SlurmError as error:
            count = sum(one.action in (Action.SUBMITTED, Action.RESUMED) for one in outcomes)
            raise SlurmError(f"{count} runs were submitted; the rest was not tried. {error}") from error
        finally:
            if any(one.job_id for one in outcomes):
                cluster.scheduler.start()
    return outcomes


def _jobs_elsewhere(specs: Sequence[RunSpec], executor: str, outputs: Path) -> dict[str, ActiveJob]:
    """Return the other scheduler's jobs when an unfinished run was last submitted to it, where it may be active."""
    last = (read(spec.folder) for spec in specs if not run_folder.is_finished(spec.folder))
    if {submission.executor for submission in last if submission} <= {executor}:
        return {}
    try:
        return scheduler_of(LOCAL if executor == SLURM else SLURM, outputs).jobs()
    except SlurmError as error:
        if error.is_absent:  # the folder was copied from a cluster to a machine outside it
            return {}
        raise


class _Submitter:
    """Submits runs one by one, under the lock of their outputs folder.

    Args:
        outputs: the outputs folder.
        cluster: where runs are submitted.
        options: of the command line.
        active: all jobs that wait or run, by name.
    """

    def __init__(self, outputs: Path, cluster: Cluster, options: Options, active: dict[str, ActiveJob]) -> None:
        self.outputs, self.cluster, self.options, self.active = outputs, cluster, options, active
        self.fingerprints = Fingerprints()
        self.code = code_snapshot.keep_code(outputs)

    def name(self, spec: RunSpec) -> str:
        """Return a run's name."""
        return str(spec.folder.relative_to(self.outputs))

    def submit(self, spec: RunSpec) -> Outcome:
        """Submit one run, or return why not; an error of one run stops no other, but a silent Slurm stops all."""
        name = self.name(spec)
        try:
            if not run_folder.is_finished(spec.folder):
                _check_files(spec)
            config = self.fingerprints.config(spec)
        except PeftableError as error:
            if not self.options.of_all_jobs:
                raise
            return Outcome(name, Action.SKIPPED, detail=str(error))
        try:
            changes = _changes(spec.folder, config)
            force = self.options.starts_over(changes or ())
            return self._reason_not_to(spec, name, changes, force) or self._submit(spec, name, config, force)
        except SlurmError:
            raise
        except PeftableError as error:
            return Outcome(name, Action.REFUSED, detail=str(error))

    def _reason_not_to(self, spec: RunSpec, name: str, changes: list[str] | None, force: bool) -> Outcome | None:
        """Return the outcome of a run that must not be submitted, None where it must.

        Args:
            spec: the run.
            name: of the run.
            changes: differences of its recorded config, None where it was never created.
            force: whether it is to be started over.
        """
        folder = spec.folder
        if changes == [] and not force and run_folder.is_finished(folder):
            return Outcome(name, Action.FINISHED)  # although its job may still be ending
        if job := self.active.get(job_name(folder)):
            return _outcome_of_active(folder, name, job, changes or [], force)
        last = read(folder)
        if last and (job := self.active.get(last.name)):
            detail = "it was submitted under another path, and its job is active; cancel it there"
            return Outcome(name, Action.REFUSED, job.id, detail)
        if changes and not force:
            return Outcome(name, Action.CHANGED, detail="FORCE=1 starts over" + _listed(changes))
        # Only a process that a person started: `active` says of all others whether they run.
        holder = run_lock.read(folder)
        if holder and not holder.submission and (holder := run_lock.running_holder(folder)):
            return Outcome(name, Action.RUNNING, detail=f"not as a job. {run_lock.held_message(folder, holder)}")
        return None

    def _submit(self, spec: RunSpec, name: str, config: RunConfig, force: bool) -> Outcome:
        """Submit a run that is neither finished nor active."""
        folder, job = spec.folder, spec.job
        resources = job.resources if job else None
        request = profiles.for_job(self.cluster.profile, resources, self.options.resources, gpu=job is not None)
        try:
            profiles.check_card(request, job)
        except ConfigError as error:
            return Outcome(name, Action.REFUSED, detail=str(error))
        if force:
            run_folder.archive_run(folder)
        run_folder.create_run(folder, config, spec.command)
        command = ["train" if spec.verb == "train" else "baseline", "--run", str(folder.resolve())]
        try:
            _, job_id = submit_job(folder, command, self.cluster, request, self.code)
        except SlurmError as error:
            if error.is_silent:
                raise
            return Outcome(name, Action.REFUSED, detail=str(error))
        # A full disk may cost owner.json, but not the log.
        has_run = (folder / run_lock.FILE).exists() or (folder / run_folder.LOG).exists()
        return Outcome(name, Action.RESUMED if has_run else Action.SUBMITTED, job_id)

    def submit_report(self, specs: Sequence[RunSpec], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Submit a job that makes the report when all runs have ended; replace a waiting one that knows fewer runs."""
        scheduler, profile, folder = self.cluster.scheduler, self.cluster.profile, self.outputs / COLLECT
        is_local = profile.executor == LOCAL
        ids = [one.job_id for one in outcomes if one.job_id and one.job_id.startswith(local_queue.ID) == is_local]
        if not ids:
            return []
        skipped = {one.name for one in outcomes if one.action is Action.SKIPPED}
        names = [name for name in map(self.name, specs) if name not in skipped]
        expected = folder / "expected.json"
        waiting = self.active.get(job_name(folder))
        if waiting is not None and not waiting.is_running:
            known = _Expected(runs=[], after=[]) | read_fields(expected, _Expected)
            if set(ids) <= set(known["after"]):
                return [Outcome("collect", Action.QUEUED, waiting.id, _reason(waiting))]
            # The new job waits also for the runs that this one waited for.
            names = list(dict.fromkeys([*known["runs"], *names]))
            others = (self.active.get(job_name(self.outputs / name)) for name in known["runs"])
            ids = list(dict.fromkeys([*ids, *(job.id for job in others if job is not None)]))
            try:
                scheduler.cancel([waiting.id])
            except SlurmError as error:
                return [Outcome("collect", Action.REFUSED, waiting.id, str(error))]
        files.write_json(expected, {"schema": SCHEMA, "runs": names, "after": ids})
        command = ["collect", "--outputs", str(self.outputs.resolve()), "--expect", str(expected.resolve())]
        command += ["--here"]  # `make report` would write into the README of somebody's working copy
        request = profiles.for_job(profile, None, {}, gpu=False)
        try:
            _, job_id = submit_job(folder, command, self.cluster, request, self.code, after=tuple(ids))
        except SlurmError as error:
            return [Outcome("collect", Action.REFUSED, detail=str(error))]
        return [Outcome("collect", Action.SUBMITTED, job_id, f"after {len(ids)} jobs")]


def _changes(folder: Path, config: RunConfig) -> list[str] | None:
    """Return how a run's recorded config differs from the current one, None where the run was never created."""
    if not (folder / run_folder.CONFIG).exists():
        return None
    return differences(run_folder.load_run_config(folder), config)


def _check_files(spec: RunSpec) -> None:
    """Raise a `ConfigError` where a job could not start offline: its model or its rows are not on this machine."""
    if spec.job is not None:
        reason = presence.find_missing(spec.job, spec.dataset, spec.data_dir, spec.fetch)
        if reason is not None:
            raise ConfigError(reason)


def _outcome_of_active(folder: Path, name: str, job: ActiveJob, changes: Sequence[str], force: bool) -> Outcome:
    """Return the outcome of a run whose job is active; record the job's id where its submission could not."""
    reconcile(folder, job)
    last = read(folder)
    if job.state == JobState.COMPLETING or (last and last.state is SubmissionState.CANCELLED):
        return Outcome(name, Action.ENDING, job.id, "its job is just ending; type this again in a minute")
    action = Action.RUNNING if job.is_running else Action.QUEUED
    if changes or force:
        return Outcome(name, Action.REFUSED, job.id, f"it is {action}; make cancel first" + _listed(changes))
    return Outcome(name, action, job.id, _reason(job))


def _reason(job: ActiveJob) -> str:
    """Return why a job waits, without what `Scheduler.start` will end."""
    return "" if job.reason == local_queue.NO_WORKER else job.reason


def _listed(changes: Sequence[str]) -> str:
    return "".join(f"\n  {change}" for change in changes)
