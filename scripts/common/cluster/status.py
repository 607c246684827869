"""What has become of every run: from its folder first, then from the scheduler; useful also when that does not answer.

States: finished, running, scoring, queued, requeued, failed, out of memory, time limit, cancelled, node lost,
pre-empted, refused, interrupted, ended, created; a `?` behind one says that the scheduler could not be asked.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from common.cluster import local_queue, run_index, slurm_commands, submit_record
from common.cluster.run_index import Folder
from common.cluster.slurm_commands import LiveJob, PastJob
from common.core.errors import SlurmError
from common.runs import run_lock

_SHOWN_TASKS = 8
_PAST = {
    "OUT_OF_MEMORY": "out of memory",
    "TIMEOUT": "time limit",
    "CANCELLED": "cancelled",
    "NODE_FAIL": "node lost",
    "PREEMPTED": "pre-empted",
    "BOOT_FAIL": "node lost",
    "DEADLINE": "time limit",
}


@dataclasses.dataclass(frozen=True)
class Status:
    """One line of the table; an empty text or None is unknown.

    Attributes:
        state: see the module.
        message: what went wrong, with the log where there is one.
        eta_s: seconds to the end of what it does now.
    """

    name: str
    state: str
    job_id: str = ""
    node: str = ""
    elapsed: str = ""
    limit: str = ""
    done: int | None = None
    total: int | None = None
    loss: float | None = None
    examples_per_s: float | None = None
    eta_s: float | None = None
    attempts: int | None = None
    message: str = ""


def status(folder: Folder, live: LiveJob | None, past: PastJob | None, unasked: bool) -> Status:
    """Put together what is known of a run.

    Args:
        folder: what it says itself.
        live: its job that waits or runs.
        past: what accounting says of its last job.
        unasked: the scheduler was asked and has not answered.
    """
    state, message = _state(folder, live, past, unasked)
    is_moving = state.rstrip("?") in ("running", "scoring")
    progress = folder.progress
    per_s, done, total = (progress.get(key) for key in ("per_s", "done", "total"))
    node = live.node if live else past.node if past else ""
    return Status(
        name=folder.name,
        state=state,
        job_id=live.whole_id if live else str(folder.submit.get("job_id") or ""),
        node=node or (str(folder.owner.get("host", "")) if is_moving else ""),
        elapsed=live.elapsed if live else "",
        limit=live.limit if live else "",
        done=done,
        total=total,
        loss=progress.get("loss"),
        examples_per_s=progress.get("examples_per_s") if is_moving else None,
        eta_s=(total - done) / per_s if is_moving and per_s and total is not None else None,
        attempts=folder.owner.get("attempt"),
        message=message,
    )


def _state(folder: Folder, live: LiveJob | None, past: PastJob | None, unasked: bool) -> tuple[str, str]:
    """Return state and message."""
    if folder.is_finished:
        return "finished", ""
    works = "scoring" if folder.is_trained else "running"
    failed = _failed_tasks(folder, past)
    if live is not None:
        if live.is_running:
            return works, failed
        return ("requeued" if folder.owner else "queued"), ": ".join(part for part in (live.reason, failed) if part)
    if run_lock.may_live(folder.owner) and (not folder.owner.get("submission") or unasked):
        return works + ("?" if unasked else ""), ""
    if folder.submit.get("state") == "rejected":
        return "refused", str(folder.submit["error"])
    if unasked and folder.is_open:
        return ("cancelled?" if folder.submit["state"] == "cancelled" else "queued?"), ""
    if past is not None and past.state == "COMPLETED" and folder.name == submit_record.COLLECT:
        return "finished", ""  # it has no metrics of its own
    said = failed or _said(folder)
    if past is not None and past.state in _PAST:
        return _PAST[past.state], said
    if folder.submit.get("state") == "cancelled":
        return "cancelled", said
    if folder.failure.get("interrupted"):
        return "interrupted", said
    if folder.failure or (past is not None and past.state == "FAILED"):
        code = f"exit code {past.exit_code}: " if past is not None and not folder.failure and not failed else ""
        return "failed", code + said
    if folder.submit or folder.owner:
        return "ended", said or "without metrics and without a word"
    return "created", ""


def _said(folder: Folder) -> str:
    """Return what a run said last: its recorded failure, else the last line of its log; and where the log is."""
    log = submit_record.newest_log(folder.path)
    if log and folder.submit and log.parent.name != str(folder.submit["number"]):
        log = None  # of an earlier submission: this one has written none
    if folder.failure and str(folder.failure.get("time", "")) >= str(folder.submit.get("time", "")):
        said = str(folder.failure["error"])
    else:
        said = next(iter(submit_record.last_lines(log, 1)), "") if log else ""
    return said + (f"\n  log: {log}" if log else "")


def _failed_tasks(folder: Folder, past: PastJob | None) -> str:
    """Return which tasks of an array have not ended well, with the last line and the place of each one's log."""
    if past is None or not past.failed:
        return ""
    lines = [f"{len(past.failed)} of the array's tasks {'has' if len(past.failed) == 1 else 'have'} not ended well"]
    for task in past.failed[:_SHOWN_TASKS]:
        state = _PAST.get(task.state, f"failed, exit code {task.exit_code}")
        log = submit_record.task_log(folder.path, task.id)
        said = next(iter(submit_record.last_lines(log, 1)), "") if log else ""
        lines += ["  " + ": ".join(part for part in (f"task {task.id.partition('_')[2]}", state, said) if part)]
        lines += [f"  log: {log}"] if log else []
    if (left := len(past.failed) - _SHOWN_TASKS) > 0:
        lines.append(f"  and {left} more")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the schedulers said: jobs by run name, and why one of them could not be asked."""

    live: dict[str, LiveJob]
    past: dict[str, PastJob]
    notes: tuple[str, ...] = ()
    unasked: frozenset[str] = frozenset()  # executors


def ask(folders: Sequence[Folder], outputs: Path) -> Answers:
    """Ask each scheduler that was given an unfinished run, once: what lives, then what accounting remembers."""
    asked = [folder for folder in folders if folder.is_open]
    executors = {str(folder.submit.get("executor")) for folder in asked}
    jobs: dict[str, LiveJob] = {}
    notes, unasked = [], set()
    if "local" in executors:
        jobs |= {job.name: job for job in local_queue.jobs(local_queue.folder_of(outputs))}
    if "slurm" in executors:
        try:
            jobs |= slurm_commands.by_name(slurm_commands.queue())
        except SlurmError as error:
            notes.append(f"Slurm does not answer, so this is what the folders say. {error}")
            unasked.add("slurm")
    # The name of this folder, not the one that was written down: a copy of it has no jobs.
    live = {folder.name: jobs[name] for folder in asked if (name := submit_record.job_name(folder.path)) in jobs}
    # Of an array that lives, some tasks may be over.
    gone = [
        folder
        for folder in asked
        if folder.submit["executor"] == "slurm" and (folder.name not in live or "_" in live[folder.name].id)
    ]
    past: dict[str, PastJob] = {}
    if gone and not unasked:
        try:
            ids = [str(folder.submit["job_id"]) for folder in gone if folder.submit.get("job_id")]
            known = slurm_commands.accounting(ids, min(str(folder.submit["time"]) for folder in gone)) if ids else {}
        except SlurmError as error:
            notes.append(f"accounting does not answer, so reasons may be missing. {error}")
        else:
            # A controller that lost its state gives an id out again: the job is the run's whose name it has and,
            # while accounting does not know the name, the run's that was given the id last.
            newest = {folder.submit.get("job_id"): folder for folder in sorted(asked, key=_submitted)}
            for folder in gone:
                job = known.get(str(number := folder.submit.get("job_id")))
                if job and (
                    job.name == submit_record.job_name(folder.path) or (not job.name and folder is newest[number])
                ):
                    past[folder.name] = job
    return Answers(live, past, tuple(notes), frozenset(unasked))


def _submitted(folder: Folder) -> str:
    return str(folder.submit["time"])


def statuses(folders: Sequence[Folder], answers: Answers) -> list[Status]:
    """Return a line a run."""
    return [
        status(
            # It may have ended between the look at its folder and the one at the queue.
            run_index.read(folder.path, folder.name) if folder.is_open and folder.name not in answers.live else folder,
            answers.live.get(folder.name),
            answers.past.get(folder.name),
            folder.submit.get("executor") in answers.unasked,
        )
        for folder in folders
    ]
