"""A queue on this machine: a folder of JSON entries, which detached workers (`local_worker`) run in their order.

The entries are `<outputs>/.queue/<number>.json`. While a worker runs an entry, the entry names the worker's process and
the task's; it is removed when the task has ended. Machines that share the folder each run tasks of the queue; none can
see whether a process of another one still runs, so each takes such a process for running. Standard library only.
"""

import contextlib
import dataclasses
import datetime
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cluster.slurm_commands import ActiveJob, JobState
from common.core import files, gpus, signals
from common.core.documents import from_json, read_object, to_json
from common.core.errors import RunError
from common.core.locks import lock, try_lock
from common.core.processes import Process

ID = "local-"  # how ids begin
NO_WORKER = "no worker runs; make submit goes on"
_WORKER = Path(__file__).resolve().parents[2] / "worker.py"
KILL_AFTER_S = 60.0


@dataclasses.dataclass(frozen=True)
class Cancellation:
    """Who has cancelled a task that runs: the machine, and the Unix time."""

    host: str
    since: float


@dataclasses.dataclass(frozen=True)
class Entry:
    """A task of the queue, the content of its file.

    Attributes:
        command: argv.
        directory: where the command is run.
        log: the file that takes its output.
        environment: variables of the task, beside those of its worker.
        after: ids of tasks that must have ended before.
        expanded: more variables, in which `$NAME` is replaced by the worker's variable of that name.
        since: Unix time at which a worker took it.
        place: the worker's place (`local_worker`).
        worker, child: processes of the worker and of the task.
        cancelled: set while a cancelled task has not ended yet.
    """

    id: str
    name: str
    command: Sequence[str]
    directory: str
    log: str
    environment: dict[str, str]
    after: Sequence[str] = ()
    expanded: dict[str, str] = dataclasses.field(default_factory=dict)
    since: float | None = None
    place: str | None = None
    worker: Process | None = None
    child: Process | None = None
    cancelled: Cancellation | None = None

    @property
    def is_taken(self) -> bool:
        """Whether its worker or its task may run."""
        return any(process is not None and process.may_run() for process in (self.worker, self.child))

    @property
    def is_over(self) -> bool:
        """Whether it was cancelled and has ended, and only its file remains."""
        return self.cancelled is not None and not self.is_taken


def folder_of(outputs: Path) -> Path:
    """Return the folder of the queue of an outputs folder."""
    return outputs / ".queue"


def queue_lock(queue: Path) -> contextlib.AbstractContextManager[None]:
    """Return the lock under which entries of a queue are added, taken and removed."""
    return lock(queue / ".lock")


def waiting_file(queue: Path, place: str) -> Path:
    """Return the file that a worker locks while it waits for a place; with "*", the pattern of all of them."""
    return queue / f".waiting-{place}.lock"


def entries(queue: Path) -> list[tuple[Path, Entry]]:
    """Return the entries and their files, in order; a damaged file is no entry."""
    found = []
    for path in _entry_files(queue):
        with contextlib.suppress(TypeError):
            found.append((path, _parsed(read_object(path))))
    return found


def write(path: Path, entry: Entry) -> None:
    """Write an entry's file."""
    files.write_json(path, to_json(entry))


def remove_over(queue: Path) -> list[tuple[Path, Entry]]:
    """Remove the files of cancelled tasks that have ended, and return all other entries; the caller holds the lock."""
    found = entries(queue)
    for path, entry in found:
        if entry.is_over:
            path.unlink()
    return [(path, entry) for path, entry in found if not entry.is_over]


def _entry_files(queue: Path) -> list[Path]:
    return sorted(queue.glob("[0-9]*.json"))


def _parsed(document: dict[str, Any]) -> Entry:
    kinds: dict[str, type] = {"worker": Process, "child": Process, "cancelled": Cancellation}
    nested: dict[str, Any] = {key: from_json(kind, document[key]) for key, kind in kinds.items() if document.get(key)}
    return from_json(Entry, document | nested)


def add(queue: Path, **task: Any) -> str:
    """Put a task at the end of the queue and return its id.

    Args:
        queue: its folder.
        task: name, command, directory, log, environment, after, expanded of its `Entry`.
    """
    with queue_lock(queue):
        numbers = [int(path.stem) for path in _entry_files(queue)]
        last = queue / "last"
        number = max([*numbers, int(last.read_text()) if last.exists() else 0]) + 1
        files.write_text(last, str(number))
        write(queue / f"{number:06d}.json", Entry(id=f"{ID}{number}", **task))
    return f"{ID}{number}"


def jobs(queue: Path) -> list[ActiveJob]:
    """Return the tasks that wait or run, in order."""
    found = entries(queue)
    if any(entry.is_over for _, entry in found):
        with contextlib.suppress(OSError, RunError), queue_lock(queue):  # another user may have no right to remove them
            remove_over(queue)
        found = [(path, entry) for path, entry in found if not entry.is_over]
    taken = [entry.is_taken for _, entry in found]
    reason = NO_WORKER if found and not any(taken) and not _has_waiting_worker(queue) else ""
    return [_job(entry, is_taken, reason) for (_, entry), is_taken in zip(found, taken, strict=True)]


def _job(entry: Entry, is_taken: bool, reason: str) -> ActiveJob:
    if not is_taken or entry.worker is None:
        return ActiveJob(entry.id, entry.name, JobState.PENDING, reason=reason)
    elapsed = "" if entry.since is None else str(datetime.timedelta(seconds=int(time.time() - entry.since)))
    state = JobState.RUNNING if entry.cancelled is None else JobState.COMPLETING
    return ActiveJob(entry.id, entry.name, state, "localhost" if entry.worker.is_here else entry.worker.host, elapsed)


def _has_waiting_worker(queue: Path) -> bool:
    """Return whether a worker waits for its place, or may: another user cannot see that."""
    try:
        with queue_lock(queue):  # so that a worker that starts now does not find its file locked by this check
            for path in queue.glob(waiting_file(queue, "*").name):
                with try_lock(path) as is_free:
                    if not is_free:
                        return True
    except (OSError, RunError):
        return True
    return False


def cancel(queue: Path, ids: Sequence[str]) -> None:
    """Remove tasks from the queue; a running one is asked to save and end, and killed when it does not.

    Its entry stays until the task has ended. A task on another host is ended by its worker, within seconds; when that
    has not happened after two minutes, the next `cancel` removes the entry: the host may be gone.
    """
    running: list[tuple[Path, Process]] = []
    with queue_lock(queue):
        for path, entry in entries(queue):
            if entry.id not in ids:
                continue
            since = entry.cancelled.since if entry.cancelled else time.time()
            child, is_late = entry.child, time.time() - since > 2 * KILL_AFTER_S
            if child is None or not child.may_run() or (is_late and not child.is_here):
                path.unlink()  # a worker starts a task only while its entry exists
            else:
                running.append((path, child))
                write(path, dataclasses.replace(entry, cancelled=Cancellation(socket.gethostname(), since)))
    end_processes([child for _, child in running if child.is_here])
    with queue_lock(queue):
        for path, child in running:
            if not child.may_run():
                path.unlink(missing_ok=True)


def end_processes(processes: Sequence[Process]) -> None:
    """Send SIGTERM to the process groups of tasks, wait until they have ended, and kill what still runs then."""
    _signal(processes, signal.SIGTERM)
    deadline = time.monotonic() + KILL_AFTER_S
    while processes := [process for process in processes if process.may_run()]:
        if time.monotonic() > deadline:
            _signal(processes, signal.SIGKILL)
            return
        signals.sleep(0.1)


def _signal(processes: Sequence[Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def slots() -> list[str]:
    """Return the slots, on each of which one task runs at a time: GPU numbers as CUDA counts them, [""] without one."""
    named = gpus.visible()
    return (named if named is not None else [str(number) for number in range(gpus.count())]) or [""]


def start_workers(queue: Path, count: int | None) -> None:
    """Start a detached worker per slot; one that finds another worker in its place ends at once.

    Args:
        queue: its folder.
        count: how many workers; None is one per GPU, or one.
    """
    found = slots()
    if count is not None:
        found = [found[number % len(found)] for number in range(count)]
    for number, slot in enumerate(found):
        with (queue / f"worker-{number}.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, str(_WORKER), str(queue), str(found[:number].count(slot)), slot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # neither the terminal's end nor Ctrl-C reaches it
            )
