"""Cancel the active jobs of runs: one that works on its run is asked to save first, all others are ended."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.cluster import submit_record
from common.cluster.run_index import RunEntry
from common.cluster.scheduler import scheduler_of
from common.cluster.slurm_commands import ActiveJob, JobState
from common.cluster.submit_record import SubmissionState


@dataclasses.dataclass(frozen=True)
class Cancelled:
    """A run whose job was cancelled, and whether the job still saves a checkpoint before it ends."""

    name: str
    job_id: str
    is_saving: bool


def cancel_runs(entries: Sequence[RunEntry], active: Mapping[str, ActiveJob], outputs: Path) -> list[Cancelled]:
    """Cancel the jobs of runs, and record that in each run's `submit.json`.

    Args:
        entries: the runs.
        active: jobs that wait or run, by the name of the run.
        outputs: the outputs folder.
    """
    found = [(entry, entry.submission, active[entry.name]) for entry in entries if entry.name in active]
    working, others = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)  # job ids by executor
    for entry, submission, job in found:
        if submission is not None:  # only submitted runs have jobs
            (working if _can_save(entry, job) else others)[submission.executor].append(job.whole_id)
    # Waiting jobs first: otherwise one of them would start as soon as a running one has ended.
    for executor, ids in others.items():
        scheduler_of(executor, outputs).cancel(ids)
    saving = {job_id for executor, ids in working.items() for job_id in scheduler_of(executor, outputs).stop(ids)}
    for entry, _, job in found:
        submit_record.record_cancelled(entry.path, job.whole_id)
    return [Cancelled(entry.name, job.whole_id, job.whole_id in saving) for entry, _, job in found]


def _can_save(entry: RunEntry, job: ActiveJob) -> bool:
    """Return whether a job works on its run, and was not asked to end before."""
    is_cancelled = entry.submission is not None and entry.submission.state is SubmissionState.CANCELLED
    return job.state == JobState.RUNNING and entry.holder is not None and not is_cancelled
