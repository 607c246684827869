"""Runs are handed over to a cluster once each, whatever happens meanwhile: a kill, a second submission, no controller.

For every run: a frozen config, an intent (`submit.json`) before sbatch, the job's id after it. Whether a run lives is
what the scheduler says of its name, asked once; where it does not answer, nothing is submitted.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cluster import batch_script, local_queue, profiles
from common.cluster.scheduler import Chosen, LocalScheduler, SlurmScheduler
from common.cluster.selection import Fingerprints, RunSpec, Skipped
from common.cluster.slurm_commands import LiveJob
from common.cluster.submit_one import reconcile, submit_job
from common.cluster.submit_record import COLLECT, SCHEMA, job_name, read
from common.core import files
from common.core.errors import ConfigError, PeftableError, SlurmError
from common.core.locks import lock
from common.hub import download
from common.runs import run_folder, run_lock
from common.runs.run_config import RunConfig, differences


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was done about one run.

    Attributes:
        name: of the run, for a person.
        action: submitted, resumed, finished, queued, running, ending, changed, refused, left out.
        job_id: of its live job, "" where it has none.
        detail: why, or what differs.
    """

    name: str
    action: str
    job_id: str = ""
    detail: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether a person has to do something."""
        return self.action in ("changed", "refused", "ending")


@dataclasses.dataclass(frozen=True)
class _Force:
    """FORCE=1: what somebody names is started over; of a whole scope, only what has changed."""

    given: bool
    is_scope: bool

    def counts_for(self, changes: Sequence[str]) -> bool:
        return self.given and (bool(changes) or not self.is_scope)


def submit_runs(
    members: Sequence[RunSpec],
    left_out: Sequence[Skipped],
    outputs: Path,
    cluster: Chosen,
    given: dict[str, Any],
    force: bool = False,
    is_scope: bool = False,
) -> list[Outcome]:
    """Bring every run under way that is not there, alive or impossible.

    Args:
        members: the runs, in order.
        left_out: jobs that are no runs; they are listed.
        outputs: the folder that is locked meanwhile: a second submission waits, and then finds ours.
        cluster: name, profile and scheduler.
        given: RESOURCES= of the command line.
        force: start changed runs over; of runs that somebody named, finished ones, too.
        is_scope: a whole scope, not runs that somebody named: one whose model or rows are missing is left out, which
            else is an error, and a last job makes the report.

    Raises:
        SlurmError: the scheduler does not answer; nothing was submitted since.
        ConfigError: RESOURCES= is wrong, or no job can write a log below `outputs`.
        PeftableError: what a run needs is missing, and `is_scope` is off.
    """
    scheduler = cluster[2]
    profiles.for_job(cluster[1], None, given, gpu=True)  # what is wrong for all is said once
    profiles.check_cache(cluster[1])
    if cluster[1].executor == "slurm":
        batch_script.check_log_path(outputs.resolve())
    found = [Outcome(one.name, "left out", detail=one.reason) for one in left_out]
    with lock(outputs / ".submit.lock"):
        live = {**_elsewhere(members, cluster[1].executor, outputs), **scheduler.jobs()}
        fingerprints = Fingerprints()
        try:
            for wanted in members:
                found.append(_look_after(wanted, outputs, fingerprints, live, cluster, given, _Force(force, is_scope)))
            if is_scope:
                found += _collect(outputs, members, found, live, cluster)
        except SlurmError as error:
            raise SlurmError(f"{_counts(found)}; the rest was not tried. {error}") from error
        finally:
            if any(one.job_id for one in found):
                scheduler.start()
    return found


def _look_after(
    wanted: RunSpec,
    outputs: Path,
    fingerprints: Fingerprints,
    live: dict[str, LiveJob],
    cluster: Chosen,
    given: dict[str, Any],
    forced: _Force,
) -> Outcome:
    """Submit one run, or say why not; what is wrong with one keeps no other back, but a silent Slurm does."""
    name = str(wanted.folder.relative_to(outputs))
    try:
        if not run_folder.is_finished(wanted.folder):
            _check_files(wanted)
        config = wanted.configure(fingerprints.of(wanted))
    except PeftableError as error:
        if not forced.is_scope:
            raise
        return Outcome(name, "left out", detail=str(error))
    try:
        return _submit(wanted, name, config, live, cluster, given, forced)
    except SlurmError:
        raise
    except PeftableError as error:
        return Outcome(name, "refused", detail=str(error))


def _collect(
    outputs: Path,
    members: Sequence[RunSpec],
    found: Sequence[Outcome],
    live: dict[str, LiveJob],
    cluster: Chosen,
) -> list[Outcome]:
    """Have a job without a GPU make the report when all runs have ended; a waiting one that knows fewer is replaced."""
    cluster_name, profile, scheduler = cluster
    folder = outputs / COLLECT
    is_local = profile.executor == "local"
    ids = [one.job_id for one in found if one.job_id and one.job_id.startswith(local_queue.ID) == is_local]
    if not ids:
        return []
    expected = folder / "expected.json"
    left_out = {one.name for one in found if one.action == "left out"}
    names = [str(wanted.folder.relative_to(outputs)) for wanted in members]
    names = [name for name in names if name not in left_out]
    waiting = live.get(job_name(folder))
    if waiting is not None and not waiting.is_running:
        known = {"runs": [], "after": []} | (files.read_json(expected) if expected.exists() else {})
        if set(ids) <= set(known["after"]):
            return [Outcome("collect", "queued", waiting.id, waiting.reason)]
        # The next one waits for what this one did, too.
        names = list(dict.fromkeys([*known["runs"], *names]))
        others = (live.get(job_name(outputs / name)) for name in known["runs"])
        ids = list(dict.fromkeys([*ids, *(job.id for job in others if job is not None)]))
        try:
            scheduler.cancel([waiting.id])
        except SlurmError as error:
            return [Outcome("collect", "refused", waiting.id, str(error))]
    files.write_json(expected, {"schema": SCHEMA, "runs": names, "after": ids})
    command = ["collect", "--outputs", str(outputs.resolve()), "--expect", str(expected.resolve())]
    command += ["--here"]  # `make report` writes into the README, which is somebody's working copy
    request = profiles.for_job(profile, None, {}, gpu=False)
    try:
        _, job_id = submit_job(folder, command, cluster_name, request, scheduler, after=tuple(ids))
    except SlurmError as error:
        return [Outcome("collect", "refused", detail=str(error))]
    return [Outcome("collect", "submitted", job_id, f"after {len(ids)} jobs")]


def _elsewhere(members: Sequence[RunSpec], executor: str, outputs: Path) -> dict[str, LiveJob]:
    """Return the other scheduler's jobs where an unfinished run was last given to it: it may live there."""
    unfinished = (wanted.folder for wanted in members if not run_folder.is_finished(wanted.folder))
    if {read(folder).get("executor") for folder in unfinished} <= {None, executor}:
        return {}
    try:
        return LocalScheduler(outputs).jobs() if executor == "slurm" else SlurmScheduler().jobs()
    except SlurmError as error:
        if error.is_absent:  # the folder has come from a cluster to a machine outside it
            return {}
        raise


def _check_files(wanted: RunSpec) -> None:
    """Raise a `ConfigError` where a job could not start offline: its model or its rows are not on this machine."""
    if wanted.job is not None:
        reason = download.missing(wanted.job, wanted.dataset, wanted.data_dir, wanted.fetch)
        if reason is not None:
            raise ConfigError(reason)


def _submit(
    wanted: RunSpec,
    name: str,
    config: RunConfig,
    jobs: dict[str, LiveJob],
    cluster: Chosen,
    given: dict[str, Any],
    forced: _Force,
) -> Outcome:
    folder, (cluster_name, profile, scheduler) = wanted.folder, cluster
    is_there = (folder / run_folder.CONFIG).exists()
    changes = differences(run_folder.load_run_config(folder), config) if is_there else []
    force = forced.counts_for(changes)
    if is_there and not changes and not force and run_folder.is_finished(folder):
        return Outcome(name, "finished")  # although its job may be ending still
    if live := jobs.get(job_name(folder)):
        return _left_alone(folder, name, live, changes, force)
    if elsewhere := jobs.get(str(read(folder).get("name"))):
        return Outcome(name, "refused", elsewhere.id, "it was submitted under another path, and lives; cancel it there")
    if changes and not force:
        return Outcome(name, "changed", detail="FORCE=1 starts over" + _listed(changes))
    if not run_lock.read(folder).get("submission") and (owner := run_lock.live_holder(folder)):
        return Outcome(name, "running", detail=f"by hand. {run_lock.held_message(folder, owner)}")
    request = profiles.for_job(profile, wanted.job.resources if wanted.job else None, given, wanted.job is not None)
    if force:
        run_folder.archive_run(folder)
    run_folder.create_run(folder, config, wanted.command)
    command = ["train" if wanted.verb == "train" else "baseline", "--run", str(folder.resolve())]
    try:
        _, job_id = submit_job(folder, command, cluster_name, request, scheduler)
    except SlurmError as error:
        if error.is_silent:
            raise
        return Outcome(name, "refused", detail=str(error))
    # A full disk costs owner.json, but not the log.
    has_begun = (folder / run_lock.FILE).exists() or (folder / run_folder.LOG).exists()
    return Outcome(name, "resumed" if has_begun else "submitted", job_id)


def _left_alone(folder: Path, name: str, live: LiveJob, changes: Sequence[str], force: bool) -> Outcome:
    reconcile(folder, live)
    if live.state == "COMPLETING" or read(folder).get("state") == "cancelled":
        return Outcome(name, "ending", live.id, "its job is just ending; type this again in a minute")
    word = "running" if live.is_running else "queued"
    if changes or force:
        return Outcome(name, "refused", live.id, f"it is {word}; make cancel first" + _listed(changes))
    return Outcome(name, word, live.id, live.reason)


def _counts(found: Sequence[Outcome]) -> str:
    return f"{sum(one.action in ('submitted', 'resumed') for one in found)} runs were submitted"


def _listed(changes: Sequence[str]) -> str:
    return "".join(f"\n  {change}" for change in changes)
