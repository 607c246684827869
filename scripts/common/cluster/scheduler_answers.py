"""Ask the schedulers about runs: which jobs are active, and how others ended.

answers = ask_schedulers(run_index.find(outputs), outputs)
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from common.cluster import submit_record
from common.cluster.run_index import RunEntry
from common.cluster.scheduler import scheduler_of
from common.cluster.slurm_commands import ActiveJob, EndedJob
from common.cluster.submit_record import Submission
from common.core.errors import SlurmError


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the schedulers know of some runs.

    Attributes:
        active, ended: the runs' jobs by the name of the run.
        notes: why a scheduler, or its accounting, does not answer.
        silent: executors that do not answer.
    """

    active: dict[str, ActiveJob]
    ended: dict[str, EndedJob]
    notes: tuple[str, ...] = ()
    silent: frozenset[str] = frozenset()


def ask_schedulers(entries: Sequence[RunEntry], outputs: Path) -> Answers:
    """Ask the scheduler of each unfinished run, once for all its runs: which jobs are active, and how others ended."""
    submitted = {entry.name: entry.submission for entry in entries if entry.is_open and entry.submission}
    paths = {entry.name: entry.path for entry in entries}
    active: dict[str, ActiveJob] = {}
    ended: dict[str, EndedJob] = {}
    notes, silent = [], set()
    for executor in sorted({submission.executor for submission in submitted.values()}):
        scheduler = scheduler_of(executor, outputs)
        theirs = {name: submission for name, submission in submitted.items() if submission.executor == executor}
        # The name that belongs to the folder, not the recorded one: a copy of a run folder has no jobs.
        job_names = {name: submit_record.job_name(paths[name]) for name in theirs}
        try:
            jobs = scheduler.jobs()
        except SlurmError as error:
            notes.append(f"Slurm does not answer, so this is what the folders say. {error}")
            silent.add(executor)
            continue
        active |= {name: jobs[job_name] for name, job_name in job_names.items() if job_name in jobs}
        # Some tasks of an active array may have ended.
        gone = {name: one for name, one in theirs.items() if name not in active or "_" in active[name].id}
        ids = [submission.job_id for submission in gone.values() if submission.job_id]
        try:
            known = scheduler.ended(ids, min((one.time for one in gone.values()), default=""))
        except SlurmError as error:
            notes.append(f"accounting does not answer, so reasons may be missing. {error}")
            continue
        ended |= _ended_jobs(gone, theirs, job_names, known)
    return Answers(active, ended, tuple(notes), frozenset(silent))


def _ended_jobs(
    gone: dict[str, Submission],
    submitted: dict[str, Submission],
    job_names: dict[str, str],
    known: dict[str, EndedJob],
) -> dict[str, EndedJob]:
    """Return the ended jobs by the name of their run.

    A controller that has lost its state gives an id out again: the job is that of the run whose name it has and, while
    accounting does not know the name, that of the run to which the id was given last.
    """
    newest = {submitted[name].job_id: name for name in sorted(submitted, key=lambda name: submitted[name].time)}
    found = {}
    for name, submission in gone.items():
        job = known.get(submission.job_id or "")
        if job and (job.name == job_names[name] or (not job.name and newest[submission.job_id] == name)):
            found[name] = job
    return found
