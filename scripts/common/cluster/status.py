"""Decide the state of every run, of Slurm or of this machine: from its folder first, then from its scheduler."""

import dataclasses
import enum
from collections.abc import Sequence
from pathlib import Path

from common.cluster import run_index, submit_record
from common.cluster.run_index import RunEntry
from common.cluster.scheduler_answers import Answers
from common.cluster.slurm_commands import ActiveJob, EndedJob, JobState
from common.cluster.submit_record import SubmissionState
from common.core.errors import Interrupted
from common.core.progress import is_progress_line
from common.runs import run_lock
from common.runs.documents import Failure
from common.runs.run_lock import Holder


class RunState(enum.StrEnum):
    """The state of a run, as `make status` prints it."""

    FINISHED = "finished"  # it has metrics
    RUNNING = "running"
    SCORING = "scoring"  # it runs, and training has ended
    QUEUED = "queued"
    REQUEUED = "requeued"  # it waits, and has run before
    HELD = "held"  # it waits until a person releases it
    FAILED = "failed"
    OUT_OF_MEMORY = "out of memory"
    TIME_LIMIT = "time limit"
    CANCELLED = "cancelled"
    NODE_LOST = "node lost"
    PREEMPTED = "pre-empted"
    DAMAGED = "damaged"  # a file of the run folder cannot be read
    REFUSED = "refused"  # the scheduler rejected it
    INTERRUPTED = "interrupted"  # by a signal
    ENDED = "ended"  # without metrics, for an unknown reason
    CREATED = "created"  # it has never run


_SHOWN_TASKS = 8
_TAIL = 50  # lines of a log
_ENDED_STATES = {
    JobState.OUT_OF_MEMORY: RunState.OUT_OF_MEMORY,
    JobState.TIMEOUT: RunState.TIME_LIMIT,
    JobState.DEADLINE: RunState.TIME_LIMIT,
    JobState.CANCELLED: RunState.CANCELLED,
    JobState.NODE_FAIL: RunState.NODE_LOST,
    JobState.BOOT_FAIL: RunState.NODE_LOST,
    JobState.PREEMPTED: RunState.PREEMPTED,
}


@dataclasses.dataclass(frozen=True)
class Status:
    """One line of the table; an empty text or None is unknown.

    Attributes:
        is_certain: False when the state may be outdated, because the scheduler does not answer.
        message: the error, with the path of the log where there is one, or why a job waits.
        eta_s: seconds to the end of what it does now.
    """

    name: str
    state: RunState
    is_certain: bool = True
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

    @property
    def shown(self) -> str:
        """The state as it is printed, with a `?` where it is not certain."""
        return self.state if self.is_certain else f"{self.state}?"


def run_status(entry: RunEntry, active: ActiveJob | None, ended: EndedJob | None, is_silent: bool) -> Status:
    """Return the status of a run.

    Args:
        entry: its folder.
        active: its job that waits or runs.
        ended: its last job, as accounting remembers it.
        is_silent: whether its scheduler does not answer.
    """
    state, is_certain, message = _decide_state(entry, active, ended, is_silent)
    is_working = state in (RunState.RUNNING, RunState.SCORING)
    progress = entry.progress
    per_s, done, total = progress.get("per_s"), progress.get("done"), progress.get("total")
    node = active.node if active else ended.node if ended else ""
    recorded_id = entry.submission.job_id if entry.submission else None
    return Status(
        name=entry.name,
        state=state,
        is_certain=is_certain,
        job_id=active.whole_id if active else recorded_id or "",
        node=node or (entry.holder.host if entry.holder and is_working else ""),
        elapsed=active.elapsed if active else "",
        limit=active.limit if active else "",
        done=done,
        total=total,
        loss=progress.get("loss"),
        examples_per_s=progress.get("examples_per_s") if is_working else None,
        eta_s=(total - done) / per_s if is_working and per_s and done is not None and total is not None else None,
        attempts=entry.holder.attempt if entry.holder else None,
        message=message,
    )


def _decide_state(
    entry: RunEntry, active: ActiveJob | None, ended: EndedJob | None, is_silent: bool
) -> tuple[RunState, bool, str]:
    """Return the state, whether it is certain, and the message."""
    if entry.is_finished:
        return RunState.FINISHED, True, ""
    working = RunState.SCORING if entry.is_trained else RunState.RUNNING
    if active is not None:
        failed = _failed_tasks(entry, ended)
        if active.is_running:
            return working, True, failed
        if active.is_held:
            return RunState.HELD, True, f"{active.reason}. To release it: {active.release_command}"
        waiting = RunState.REQUEUED if entry.holder else RunState.QUEUED
        return waiting, True, ": ".join(part for part in (active.reason, failed) if part)
    if entry.holder and entry.holder.may_run() and (not entry.holder.submission or is_silent):
        if entry.holder.is_here or entry.holder.submission:
            return working, not is_silent, ""
        return working, False, _last_seen(entry, entry.holder)
    submission = entry.submission
    if submission and submission.state is SubmissionState.REJECTED:
        return RunState.REFUSED, True, str(submission.error)
    if submission and is_silent:
        is_cancelled = submission.state is SubmissionState.CANCELLED
        return RunState.CANCELLED if is_cancelled else RunState.QUEUED, False, ""
    if ended is not None and ended.state == JobState.COMPLETED and entry.name == submit_record.COLLECT:
        return RunState.FINISHED, True, ""  # the job that makes the report has no metrics of its own
    state, message = _ended_state(entry, ended)
    return state, True, message


def _ended_state(entry: RunEntry, ended: EndedJob | None) -> tuple[RunState, str]:
    """Return state and message of a run that has ended without metrics, or has never run."""
    if entry.damaged:
        files = ", ".join(entry.damaged)
        return RunState.DAMAGED, f"cannot be read: {files}. The run's command writes again what it needs"
    failed = _failed_tasks(entry, ended)
    message = failed or _last_message(entry)
    if ended is not None and ended.state in _ENDED_STATES:
        return _ENDED_STATES[JobState(ended.state)], message
    if entry.submission and entry.submission.state is SubmissionState.CANCELLED:
        return RunState.CANCELLED, message
    if failure := _newest_failure(entry):
        return RunState.INTERRUPTED if failure.get("interrupted") else RunState.FAILED, message
    if ended is not None and ended.state == JobState.FAILED:
        code, _, number = ended.exit_code.partition(":")
        if code == str(Interrupted.exit_code):  # before the run's folder was locked, as while its rows were read
            return RunState.INTERRUPTED, message
        if number not in ("", "0"):
            log_alone = not message or message.startswith("\n")
            return RunState.FAILED, f"killed by signal {number}{_at(entry)}{'' if log_alone else ': '}{message}"
        return RunState.FAILED, message if failed else f"exit code {ended.exit_code}: {message}"
    if entry.holder and not entry.holder.released:
        return RunState.ENDED, f"its process has ended without a word{_at(entry)}, as after a kill. {message}".rstrip()
    if entry.submission or entry.holder:
        return RunState.ENDED, message or "without metrics, and the log gives no reason"
    return RunState.CREATED, ""


def _at(entry: RunEntry) -> str:
    """Return " at step 3 of 9" as the run's progress says, "" where it has none."""
    progress = entry.progress
    if (done := progress.get("done")) is None:
        return ""
    return f" at {progress.get('unit', 'step')} {done} of {progress.get('total')} ({progress.get('what', 'train')})"


def _last_seen(entry: RunEntry, holder: Holder) -> str:
    """Return that a process of another machine cannot be seen from here, and what to do."""
    seen = max(entry.progress.get("time", ""), holder.since)
    return (
        f"last seen on {holder.host} at {seen}, cannot be checked from here. Look there with make status; if that "
        f"machine is gone, delete {entry.path / run_lock.FILE} and start the run again"
    )


def _newest_failure(entry: RunEntry) -> Failure:
    """Return a run's recorded failure, {} where it is older than the newest submission."""
    since = entry.submission.time if entry.submission else ""
    return entry.failure if entry.failure.get("time", "") >= since else Failure()


def _last_message(entry: RunEntry) -> str:
    """Return a run's recorded failure, or the last line of its log, with the log's path."""
    submission = entry.submission
    log = submit_record.newest_log(entry.path)
    if log and submission and log.parent.name != str(submission.number):
        log = None  # of an earlier submission: the newest one has written none
    message = _newest_failure(entry).get("error") or _last_line(log)
    return message + (f"\n  log: {log}" if log else "")


def _failed_tasks(entry: RunEntry, ended: EndedJob | None) -> str:
    """Return which tasks of an array have not succeeded, with the last line and the path of each one's log."""
    if ended is None or not ended.failed:
        return ""
    lines = [f"{len(ended.failed)} of the array's tasks {'has' if len(ended.failed) == 1 else 'have'} not ended well"]
    for task in ended.failed[:_SHOWN_TASKS]:
        is_known = task.state in _ENDED_STATES
        state = _ENDED_STATES[JobState(task.state)] if is_known else f"failed, exit code {task.exit_code}"
        log = submit_record.task_log(entry.path, task.id)
        parts = (f"task {task.id.partition('_')[2]}", state, _last_line(log))
        lines += ["  " + ": ".join(part for part in parts if part)]
        lines += [f"  log: {log}"] if log else []
    if (left := len(ended.failed) - _SHOWN_TASKS) > 0:
        lines.append(f"  and {left} more")
    return "\n".join(lines)


def _last_line(log: Path | None) -> str:
    """Return the last line of a log that is no line of progress, "" without one."""
    lines = submit_record.last_lines(log, _TAIL) if log else []
    return next((line for line in reversed(lines) if not is_progress_line(line)), "")


def run_statuses(entries: Sequence[RunEntry], answers: Answers) -> list[Status]:
    """Return the status of each run."""
    return [
        run_status(
            # A run may have ended after its folder was read and before the scheduler was asked.
            run_index.read(entry.path, entry.name) if entry.is_open and entry.name not in answers.active else entry,
            answers.active.get(entry.name),
            answers.ended.get(entry.name),
            entry.submission is not None and entry.submission.executor in answers.silent,
        )
        for entry in entries
    ]
