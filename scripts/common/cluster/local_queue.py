"""A queue on this machine: entries in a folder, worked off by detached workers, one task at a time on each slot.

A slot is a GPU, or the machine where there is none. Entries lie in `<outputs>/.queue/` as JSON, named by their order;
while a worker carries one out it holds the worker's process. A worker ends when the queue is empty. Machines that share
the folder each work on the queue; one takes another's tasks for alive. Standard library only.
"""

import contextlib
import datetime
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common.cluster import slurm_commands
from common.cluster.slurm_commands import LiveJob
from common.core import files
from common.core.locks import lock, try_lock
from common.runs import run_lock

ID = "local-"  # how ids begin
_WORKER = Path(__file__).resolve().parents[2] / "worker.py"
_KILL_AFTER_S = 60.0
_LOOK_S = 2.0  # between a worker's looks whether its task was cancelled on another host
_NO_WORKER = "no worker runs; make submit goes on"


def folder_of(outputs: Path) -> Path:
    """Return where the queue of an outputs folder lies."""
    return outputs / ".queue"


def slots() -> list[str]:
    """Return what tasks can be carried out on at the same time: GPU numbers as CUDA counts them, [""] without one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part for part in visible.split(",") if part.strip()] or [""]
    if shutil.which("nvidia-smi") is None:
        return [""]
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    count = sum(line.startswith("GPU ") for line in done.stdout.splitlines())
    return [str(number) for number in range(count)] or [""]


def add(queue: Path, entry: dict[str, Any]) -> str:
    """Put a task at the end of the queue and return its id.

    Args:
        queue: the folder.
        entry: name, command (argv), directory, log (a file), environment, after (ids that must have ended before);
            maybe `expanded`, more of the environment, in which `$NAME` means the worker's variables.
    """
    with lock(queue / ".lock"):
        numbers = [int(path.stem) for path in _entries(queue)]
        last = queue / "last"
        number = max([*numbers, int(last.read_text()) if last.exists() else 0]) + 1
        files.write_text(last, str(number))
        files.write_json(queue / f"{number:06d}.json", {"schema": 1, "id": f"{ID}{number}", **entry})
    return f"{ID}{number}"


def jobs(queue: Path) -> list[LiveJob]:
    """Return the tasks that wait or run, in order."""
    entries = _read(queue)
    if any(_is_over(entry) for _, entry in entries):
        with contextlib.suppress(OSError), lock(queue / ".lock"):  # another user may look, too
            _without_over(queue)
        entries = [(path, entry) for path, entry in entries if not _is_over(entry)]
    alive = [_is_alive(entry) for _, entry in entries]
    why = _NO_WORKER if entries and not any(alive) and not _is_waited_for(queue) else ""
    found = []
    for (_, entry), lives in zip(entries, alive, strict=True):
        since = entry.get("since") if lives else None
        elapsed = "" if since is None else str(datetime.timedelta(seconds=int(time.time() - since)))
        state = "PENDING" if not lives else "COMPLETING" if "cancelled" in entry else "RUNNING"
        node = "localhost" if lives and _is_here(entry["worker"]) else entry["worker"]["host"] if lives else ""
        found.append(LiveJob(entry["id"], entry["name"], state, node, elapsed, "", "" if lives else why))
    return found


def _is_waited_for(queue: Path) -> bool:
    """Return whether a worker waits for its slot, or may: another user cannot see that."""
    try:
        with lock(queue / ".lock"):  # one that begins does not find its place taken by this look
            for path in queue.glob(".waiting-*.lock"):
                with try_lock(path) as is_free:
                    if not is_free:
                        return True
    except OSError:
        return True
    return False


def cancel(queue: Path, ids: list[str]) -> None:
    """Take tasks out of the queue; one that runs is asked to save and end, and killed when it does not.

    Its entry stays until it has ended. On another host its worker does that, within seconds; an entry whose worker has
    not done so is taken out by the next `cancel`: that host may be gone.
    """
    running = []
    with lock(queue / ".lock"):
        for path, entry in _read(queue):
            if entry["id"] not in ids:
                continue
            asked = entry.get("cancelled", {}).get("since", time.time())
            child = entry.get("child")
            is_given_up = time.time() - asked > 2 * _KILL_AFTER_S and child and not _is_here(child)
            if child is None or not _lives(child) or is_given_up:
                path.unlink()  # a worker begins only what is still there
            else:
                running.append((path, child))
                mark = {"since": asked, "host": socket.gethostname()}
                files.write_json(path, entry | {"cancelled": mark})
    _end([child for _, child in running if _is_here(child)])
    with lock(queue / ".lock"):
        for path, child in running:
            if not _lives(child):
                path.unlink(missing_ok=True)


def _end(children: list[dict[str, Any]]) -> None:
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child["pid"], signal.SIGTERM)
    deadline = time.monotonic() + _KILL_AFTER_S
    while children := [child for child in children if _lives(child)]:
        if time.monotonic() > deadline:
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child["pid"], signal.SIGKILL)
            return
        time.sleep(0.1)


def start_workers(queue: Path, count: int | None) -> None:
    """Start a detached worker on every slot; one that finds its slot or the queue taken care of ends at once.

    Args:
        queue: the folder.
        count: how many; None is one a GPU, or one.
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


def work(queue: Path, number: int, slot: str) -> None:
    """Work the queue off, then return.

    Args:
        queue: the folder.
        number: of this worker among those of the slot.
        slot: the GPU to use, "" for none.
    """
    name = f"{slot or 'cpu'}-{number}"
    # Two repositories of one user share the machine's GPUs: the lock is not in the queue.
    place = Path(tempfile.gettempdir()) / f"peftable-{os.getuid()}" / f"slot-{name}.lock"
    with contextlib.ExitStack() as working:
        with contextlib.ExitStack() as waiting:
            # One worker works, and one at most waits for it to end: it sees what the first was too late for.
            with lock(queue / ".lock"):
                is_next = waiting.enter_context(try_lock(queue / f".waiting-{name}.lock"))
            if not is_next:
                return
            working.enter_context(lock(place))
        while taken := _take(queue, name):
            path, entry = taken
            if child := _start(path, entry, slot):
                _say(entry, f"exit code {_wait(path, child)}")
            with lock(queue / ".lock"):
                path.unlink(missing_ok=True)


def _say(entry: dict[str, Any], what: str) -> None:
    print(f"{files.utc_now()} {entry['id']} {entry['name']}: {what}", flush=True)


def _take(queue: Path, place: str) -> tuple[Path, dict[str, Any]] | None:
    """Claim the first task that nobody carries out; one whose worker has died begins again.

    Where that worker's child lives on, this place is not free yet: it is waited for.
    """
    while any(_holds(entry, place) for _, entry in _read(queue)):
        time.sleep(0.2)
    with lock(queue / ".lock"):
        found = _without_over(queue)
        waiting = {entry["id"] for _, entry in found}
        for path, entry in found:
            if "cancelled" not in entry and not _is_alive(entry) and not waiting & set(entry["after"]):
                entry |= {"since": time.time(), "place": place, "worker": run_lock.this_process()}
                files.write_json(path, entry)
                return path, entry
    return None


def _start(path: Path, entry: dict[str, Any], slot: str) -> subprocess.Popen[bytes] | None:
    """Start a task; None where it has been cancelled meanwhile, or cannot be started, which its log and ours say."""
    expanded = {name: os.path.expandvars(value) for name, value in entry.get("expanded", {}).items()}
    # A worker that was started within a job is none of its tasks: they would answer for that job.
    hidden = set(slurm_commands.habits())
    own = {name: value for name, value in os.environ.items() if name not in hidden}
    environment = own | entry["environment"] | expanded | {"CUDA_VISIBLE_DEVICES": slot}
    log = Path(entry["log"])
    with lock(path.parent / ".lock"):  # whoever cancels finds the child, or is in time to keep it from beginning
        if not path.exists():
            return None
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as stream:
                child = subprocess.Popen(
                    entry["command"],
                    cwd=entry["directory"],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            with contextlib.suppress(OSError), log.open("a") as stream:
                stream.write(f"could not be started: {error}\n")
            _say(entry, f"could not be started: {error}")
            return None
        process = {"host": socket.gethostname(), "pid": child.pid, "started": run_lock.process_start(child.pid)}
        files.write_json(path, entry | {"child": process})
    return child


def _wait(path: Path, child: subprocess.Popen[bytes]) -> int:
    """Wait for a task and return its exit code; one that was cancelled on another host is ended from here."""
    process = {"pid": child.pid, "started": run_lock.process_start(child.pid)}
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(_LOOK_S)
        entries = [entry for file, entry in _read(path.parent) if file == path]
        if any("cancelled" in entry and not _is_here(entry["cancelled"]) for entry in entries):
            _end([process])
            return child.wait()


def _without_over(queue: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the entries, after those were removed whose `cancel` did not live to do it; the lock is held."""
    found = _read(queue)
    for path, entry in found:
        if _is_over(entry):
            path.unlink()
    return [(path, entry) for path, entry in found if not _is_over(entry)]


def _is_over(entry: dict[str, Any]) -> bool:
    return "cancelled" in entry and not _is_alive(entry)


def _holds(entry: dict[str, Any], place: str) -> bool:
    return entry.get("place") == place and _is_here(entry["worker"]) and _is_alive(entry)


def _is_alive(entry: dict[str, Any]) -> bool:
    return any(_lives(entry[key]) for key in ("worker", "child") if key in entry)


def _lives(process: dict[str, Any]) -> bool:
    """Return whether a process has not ended, for all that can be seen from here: nothing of another host's."""
    return not _is_here(process) or run_lock.process_start(process["pid"]) == process["started"]


def _is_here(what: dict[str, Any]) -> bool:
    return what.get("host", socket.gethostname()) == socket.gethostname()


def _entries(queue: Path) -> list[Path]:
    return sorted(queue.glob("[0-9]*.json"))


def _read(queue: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in _entries(queue):
        with contextlib.suppress(OSError, ValueError):  # taken out meanwhile
            found.append((path, dict(files.read_json(path))))
    return found
