"""A worker of this machine's queue: it runs the queue's tasks, one at a time on its slot, and ends when none is left.

A slot is a GPU, or the machine where there is none. A worker's place is its slot and its number on that slot. One
worker has a place at a time, and at most one more waits for it. Standard library only.
"""

import contextlib
import dataclasses
import os
import subprocess
import tempfile
import time
from pathlib import Path

from common.cluster import slurm_commands
from common.cluster.local_queue import Entry, end_processes, entries, queue_lock, remove_over, waiting_file, write
from common.core import signals
from common.core.files import utc_now
from common.core.locks import lock, try_lock
from common.core.processes import find_process, this_process

_CHECK_S = 2.0  # between a worker's checks whether its task was cancelled on another host


def work(queue: Path, number: int, slot: str) -> None:
    """Run tasks until the queue is empty.

    Args:
        queue: its folder.
        number: of this worker among those of the slot.
        slot: the GPU to use, "" for none.
    """
    place = f"{slot or 'cpu'}-{number}"
    # The lock is not in the queue, because the queues of two repositories of one user share the machine's GPUs.
    file = Path(tempfile.gettempdir()) / f"peftable-{os.getuid()}" / f"slot-{place}.lock"
    with contextlib.ExitStack() as working:
        with contextlib.ExitStack() as waiting:
            # The one that waits runs what was added after the other one's last look at the queue.
            with queue_lock(queue):
                is_next = waiting.enter_context(try_lock(waiting_file(queue, place)))
            if not is_next:
                return
            working.enter_context(lock(file))
        while taken := _take(queue, place):
            path, entry = taken
            if child := _start(path, entry, slot):
                _report(entry, f"exit code {_wait(path, child)}")
            with queue_lock(queue):
                path.unlink(missing_ok=True)


def _report(entry: Entry, text: str) -> None:
    print(f"{utc_now()} {entry.id} {entry.name}: {text}", flush=True)


def _take(queue: Path, place: str) -> tuple[Path, Entry] | None:
    """Claim the first task that no worker has; a task whose worker was killed is run again from its beginning.

    While the task of a killed worker still runs in this place, this waits for its end.
    """
    while any(_runs_in(entry, place) for _, entry in entries(queue)):
        signals.sleep(0.2)
    with queue_lock(queue):
        found = remove_over(queue)
        queued = {entry.id for _, entry in found}
        for path, entry in found:
            if entry.cancelled is None and not entry.is_taken and not queued & set(entry.after):
                taken = dataclasses.replace(entry, since=time.time(), place=place, worker=this_process())
                write(path, taken)
                return path, taken
    return None


def _runs_in(entry: Entry, place: str) -> bool:
    return entry.place == place and entry.worker is not None and entry.worker.is_here and entry.is_taken


def _start(path: Path, entry: Entry, slot: str) -> subprocess.Popen[bytes] | None:
    """Start a task; None where it was cancelled meanwhile, or where starting fails, which both logs then say."""
    expanded = {name: os.path.expandvars(value) for name, value in entry.expanded.items()}
    # A worker may have been started within a Slurm job; its tasks must not take themselves for that job.
    hidden = set(slurm_commands.slurm_variables())
    inherited = {name: value for name, value in os.environ.items() if name not in hidden}
    if slot:  # without one, nothing is hidden: there may be a GPU that could not be counted
        expanded["CUDA_VISIBLE_DEVICES"] = slot
    log = Path(entry.log)
    with queue_lock(path.parent):  # a `cancel` finds the child, or removes the entry before the child is started
        if not path.exists():
            return None
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as stream:
                child = subprocess.Popen(
                    entry.command,
                    cwd=entry.directory,
                    env=inherited | entry.environment | expanded,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            with contextlib.suppress(OSError), log.open("a") as stream:
                stream.write(f"could not be started: {error}\n")
            _report(entry, f"could not be started: {error}")
            return None
        write(path, dataclasses.replace(entry, child=find_process(child.pid)))
    return child


def _wait(path: Path, child: subprocess.Popen[bytes]) -> int:
    """Wait for a task and return its exit code; end it when another host has cancelled it."""
    process = find_process(child.pid)
    while True:
        signals.check()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(_CHECK_S)
        cancelled = [entry.cancelled for file, entry in entries(path.parent) if file == path and entry.cancelled]
        if any(cancellation.host != process.host for cancellation in cancelled):
            end_processes([process])
            return child.wait()
