"""What has become of every run: from its folder first, then from the scheduler; useful also when that does not answer.

States: finished, running, scoring, queued, requeued, failed, out of memory, time limit, cancelled, node lost,
pre-empted, refused, interrupted, ended, created; a `?` behind one says that the scheduler could not be asked.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import files, localqueue, owners, records, runs, slurm
from common.errors import RunError, SlurmError, choices, nearest
from common.progress import PROGRESS
from common.slurm import LiveJob, PastJob

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
class Folder:
    """What a run folder says: its JSON files, {} where one is missing, and whether there are metrics."""

    name: str
    path: Path
    submit: dict[str, Any]
    owner: dict[str, Any]
    progress: dict[str, Any]
    failure: dict[str, Any]
    is_finished: bool
    is_trained: bool

    @property
    def is_open(self) -> bool:
        """Whether a scheduler was given the run and may know more of it."""
        # Also what it refused: an sbatch that has waited too long for an answer may have been heard.
        return not self.is_finished and bool(self.submit)


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


def find(outputs: Path) -> list[Folder]:
    """Return every run and baseline below an outputs folder, finished or not."""
    return [_read(path, str(path.relative_to(outputs))) for path in _run_folders(outputs, top=True)]


def collecting(outputs: Path) -> list[Folder]:
    """Return the folder of the job that makes the report, where one was submitted."""
    path = outputs / records.COLLECT
    return [_read(path, records.COLLECT)] if (path / records.SUBMIT).exists() else []


def predictions(outputs: Path) -> list[Folder]:
    """Return the predictions that were submitted as arrays, and their merges, by path; a deleted plan is none."""
    found = []
    for pointer in sorted((outputs / records.PREDICTIONS).glob("*.json")):
        path = Path(str(_json(pointer).get("folder", "")))
        plan = _json(path / "plan.json")
        if not plan:
            continue
        is_merged = _json(path / "report.json").get("plan") == plan["id"]
        bounds = [plan["rows"] * number // plan["shards"] for number in range(plan["shards"] + 1)]
        total = sum(-(-(end - start) // plan["part_rows"]) for start, end in itertools.pairwise(bounds))
        # What begins with a dot was being written when its process was killed.
        parts = {"done": sum(1 for _ in (path / "parts").glob("[!.]*.parquet")), "total": total}
        for place, progress in ((path, parts), (path / records.MERGE, {})):
            relative = os.path.relpath(place)
            one = _read(place, str(place) if relative.startswith("..") else relative)
            is_finished = is_merged or (place == path and parts["done"] == total)
            found.append(dataclasses.replace(one, is_finished=is_finished, progress=progress))
    return found


def _run_folders(folder: Path, top: bool = False) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    names = {entry.name for entry in entries}
    if runs.CONFIG in names or records.SUBMIT in names:
        yield folder
        return
    for entry in entries:
        is_left = (
            entry.name.startswith(".")
            or ".replaced-" in entry.name
            or entry.name.endswith(".shards")
            or (top and entry.name in runs.NO_RESULTS)
        )
        if not is_left and entry.is_dir():
            yield from _run_folders(Path(entry.path))


def _read(path: Path, name: str) -> Folder:
    submit, owner, progress, failure = (
        _json(path / file) for file in (records.SUBMIT, owners.OWNER, PROGRESS, runs.FAILURE)
    )
    is_finished, is_trained = (path / runs.METRICS).exists(), (path / runs.TRAINING).exists()
    return Folder(name, path, submit, owner, progress, failure, is_finished, is_trained)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(files.read_json(path))
    except (OSError, ValueError):
        return {}


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
    if owners.may_live(folder.owner) and (not folder.owner.get("submission") or unasked):
        return works + ("?" if unasked else ""), ""
    if folder.submit.get("state") == "rejected":
        return "refused", str(folder.submit["error"])
    if unasked and folder.is_open:
        return "queued?", ""
    if past is not None and past.state == "COMPLETED" and folder.name == records.COLLECT:
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
    log = records.newest_log(folder.path)
    if folder.failure and str(folder.failure.get("time", "")) >= str(folder.submit.get("time", "")):
        said = str(folder.failure["error"])
    else:
        said = next(iter(records.last_lines(log, 1)), "") if log else ""
    return said + (f"\n  log: {log}" if log else "")


def _failed_tasks(folder: Folder, past: PastJob | None) -> str:
    """Return which tasks of an array have not ended well, with the last line and the place of each one's log."""
    if past is None or not past.failed:
        return ""
    lines = [f"{len(past.failed)} of the array's tasks {'has' if len(past.failed) == 1 else 'have'} not ended well"]
    for task in past.failed[:_SHOWN_TASKS]:
        state = _PAST.get(task.state, f"failed, exit code {task.exit_code}")
        log = records.task_log(folder.path, task.id)
        said = next(iter(records.last_lines(log, 1)), "") if log else ""
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
        jobs |= {job.name: job for job in localqueue.jobs(localqueue.folder_of(outputs))}
    if "slurm" in executors:
        try:
            jobs |= slurm.by_name(slurm.queue())
        except SlurmError as error:
            notes.append(f"Slurm does not answer, so this is what the folders say. {error}")
            unasked.add("slurm")
    # The name of this folder, not the one that was written down: a copy of it has no jobs.
    live = {folder.name: jobs[name] for folder in asked if (name := records.job_name(folder.path)) in jobs}
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
            known = slurm.accounting(ids, min(str(folder.submit["time"]) for folder in gone)) if ids else {}
        except SlurmError as error:
            notes.append(f"accounting does not answer, so reasons may be missing. {error}")
        else:
            # A controller that lost its state gives an id out again: the job is the run's whose name it has and,
            # while accounting does not know the name, the run's that was given the id last.
            newest = {folder.submit.get("job_id"): folder for folder in sorted(asked, key=_submitted)}
            for folder in gone:
                job = known.get(str(number := folder.submit.get("job_id")))
                if job and (job.name == records.job_name(folder.path) or (not job.name and folder is newest[number])):
                    past[folder.name] = job
    return Answers(live, past, tuple(notes), frozenset(unasked))


def _submitted(folder: Folder) -> str:
    return str(folder.submit["time"])


def statuses(folders: Sequence[Folder], answers: Answers) -> list[Status]:
    """Return a line a run."""
    return [
        status(
            # It may have ended between the look at its folder and the one at the queue.
            _read(folder.path, folder.name) if folder.is_open and folder.name not in answers.live else folder,
            answers.live.get(folder.name),
            answers.past.get(folder.name),
            folder.submit.get("executor") in answers.unasked,
        )
        for folder in folders
    ]


def select(folders: Sequence[Folder], model: str | None, dataset: str | None) -> list[Folder]:
    """Return the runs of a job and of a data set, where one is named.

    Raises:
        RunError: there is none.
    """
    found = [
        folder
        for folder in folders
        if (model is None or model in folder.name.split("/")[:2])
        and (dataset is None or folder.name.split("/")[0] == dataset)
    ]
    if not found and folders and (model or dataset):
        there = sorted({"/".join(folder.name.split("/")[:2]) for folder in folders})
        words = {part for name in there for part in name.split("/")}
        unknown = next((word for word in (model, dataset) if word and word not in words), "")
        what = " on ".join(word for word in (model, dataset) if word)
        raise RunError(f"no run of {what} here.{nearest(unknown, words)} There are: {choices(there)}.")
    return found
