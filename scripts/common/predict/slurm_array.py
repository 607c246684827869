"""A planned prediction on a cluster: an array of tasks that share the shards, then a job that merges the parts.

Loading a large model takes minutes, so the array has at most `array_limit` tasks, and each scores its share of the
shards in one process. The same command again submits the unfinished shards, unless their array is queued or running.
"""

import hashlib
from pathlib import Path
from typing import Any

from common.cli import options
from common.cluster import profiles, submit_one, submit_record
from common.cluster.scheduler import SLURM, Cluster, scheduler_of
from common.cluster.slurm_commands import ActiveJob
from common.cluster.submit_record import SubmissionState
from common.config.job import Job
from common.core import files
from common.core.errors import ConfigError, RunError, SlurmError
from common.core.locks import lock
from common.hub import locate, presence
from common.predict import shards
from common.predict.plan import Plan
from common.runs import code_snapshot, run_folder
from common.runs.run_config import job_of


def submit(plan: Plan, outputs: Path, cluster: Cluster, given: dict[str, Any]) -> str:
    """Submit the unfinished shards and the merge, and return a line that says so; the caller holds the `plan_lock`.

    Args:
        plan: of the prediction.
        outputs: the folder that records where the plan is, for `make status`, `logs` and `cancel`.
        cluster: where it is submitted.
        given: RESOURCES= of the command line.

    Raises:
        ConfigError: the base model is not on this machine; nothing was submitted.
        RunError: its jobs were cancelled and have not ended yet.
        SlurmError: Slurm refuses, or does not answer; the next submission finds what was submitted before.
    """
    profiles.check_cache(cluster.profile)
    merge, place = plan.folder / submit_record.MERGE, options.shown(plan.folder)
    active = cluster.scheduler.jobs()
    remember(outputs, plan.folder)
    left = shards.unfinished(plan)
    progress = f"{plan.shards - len(left)} of {plan.shards} shards are finished"
    array, last = active.get(submit_record.job_name(plan.folder)), active.get(submit_record.job_name(merge))
    for folder, active_job in ((plan.folder, array), (merge, last)):
        if active_job is not None:
            submit_one.reconcile(folder, active_job)
            submission = submit_record.read(folder)
            if submission and submission.state is SubmissionState.CANCELLED:
                raise RunError(f"{place}: job {active_job.whole_id} is ending; repeat the command in a minute.")
    if last is not None:
        shown = array or last
        return f"{place}: {progress}, job {shown.whole_id} is {'running' if shown.is_running else 'queued'}."
    with lock(outputs / ".submit.lock"):  # `make submit` removes copies of the code that no submission names
        return _submit_unfinished(plan, left, array, code_snapshot.keep_code(outputs), cluster, given)


def _submit_unfinished(
    plan: Plan, left: list[int], array: ActiveJob | None, code: Path, cluster: Cluster, given: dict[str, Any]
) -> str:
    """Submit the shards that are left, unless their array is active, and the merge after them; see `submit`."""
    progress = f"{plan.shards - len(left)} of {plan.shards} shards are finished"
    doing, after = "the merge", tuple[str, ...]()
    if array is not None:  # its submission was interrupted before the merge
        doing, after = f"the merge after job {array.whole_id}", (array.whole_id,)
    elif left:
        job = job_of(run_folder.load_run_config(plan.folder))
        _check_base(plan, job)
        request = profiles.for_job(cluster.profile, job.resources, given, gpu=True)
        tasks = min(len(left), request.array_limit)
        _, *words = shards.shard_command(plan.folder, *left)
        command = ["predict", *words, "--worker", "$SLURM_ARRAY_TASK_ID", str(tasks)]
        _, job_id = submit_one.submit_job(plan.folder, command, cluster, request, code, array=tuple(range(tasks)))
        doing, after = f"{len(left)} shards in {tasks} tasks as job {job_id}, then the merge", (job_id,)
    command = ["predict", *shards.merge_command(plan.folder)[1:]]
    request = profiles.for_job(cluster.profile, None, {}, gpu=False)
    _, job_id = submit_one.submit_job(plan.folder / submit_record.MERGE, command, cluster, request, code, after=after)
    place = options.shown(plan.folder)
    return f"{place}: {progress}; submitted {doing} as job {job_id}. make status shows their state."


def _check_base(plan: Plan, job: Job) -> None:
    """Raise a `ConfigError` when the tasks could not load the base model offline."""
    if job.method.name == "full" and not plan.adapter:
        return  # the saved model is a whole one
    saved = plan.model / locate.SAVED
    commit = files.read_json(saved)["model_commit"] if saved.is_file() and not plan.adapter else None
    base = locate.locate(job.model, commit or job.revision)
    if fault := presence.find_missing_model(base):
        advice = f" Where there is internet: {locate.fetch_command(base)}." if base.revision else ""
        raise ConfigError(f"{fault}{advice}")


def check_not_submitted(folder: Path) -> None:
    """Raise a `RunError` when a plan that is to be replaced has jobs, a `SlurmError` when Slurm does not answer."""
    submission = submit_record.read(folder)
    if submission is None or submission.executor != SLURM:
        return
    try:
        active = scheduler_of(SLURM, folder).jobs()
    except SlurmError as error:
        if error.is_absent:  # the folder was copied from a cluster to a machine outside it
            return
        raise
    for place in (folder, folder / submit_record.MERGE):
        if job := active.get(submit_record.job_name(place)):
            state = "running" if job.is_running else "queued"
            advice = "cancel it first: make cancel (or scancel)."
            raise RunError(f"{options.shown(folder)}: it is {state} as job {job.whole_id}; {advice}")


def remember(outputs: Path, folder: Path) -> None:
    """Record in an outputs folder where a plan is."""
    mark = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    files.write_json(outputs / submit_record.PREDICTIONS / f"{mark}.json", {"schema": 1, "folder": str(folder)})
